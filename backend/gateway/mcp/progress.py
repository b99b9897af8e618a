"""Progress notices of a running tool: text as it arrives, and what begins and ends. Pure: events in, notices out."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from backend.schema import events
from backend.schema.frames import StreamChunk, StreamEnd, StreamError

Kind = Literal["progress", "chunk", "message"]


class Notice(Struct, omit_defaults=True):
    """`chunk`: a piece of `who`'s text. `message`: `who`'s whole answer. `progress`: `text` says what happens."""

    kind: Kind
    text: str
    who: str = ""
    index: int = 0

    def words(self) -> str:
        """Return the notice as one line for a client that shows text alone."""
        return f"{self.who}: {self.text}" if self.who and self.kind != "chunk" else self.text


class Notices:
    """Turns the events of one call into notices. Keeps which specialist answers in which lane, and its text so far."""

    def __init__(self) -> None:
        self._lanes: dict[str, str] = {}
        self._texts: dict[str, list[str]] = {}
        self._stages = 0

    def take(self, event: events.Event) -> Notice | None:
        """Return the notice for an event, if it makes one."""
        match event:
            case events.TurnStarted():
                self._lanes[event.request_id] = event.ai_id
                self._texts[event.request_id] = []
                return Notice("progress", "began", event.ai_id)
            case StreamChunk():
                said = self._texts.setdefault(event.request_id, [])
                said.append(event.content)
                return Notice(
                    "chunk", event.content, self._lanes.get(event.request_id, ""), event.chunk_index
                )
            # the end of a turn does not repeat its text: it was collected from the chunks
            case StreamEnd(metadata=facts):
                return Notice("message", "".join(self._texts.pop(event.request_id, [])), facts.ai_id)
            case StreamError():
                return Notice("progress", f"failed: {event.code}: {event.message}", event.ai_id)
            case events.TeamStart():
                return Notice("progress", f"round {event.round}: asked {', '.join(event.lanes)}")
            case events.PipelineStart():
                self._stages = len(event.stages)
                return Notice("progress", f"{self._stages} stages")
            case events.StageEvent() if event.state != "waiting":
                return Notice("progress", f"stage {event.stage + 1} ({event.label}): {event.state}")
            case events.CallProgress():
                return Notice("progress", event.text)
            case events.StageText():
                return None  # the same text comes as the lane's own chunks
            case _:
                return None


def as_value(notice: Notice) -> dict[str, Any]:
    """Return a notice as the older dialect sends it."""
    value: dict[str, Any] = {"content" if notice.kind != "progress" else "message": notice.text}
    if notice.who:
        value["specialist_id"] = notice.who
    if notice.kind == "chunk":
        value["chunk_index"] = notice.index
    return value
