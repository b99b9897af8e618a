"""Several answers in one text: the first to begin streams live, the others follow whole, each under its name. Pure."""

from __future__ import annotations


class Voices:
    """Puts the pieces of lanes that stream at once into one readable order.

    A lane is named by its request id, whose last part is the member's id or the kind of moderation.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[str]] = {}
        self._ended: set[str] = set()
        self._speaker = ""
        self._written = False

    def begin(self, lane: str) -> None:
        self._waiting.setdefault(lane, [])

    def say(self, lane: str, text: str) -> str:
        """Take a lane's text; return what may be shown now, perhaps nothing."""
        # one voice streams live: two that are mixed piece by piece could not be read
        if not self._speaker:
            self._speaker = lane
            return self._heading(lane) + text
        if lane == self._speaker:
            return text
        self._waiting.setdefault(lane, []).append(text)
        return ""

    def end(self, lane: str) -> str:
        """Take a lane's end; when it was the one that spoke, return what the next have said meanwhile."""
        self._ended.add(lane)
        if lane != self._speaker:
            return ""
        self._speaker = ""
        return self.rest(only_ended=True) + self._next()

    def rest(self, *, only_ended: bool = False) -> str:
        """Return what waits, whole lanes in the order they began."""
        text = ""
        for lane, parts in self._waiting.items():
            if parts and (not only_ended or lane in self._ended):
                text += self._heading(lane) + "".join(parts)
                parts.clear()
        return text

    def failed(self, ai_id: str, code: str, error: str) -> str:
        return f"{self._heading(ai_id)}(no full answer: {code}: {error})"

    def _next(self) -> str:
        for lane, parts in self._waiting.items():
            if parts:
                self._speaker = lane
                text = self._heading(lane) + "".join(parts)
                parts.clear()
                return text
        return ""

    def _heading(self, lane: str) -> str:
        gap = "\n\n" if self._written else ""
        self._written = True
        return f"{gap}{lane.rpartition('/')[2].removesuffix('-ai')}:\n"
