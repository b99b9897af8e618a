"""A member's answer in a team turn: state in the border, text below, as it comes."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive

from tekton_tui.entries import tone_of
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import LiveTurn
from tekton_tui.transcript import Entry, Look, Transcript
from tekton_tui.wording import milliseconds, rate, span, turn_words


class Lane(Vertical):
    """Shows one turn. `marked` and `picked` are the operator's."""

    marked: reactive[bool] = reactive(False)
    """Chosen together with others, to compare or to merge."""
    picked: reactive[bool] = reactive(False)
    """The one answer to go on with."""

    class Clicked(Message):
        """Posted when the lane was clicked."""

        def __init__(self, lane: Lane) -> None:
            super().__init__()
            self.lane = lane

    def __init__(self, ai_id: str, turn: LiveTurn | None, *, title: str = "", refusal: str = "") -> None:
        """`title` names a judge's lane; `refusal` says why a member could not be asked at all."""
        super().__init__(classes="lane")
        self.ai_id = ai_id
        self.turn = turn
        self.is_judge = bool(title)
        self._title = title
        self.refusal = refusal
        self._ready = False

    @property
    def name_shown(self) -> str:
        name = self.ai_id.removesuffix("-ai")
        return f"{self._title} · {name}" if self._title else name

    @property
    def text(self) -> str:
        """The answer so far."""
        return self.turn.content if self.turn else ""

    def compose(self) -> ComposeResult:
        yield Transcript(look=Look(header=False), bar=False)

    def on_mount(self) -> None:
        self.query_one(Transcript).can_focus = False
        self._ready = True
        if self.turn is not None:
            self.attach(self.turn)
        elif self.refusal:
            transcript = self.query_one(Transcript)
            transcript.begin(Entry(self.ai_id, self.name_shown, "answer", "", colour=tone_of(self.ai_id)))
            transcript.fail(self.ai_id, "not asked", self.refusal)
        self.tell()

    def attach(self, turn: LiveTurn) -> None:
        """Show this turn from now on."""
        self.turn = turn
        if not self._ready:
            return
        transcript = self.query_one(Transcript)
        transcript.load([])
        transcript.begin(Entry(turn.request_id, self.name_shown, "answer", "", colour=tone_of(turn.ai_id)))
        if turn.content:
            transcript.append_text(turn.request_id, turn.content)
        if turn.ended:
            self.finish()
        self.tell()

    def add_text(self, text: str) -> None:
        if self.turn is not None and self._ready:
            self.query_one(Transcript).append_text(self.turn.request_id, text)

    def add_reasoning(self, text: str) -> None:
        if self.turn is not None and self._ready:
            self.query_one(Transcript).append_reasoning(self.turn.request_id, text)

    def finish(self) -> None:
        """Show how the turn ended; a failure keeps the text that came before it."""
        if self.turn is None or not self._ready:
            return
        transcript = self.query_one(Transcript)
        if self.turn.code:
            transcript.fail(self.turn.request_id, self.turn.code, self.turn.error)
        else:
            transcript.finish(self.turn.request_id)
        self.tell()

    def tell(self) -> None:
        """Write the border: name, phase or end, first token, speed, marks."""
        title = self._words()
        if str(self.border_title) != title.plain:
            self.border_title = title
        code = self.turn.code if self.turn is not None else self.refusal
        self.set_class(bool(code) and code != "cancelled", "-failed")

    def on_resize(self) -> None:
        self.tell()

    def watch_marked(self) -> None:
        self.tell()

    def watch_picked(self) -> None:
        self.set_class(self.picked, "-picked")
        self.tell()

    def on_click(self, event: events.Click) -> None:
        self.post_message(self.Clicked(self))

    def _words(self) -> Content:
        marks = ("★ " if self.picked else "") + ("▌" if self.marked else "")
        turn = self.turn
        width = max(16, self.size.width - 4)
        if turn is None and self.refusal:
            return literal(one_line(f"{marks}{self.name_shown} ✖ not asked", width), "$text-error")
        if turn is None:
            return literal(one_line(f"{marks}{self.name_shown} · waiting", width))
        parts = [f"{marks}{self.name_shown}"]
        tone = ""
        if turn.ended and turn.code:
            parts[0] += f" ✖ {turn.code}"
            tone = "$text-error" if turn.code != "cancelled" else "$text-muted"
        elif turn.ended:
            parts[0] += f" ✓ {span(turn.total_time)}"
            tone = "$text-success"
        else:
            parts[0] += f" ◐ {turn_words(turn)}"
            tone = "$text-primary"
        if (speed := turn.rate()) is not None:
            parts.append(f"{rate(speed)}/s")
        if turn.first_token_ms is not None and width > 34:
            parts.append(f"first {milliseconds(turn.first_token_ms)}")
        return literal(one_line(" · ".join(parts), width), tone)
