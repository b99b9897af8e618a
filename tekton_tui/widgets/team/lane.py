"""A member's answer in a team turn: its state in the border and its streamed text; the facts of its row in the list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.reactive import reactive

from tekton_tui.formatting import turn_words
from tekton_tui.stores import LiveTurn
from tekton_tui.stores.tool_calls import LiveCall
from tekton_tui.transcript import Ending, Entry, Look, Transcript
from tekton_tui.widgets.chat.entries import live_ending, show_answer, tool_row
from tekton_tui.widgets.team.agreement import Stance
from tekton_tui.widgets.team.lane_text import (
    LaneFacts,
    first_sentence,
    reader_title,
    subtitle_of,
    title_of,
    whose_words,
)

BORDER_CELLS = 2
AGAIN = (("R", "asks again"),)
READER_KEYS = Content.assemble(
    ("p", "bold $text-primary"), " pick  ", ("=", "bold $text-primary"), " compare  ",
    (">", "bold $text-primary"), " reply  ", ("z", "bold $text-primary"), " zoom",
)  # fmt: skip


class Lane(Vertical):
    """One turn. `place` is its rank among those that have finished, from 1; 0 before it has one."""

    marked: reactive[bool] = reactive(False)
    """Chosen together with others, to compare or to merge."""
    picked: reactive[bool] = reactive(False)
    """The one answer to go on with."""
    reading: reactive[bool] = reactive(False)
    """Shown alone, beside the list or instead of it."""

    class Clicked(Message):
        """Posted when the lane was clicked, `times` in a row."""

        def __init__(self, lane: Lane, times: int) -> None:
            super().__init__()
            self.lane, self.times = lane, times

    def __init__(
        self, ai_id: str, turn: LiveTurn | None, *, title: str = "", refusal: str = "", role: str = ""
    ) -> None:
        """`title` names a judge's lane; `refusal` says why a member could not be asked at all; `role` what it does."""
        super().__init__(classes="lane -judge" if title else "lane")
        self.ai_id = ai_id
        self.turn = turn
        self.is_judge = bool(title)
        self.refusal = refusal
        self.role = role
        self.place = 0
        self.agree = 0
        """How many others agree with its answer."""
        self.votes: int | None = None
        """How many members voted for its answer; `None` when there was no vote."""
        self.stance: Stance | None = None
        """How it stands to the joint answer; `None` where nobody says."""
        self.shares: list[str] = []
        """Of a joint answer: the members with whose answers it shares most of its words."""
        self.stances: Mapping[str, Stance] = {}
        """Of a joint answer: how it says that members stand to it, by name."""
        self.unread = False
        """Its answer is complete and was not shown yet."""
        self._sentence = ""
        self._title = title
        self.transcript = Transcript(look=Look(header=False), bar=False)
        # tab goes from pane to pane, and not through twenty lanes
        self.transcript.can_focus = False
        self._ready = False
        self._drawn = ""
        self._border_only = False

    @property
    def name_shown(self) -> str:
        return f"{self.kind} · {self.writer}" if self._title else self.writer

    @property
    def writer(self) -> str:
        return self.ai_id.removesuffix("-ai")

    @property
    def kind(self) -> str:
        """What a judge's lane is; empty for a member's."""
        return "joint answer" if self._title in ("merge", "synthesis") else self._title

    @property
    def facts(self) -> LaneFacts:
        """What is shown of it beside its text."""
        return LaneFacts(
            self.name_shown, self.turn, self.refusal, self.marked, self.picked, self.place,
            self.role, self._sentence, self.agree, self.unread, self.votes, self.stance,
        )  # fmt: skip

    @property
    def text(self) -> str:
        return self.turn.content if self.turn else ""

    @property
    def answered(self) -> bool:
        """Whether there is a whole answer to compare, merge or pass on."""
        return (
            self.turn is not None
            and self.turn.ended
            and not self.turn.code
            and bool(self.text)
            and not self.turn.left_out
        )

    @property
    def failed(self) -> bool:
        """Whether there is no answer, other than by the operator's cancel."""
        code = self.turn.code if self.turn is not None else self.refusal
        return bool(code) and code != "cancelled"

    def compose(self) -> ComposeResult:
        yield self.transcript

    def on_mount(self) -> None:
        self._ready = True
        if self.turn is not None:
            self.attach(self.turn)
        elif self.refusal:
            self.transcript.begin(Entry(self.ai_id, self.name_shown, "answer", "", colour="specialist"))
            self.transcript.finish(self.ai_id, Ending(code="not asked", error=self.refusal))
        self.update_status()

    def attach(self, turn: LiveTurn) -> None:
        """Show this turn from now on."""
        self.turn, self.refusal = turn, ""
        if not self._ready:
            return
        transcript = self.transcript
        transcript.load([])
        transcript.begin(Entry(turn.request_id, self.name_shown, "answer", ""))
        if turn.reasoning:
            transcript.append_reasoning(turn.request_id, "".join(turn.reasoning))
        show_answer(transcript, turn)
        if turn.ended:
            self.finish()
        self.update_status()

    def add_text(self, text: str) -> None:
        if self.turn is not None and self._ready:
            self.transcript.append_text(self.turn.request_id, text)

    def add_reasoning(self, text: str) -> None:
        if self.turn is not None and self._ready:
            self.transcript.append_reasoning(self.turn.request_id, text)

    def show_call(self, call: LiveCall) -> None:
        """Show a tool call that began or changed."""
        if self.turn is not None and self._ready:
            self.transcript.set_tool(self.turn.request_id, tool_row(call))

    def finish(self) -> None:
        """Show how the turn ended; a failure keeps the text that came before it."""
        if self.turn is None or not self._ready:
            return
        # facts and keys stand in the lane's own border and in the row below
        self.transcript.finish(self.turn.request_id, live_ending(self.turn)._replace(facts=(), remedy=AGAIN))
        self._sentence = first_sentence(self.text)
        self.unread = self.answered and not self.reading and not self.turn.stored
        if not self.transcript.has_focus:
            self.transcript.scroll_to_beginning()
        self.update_status()

    def read(self) -> None:
        """Take note that its answer is on the screen."""
        self.unread = False

    def update_status(self) -> None:
        """Redraw the border: name, phase or end, first token, speed, marks."""
        if not self._ready:
            return
        width = self.size.width - BORDER_CELLS
        if width > 0:
            title = (reader_title if self.reading else title_of)(self.facts, width - 2)
            subtitle = READER_KEYS if self.reading else subtitle_of(self.facts, width)
            if self.stances or self.shares:
                subtitle = whose_words(self.stances, self.shares, width)
            if f"{title.plain}\n{subtitle.plain}" != self._drawn:
                self._drawn = f"{title.plain}\n{subtitle.plain}"
                self._write_border(title, subtitle)
        if self.turn is not None and not self.turn.ended and (self.turn.calls or not self.turn.pieces):
            self.transcript.set_phase(self.turn.request_id, self.turn.detail or turn_words(self.turn))
        self.set_class(self.failed, "-failed")

    def _write_border(self, title: Content, subtitle: Content) -> None:
        # Textual would draw the whole lane for a word in its border, and eighteen lanes count seconds
        self._border_only = True
        try:
            self.border_title, self.border_subtitle = title, subtitle
        finally:
            self._border_only = False

    def refresh(
        self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False
    ) -> Self:
        """Repaint; when only the border's text changed, the border's two lines alone."""
        if self._border_only and not regions:
            width, height = self.outer_size
            regions = (Region(-1, -1, width, 1), Region(-1, height - 2, width, 1))
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def on_resize(self) -> None:
        if self.turn is not None and self.turn.ended and not self.transcript.has_focus:
            self.transcript.scroll_to_beginning()
        self.update_status()

    def watch_marked(self) -> None:
        self.update_status()

    def watch_picked(self) -> None:
        self.set_class(self.picked, "-picked")
        self.update_status()

    def watch_reading(self) -> None:
        self._drawn = ""
        self.update_status()

    def on_click(self, event: events.Click) -> None:
        self.post_message(self.Clicked(self, event.chain))
