"""Choose the provider and model of specialists from what each offers now."""

from __future__ import annotations

import re
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, ProgressBar, Static
from textual.widgets.option_list import Option

from backend.schema.params import ListModels, PullModel, SetModel
from backend.schema.results import Model, ProviderList, PullResult, SetModelResult
from tekton_tui.formatting import size
from tekton_tui.runtime.controller import Controller
from tekton_tui.runtime.latest import Latest
from tekton_tui.safe_text import literal, one_line
from tekton_tui.screens.dialogs import Question
from tekton_tui.verbs import bindings
from tekton_tui.widgets.common.field import Field

PERCENT = re.compile(r"(\d{1,3}) %")
FETCHER = "ollama"
"""The provider that can fetch a model by name."""


class ModelScreen(Question[None]):
    """Enter chooses, `+` has Ollama fetch another model, `esc` leaves everything as it is."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("models")

    def __init__(self, controller: Controller, ids: list[str], *, fetch: bool = False) -> None:
        """`fetch` opens the field for a model to be fetched at once."""
        super().__init__()
        self._fetch_first = fetch
        self._stores, self._controller, self._ids = controller.stores, controller, ids
        self._reading = Latest(controller)
        self._choices: list[tuple[str, str]] = []
        self._fetching = ""

    def compose(self) -> ComposeResult:
        with Vertical(id="model-box") as box:
            box.border_title = literal(f"model for {one_line(self._stores.fleet.names(self._ids), 40)}")
            box.border_subtitle = "enter chooses · + fetches one · esc closes"
            yield Static(literal("asking the providers…", "$text-muted"), id="model-note")
            yield OptionList(id="model-list", markup=False)
            yield Field(
                placeholder="name of a model for Ollama to fetch, e.g. llama3.2:3b",
                id="model-name",
                compact=True,
            )
            yield Static("", id="model-progress")
            yield ProgressBar(total=100, show_eta=False, id="model-bar")

    def on_mount(self) -> None:
        for name in ("#model-name", "#model-progress", "#model-bar"):
            self.query_one(name).display = False
        self._stores.fleet.summary_changed.subscribe_widget(self, self._show_progress)
        self._ask()
        if self._fetch_first:
            self.action_fetch()

    def _ask(self) -> None:
        self._reading.request(ListModels(), self._show, otherwise=self._unknown)

    def _unknown(self) -> None:
        if self.is_attached:
            words = "the providers could not be asked; the notice says why. esc closes."
            self.query_one("#model-note", Static).update(literal(words, "$text-error"))

    def _show(self, listed: ProviderList) -> None:
        if not self.is_attached:
            return
        self._choices.clear()
        options: list[Option] = []
        notes: list[Content] = []
        for provider in listed.providers:
            if not provider.ok:
                words = f"{provider.provider}: {provider.detail}"
                notes.append(literal(one_line(words, 160), "$text-muted"))
            for model in provider.models:
                self._choices.append((provider.provider, model.name))
                options.append(Option(_line(provider.provider, model)))
        self.query_one("#model-note", Static).update(Content("\n").join(notes))
        self.query_one("#model-note").display = bool(notes)
        listing = self.query_one(OptionList)
        listing.clear_options()
        listing.add_options(options)
        listing.highlighted = 0 if options else None
        if not self.query_one("#model-name").display:
            listing.focus()

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        provider, model = self._choices[event.option_index]
        self._controller.request(SetModel(self._ids, provider, model), self._done)
        self.dismiss()

    def _done(self, done: SetModelResult) -> None:
        for result in done.results:
            name = result.id.removesuffix("-ai")
            self._controller.notify(f"{name}: {result.message}", failed=not result.ok)

    @on(Input.Submitted)
    def _named(self, event: Input.Submitted) -> None:
        event.stop()
        if name := event.value.strip():
            self._fetching = name
            self._controller.request(PullModel(name, FETCHER), self._fetched, otherwise=self._not_fetched)
            self._say(f"asking Ollama for {name}…")

    def _fetched(self, result: PullResult) -> None:
        self._controller.notify(f"fetched {result.model}")
        self._end_fetching()
        if self.is_attached:
            self._ask()

    def _not_fetched(self) -> None:
        """Leave the name in its field: the notice says what is wrong with it."""
        self._fetching = ""
        if self.is_attached:
            self._say("")
            self.query_one(Input).focus()

    def _end_fetching(self) -> None:
        self._fetching = ""
        if self.is_attached:
            self.query_one(Input).value = ""
            self.query_one("#model-name").display = False
            self._say("")

    def _show_progress(self) -> None:
        service = self._stores.fleet.services.get(f"pull {self._fetching}") if self._fetching else None
        if service is not None and service.state == "busy":
            self._say(f"{self._fetching}: {service.detail}")

    def _say(self, words: str) -> None:
        """Show how far it is; a bar where the share is known."""
        label, bar = self.query_one("#model-progress", Static), self.query_one(ProgressBar)
        label.display = bool(words)
        label.update(literal(one_line(words, 66), "$text-muted"))
        # the gateway says how far it is in words alone
        share = PERCENT.search(words)
        bar.display = share is not None
        if share is not None:
            bar.update(progress=int(share[1]))

    def action_fetch(self) -> None:
        field = self.query_one("#model-name", Input)
        field.display = True
        field.focus()

    def action_back(self) -> None:
        """Close the field, then the screen; a model that is being fetched goes on."""
        field = self.query_one("#model-name", Input)
        if field.display and not self._fetching:
            field.value, field.display = "", False
            self.query_one(OptionList).focus()
        else:
            self.dismiss()


def _line(provider: str, model: Model) -> Content:
    facts = [size(model.size)] if model.size else []
    facts += [f"{model.context_window:,} tokens"] if model.context_window else []
    return Content.assemble(
        literal(one_line(model.display, 26).ljust(27), "bold"),
        literal(f"{provider:<10} {' · '.join(facts)}", "$text-muted"),
    )
