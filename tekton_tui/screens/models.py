"""Choose the provider and model of specialists from what each offers now."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tekton_tui.desk import Desk
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import Stores
from tekton_tui.wording import size


class ModelScreen(ModalScreen[None]):
    """Enter chooses, `esc` leaves everything as it is."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Close", id="models.close")]

    def __init__(self, stores: Stores, desk: Desk, ids: list[str]) -> None:
        super().__init__()
        self._stores, self._desk, self._ids = stores, desk, ids
        self._choices: list[tuple[str, str]] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="model-box") as box:
            box.border_title = literal(f"model for {one_line(self._stores.fleet.names(self._ids), 40)}")
            box.border_subtitle = "enter chooses · esc closes"
            yield Static(literal("asking the providers…", "$text-muted"), id="model-note")
            yield OptionList(id="model-list", markup=False)

    def on_mount(self) -> None:
        self._desk.do("list_models", then=self._take)

    def _take(self, answer: dict[str, Any]) -> None:
        if not self.is_attached:
            return
        options: list[Option] = []
        notes: list[Content] = []
        for provider in answer["providers"]:
            if not provider["ok"]:
                notes.append(
                    literal(one_line(f"{provider['provider']}: {provider['detail']}", 90), "$text-muted")
                )
            for model in provider["models"]:
                self._choices.append((provider["provider"], model["name"]))
                facts = [size(model["size"])] if model["size"] else []
                facts += [f"{model['context_window']:,} tokens"] if model["context_window"] else []
                words = f"{model['display']:<28} {provider['provider']:<10} {' · '.join(facts)}"
                options.append(Option(literal(one_line(words, 90))))
        self.query_one("#model-note", Static).update(Content("\n").join(notes))
        self.query_one("#model-note").display = bool(notes)
        listing = self.query_one(OptionList)
        listing.add_options(options)
        listing.focus()

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        provider, model = self._choices[event.option_index]
        self._desk.do("set_model", then=self._done, ids=self._ids, provider=provider, model=model)
        self.dismiss()

    def _done(self, answer: dict[str, Any]) -> None:
        for row in answer["results"]:
            words = row.get("message", "")
            self._desk.notice.emit(f"{row['id'].removesuffix('-ai')}: {words}", not row["ok"])
