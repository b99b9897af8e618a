"""Heights of a long column of messages, some of them guesses: where is row y, at which row is message i.

Sums are kept by chunk, so a correction costs nothing and a look-up a few microseconds among 100,000 messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

CHUNK_SHIFT: Final = 9
CHUNK: Final = 1 << CHUNK_SHIFT


class Heights:
    """Heights in rows, by index."""

    def __init__(self, heights: Iterable[int] = ()) -> None:
        self._heights = list(heights)
        self._sums: list[int] = []
        self._sum_up()

    def __len__(self) -> int:
        return len(self._heights)

    def __getitem__(self, index: int) -> int:
        return self._heights[index]

    @property
    def total(self) -> int:
        return sum(self._sums)

    def append(self, height: int) -> None:
        if len(self._heights) & (CHUNK - 1) == 0:
            self._sums.append(0)
        self._heights.append(height)
        self._sums[-1] += height

    def prepend(self, heights: Iterable[int]) -> None:
        self._heights[:0] = heights
        self._sum_up()

    def set(self, index: int, height: int) -> None:
        self._sums[index >> CHUNK_SHIFT] += height - self._heights[index]
        self._heights[index] = height

    def offset(self, index: int) -> int:
        """Return the row at which `index` begins (`len` gives the total)."""
        chunk = index >> CHUNK_SHIFT
        # two sums over a few hundred numbers each: no tree is needed, and a correction costs nothing
        return sum(self._sums[:chunk]) + sum(self._heights[chunk << CHUNK_SHIFT : index])

    def find(self, row: int) -> tuple[int, int]:
        """Return the index that holds a row, and the row within it; the last one for rows past the end."""
        if row < 0 or not self._heights:
            return 0, 0
        last_chunk = len(self._sums) - 1
        chunk = 0
        while chunk < last_chunk and row >= self._sums[chunk]:
            row -= self._sums[chunk]
            chunk += 1
        index = chunk << CHUNK_SHIFT
        last = len(self._heights) - 1
        while index < last and row >= self._heights[index]:
            row -= self._heights[index]
            index += 1
        return index, row

    def _sum_up(self) -> None:
        heights = self._heights
        self._sums = [sum(heights[start : start + CHUNK]) for start in range(0, len(heights), CHUNK)]
