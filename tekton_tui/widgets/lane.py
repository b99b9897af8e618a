"""A member's answer in a team turn: state in the border, text below, as it comes; or one row of a list."""

from __future__ import annotations

from typing import Self

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.reactive import reactive
from textual.widgets import Static

from tekton_tui.entries import tone_of
from tekton_tui.stores import LiveTurn
from tekton_tui.transcript import Entry, Look, Transcript
from tekton_tui.widgets.lane_words import LaneFacts, row_of, subtitle_of, title_of
from tekton_tui.wording import turn_words

BORDER_CELLS = 2


class Lane(Vertical):
    """Shows one turn. `marked` and `picked` are the operator's; `place` counts arrivals from 1."""

    marked: reactive[bool] = reactive(False)
    """Chosen together with others, to compare or to merge."""
    picked: reactive[bool] = reactive(False)
    """The one answer to go on with."""
    as_row: reactive[bool] = reactive(False)
    """Shown as one row of the compact list; its text only below the row under the cursor."""

    class Clicked(Message):
        """Posted when the lane was clicked, `times` in a row."""

        def __init__(self, lane: Lane, times: int) -> None:
            super().__init__()
            self.lane, self.times = lane, times

    def __init__(self, ai_id: str, turn: LiveTurn | None, *, title: str = "", refusal: str = "") -> None:
        """`title` names a judge's lane; `refusal` says why a member could not be asked at all."""
        super().__init__(classes="lane")
        self.ai_id = ai_id
        self.turn = turn
        self.is_judge = bool(title)
        self.refusal = refusal
        self.place = 0
        self._title = title
        self.transcript = Transcript(look=Look(header=False), bar=False)
        self.transcript.can_focus = False
        self._row = Static("", classes="lane-row")
        self._ready = False
        self._said = ""
        self._border_only = False

    @property
    def name_shown(self) -> str:
        name = self.ai_id.removesuffix("-ai")
        return f"{self._title} · {name}" if self._title else name

    @property
    def text(self) -> str:
        """The answer so far."""
        return self.turn.content if self.turn else ""

    @property
    def answered(self) -> bool:
        """Whether there is a whole answer to compare, merge or pass on."""
        return self.turn is not None and self.turn.ended and not self.turn.code and bool(self.text)

    @property
    def failed(self) -> bool:
        """Whether there is no answer, other than by the operator's cancel."""
        code = self.turn.code if self.turn is not None else self.refusal
        return bool(code) and code != "cancelled"

    def compose(self) -> ComposeResult:
        yield self._row
        yield self.transcript

    def on_mount(self) -> None:
        self._ready = True
        if self.turn is not None:
            self.attach(self.turn)
        elif self.refusal:
            self.transcript.begin(
                Entry(self.ai_id, self.name_shown, "answer", "", colour=tone_of(self.ai_id))
            )
            self.transcript.fail(self.ai_id, "not asked", self.refusal)
        self.tell()

    def attach(self, turn: LiveTurn) -> None:
        """Show this turn from now on."""
        self.turn, self.refusal = turn, ""
        if not self._ready:
            return
        transcript = self.transcript
        transcript.load([])
        transcript.begin(Entry(turn.request_id, self.name_shown, "answer", "", colour=tone_of(turn.ai_id)))
        if turn.reasoning:
            transcript.append_reasoning(turn.request_id, "".join(turn.reasoning))
        if turn.content:
            transcript.append_text(turn.request_id, turn.content)
        if turn.ended:
            self.finish()
        self.tell()

    def add_text(self, text: str) -> None:
        if self.turn is not None and self._ready:
            self.transcript.append_text(self.turn.request_id, text)

    def add_reasoning(self, text: str) -> None:
        if self.turn is not None and self._ready:
            self.transcript.append_reasoning(self.turn.request_id, text)

    def finish(self) -> None:
        """Show how the turn ended; a failure keeps the text that came before it."""
        if self.turn is None or not self._ready:
            return
        if self.turn.code:
            self.transcript.fail(self.turn.request_id, self.turn.code, self.turn.error)
        else:
            self.transcript.finish(self.turn.request_id)
        self.tell()

    def tell(self) -> None:
        """Write the border or the row: name, phase or end, first token, speed, marks."""
        if not self._ready:
            return
        facts = LaneFacts(self.name_shown, self.turn, self.refusal, self.marked, self.picked, self.place)
        width = self.size.width
        if self.as_row:
            row = row_of(facts, width - 1)
            if row.plain != self._said:
                self._said = row.plain
                self._row.update(row)
        else:
            title, subtitle = title_of(facts, width - BORDER_CELLS), subtitle_of(facts, width - BORDER_CELLS)
            if f"{title.plain}\n{subtitle.plain}" != self._said:
                self._said = f"{title.plain}\n{subtitle.plain}"
                self._write_border(title, subtitle)
        if self.turn is not None and not self.turn.ended and not self.turn.pieces:
            self.transcript.set_phase(self.turn.request_id, self.turn.detail or turn_words(self.turn))
        self.set_class(self.failed, "-failed")

    def _write_border(self, title: Content, subtitle: Content) -> None:
        self._border_only = True
        try:
            self.border_title, self.border_subtitle = title, subtitle
        finally:
            self._border_only = False

    def refresh(
        self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False
    ) -> Self:
        """Repaint; for other words in the border the border's two lines are enough."""
        if self._border_only and not regions:
            width, height = self.outer_size
            regions = (Region(-1, -1, width, 1), Region(-1, height - 2, width, 1))
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def on_resize(self) -> None:
        self.tell()

    def watch_marked(self) -> None:
        self.tell()

    def watch_picked(self) -> None:
        self.set_class(self.picked, "-picked")
        self.tell()

    def watch_as_row(self) -> None:
        self.set_class(self.as_row, "-row")
        self._said = ""
        self.tell()

    def on_click(self, event: events.Click) -> None:
        self.post_message(self.Clicked(self, event.chain))
