"""Stop texts: an answer ends before the first of them, wherever the pieces are cut. Knows pieces, not who made them."""

from __future__ import annotations

from contextlib import aclosing

from backend.gateway.openai_api.pieces import Finish, Piece, Pieces
from backend.schema.frames import Usage


class Stopper:
    """Looks for stop texts in a text that comes in pieces; holds back what may be the beginning of one."""

    def __init__(self, stops: list[str]) -> None:
        self._stops = stops
        self._held = ""
        self.met = False

    def feed(self, text: str) -> str:
        """Take a piece; return what may be shown now. `met` is set once a stop text came."""
        self._held += text
        found = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            self.met = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        keep = max(_overlap(self._held, stop) for stop in self._stops)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def rest(self) -> str:
        """Return what was held back; there is no more text."""
        rest, self._held = self._held, ""
        return rest


async def stopped(pieces: Pieces, stops: list[str]) -> Pieces:
    """Yield an answer up to its first stop text, and end whoever gives it there.

    The usage of an answer cut here is an estimate: whoever was cut off does not count it.
    """
    stopper, count = Stopper(stops), 0
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Finish):
                if rest := stopper.rest():
                    yield Piece(rest)
                yield piece
                return
            if not piece.text:
                yield piece
                continue
            count += 1
            if shown := stopper.feed(piece.text):
                yield Piece(shown)
            if stopper.met:
                break
    yield Finish("stop", Usage(output_tokens=count, estimated=True))


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of a text may begin the stop text."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
