"""Stop texts: an answer ends before the first of them, wherever the pieces are cut. Knows pieces, not who made them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

import msgspec

from backend.gateway.completions.answer import Batch, Finish, Piece, Pieces
from backend.schema.frames import Usage


class Stopper:
    """Looks for stop texts in a text that comes in pieces; holds back what may be the beginning of one."""

    def __init__(self, stops: list[str]) -> None:
        self._stops = stops
        self._held = ""
        self.met = ""
        """The stop text that came."""

    def feed(self, text: str) -> str:
        """Take a piece; return what may be shown now. `met` is set once a stop text came."""
        self._held += text
        found = [(place, stop) for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            place, self.met = min(found)
            shown, self._held = self._held[:place], ""
            return shown
        # What may begin a stop text must not be shown yet: it could not be taken back.
        keep = max(_overlap(self._held, stop) for stop in self._stops)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def rest(self) -> str:
        """Return what was held back; there is no more text."""
        rest, self._held = self._held, ""
        return rest


async def stopped(pieces: Pieces, stops: list[str], prompt_used: Callable[[], Usage]) -> Pieces:
    """Yield an answer up to its first stop text, and end whoever gives it there.

    The usage of an answer cut here is an estimate: whoever was cut off does not count it.
    """
    stopper, count = Stopper(stops), 0
    async with aclosing(pieces):
        async for batch in pieces:
            shown: Batch = []
            for piece in batch:
                if isinstance(piece, Finish):
                    shown += [Piece(rest)] if (rest := stopper.rest()) else []
                    yield [*shown, piece]
                    return
                if not piece.text:
                    shown.append(piece)
                    continue
                count += 1
                if text := stopper.feed(piece.text):
                    shown.append(Piece(text))
                if stopper.met:
                    used = msgspec.structs.replace(prompt_used(), output_tokens=count, estimated=True)
                    yield [*shown, Finish("stop", used, stop=stopper.met)]
                    return
            if shown:
                yield shown


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of a text may begin the stop text."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
