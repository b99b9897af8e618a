"""Strips that are cheap to make and to drop; knows nothing of what they show.

Textual's `Strip` makes seven caches when it is made, and its `divide` puts the strip into its own cache: a cycle
that only the garbage collector frees. A streaming lane makes and drops some thirty rows a second, and collecting
those cycles stopped the event loop for a tenth of a second at a time. Written against Textual 8.2, which is pinned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich.segment import Segment
from textual.cache import FIFOCache
from textual.strip import Strip


class _NoCache(FIFOCache[Any, Any]):
    """A cache that keeps nothing: rows of a transcript are kept by the transcript itself."""

    def get(self, key: Any, default: Any = None) -> Any:
        return default

    def __setitem__(self, key: Any, value: Any) -> None:
        return


_NO_CACHE: Final = _NoCache(1)


class RowStrip(Strip):
    """A strip without caches of its own, but for its terminal codes and the last way it was divided."""

    __slots__ = ["_parts", "_parts_key"]

    def __init__(self, segments: Iterable[Segment], cell_length: int) -> None:
        self._segments = list(segments)
        self._cell_length = cell_length
        self._divide_cache = _NO_CACHE
        self._crop_cache = _NO_CACHE
        self._style_cache = _NO_CACHE
        self._filter_cache = _NO_CACHE
        self._line_length_cache = _NO_CACHE
        self._crop_extend_cache = _NO_CACHE
        self._offsets_cache = _NO_CACHE
        self._render_cache = None
        self._link_ids = None
        self._cell_count = None
        self._parts: Sequence[Strip] = ()
        self._parts_key: tuple[int, ...] = ()

    def divide(self, cuts: Iterable[int]) -> Sequence[Strip]:
        """Divide the strip at cell positions; the same cuts again cost nothing."""
        key = tuple(cuts)
        # the usual case: nothing lies over the row
        if key == (self._cell_length,):
            return [self]
        if key != self._parts_key:
            self._parts = super().divide(key)
            self._parts_key = key
        return self._parts
