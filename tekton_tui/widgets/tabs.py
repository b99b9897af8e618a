"""The row of chat tabs: name and state of each, the shown one underlined."""

from __future__ import annotations

from textual import events
from textual.app import RenderResult
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from tekton_tui.hearing import hear
from tekton_tui.safe_text import one_line
from tekton_tui.stores import Stores
from tekton_tui.wording import SYMBOLS, TONES


class ChatTabs(Widget):
    """One row; a click shows a tab. When they do not all fit, those around the shown one are."""

    ids: reactive[list[str]] = reactive(list)
    """Specialists with a tab, in order."""
    current: reactive[str] = reactive("")
    """The one shown."""

    class Chosen(Message):
        """Posted when a tab was clicked."""

        def __init__(self, ai_id: str) -> None:
            super().__init__()
            self.ai_id = ai_id

    def __init__(self, stores: Stores, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores = stores
        self._starts: list[tuple[int, int, str]] = []

    def on_mount(self) -> None:
        hear(self, self._stores.fleet.summary_changed, self._again)

    def _again(self) -> None:
        self.refresh()

    def render(self) -> RenderResult:
        labels = [(ai_id, self._label(ai_id)) for ai_id in self.ids]
        labels = self._around_current(labels)
        self._starts.clear()
        parts: list[Content] = []
        at = 0
        for ai_id, label in labels:
            row = self._stores.fleet.rows.get(ai_id)
            tone = TONES[row.state] if row else "text-muted"
            shown = ai_id == self.current
            name = f" {label} "
            symbol = f"{SYMBOLS[row.state] if row else ' '} "
            parts += [
                Content.styled(name, "bold underline $text-primary" if shown else "$text-muted"),
                Content.styled(symbol, f"${tone}"),
            ]
            width = len(name) + len(symbol)
            self._starts.append((at, at + width, ai_id))
            at += width
        return Content.assemble(*parts)

    def on_click(self, event: events.Click) -> None:
        for start, end, ai_id in self._starts:
            if start <= event.x < end:
                self.post_message(self.Chosen(ai_id))

    def _label(self, ai_id: str) -> str:
        row = self._stores.fleet.rows.get(ai_id)
        return one_line(row.name if row else ai_id, 16)

    def _around_current(self, labels: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Leave out tabs at the left until the shown one fits."""
        ids = [ai_id for ai_id, _ in labels]
        upto = ids.index(self.current) + 1 if self.current in ids else 0
        first = 0
        while (
            upto
            and sum(len(label) + 4 for _, label in labels[first:upto]) > self.size.width
            and first < upto - 1
        ):
            first += 1
        return labels[first:]
