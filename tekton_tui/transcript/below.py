"""What stands below a message: why it failed, what went along with it, facts about its turn."""

from __future__ import annotations

from typing import Final

from rich.cells import cell_len

from tekton_tui.safe_text import one_line, safe
from tekton_tui.transcript.entry import Entry
from tekton_tui.transcript.pieces import Piece, plain_rows
from tekton_tui.transcript.rows import BOLD, BULLET, CODE, DIM, ERROR, TEXT, Row, Run
from tekton_tui.transcript.wrap import wrap_runs

NO_BREAK: Final = "\u00a0"


class Failure(Piece):
    """Why a turn failed, under the text that came before: the cause in words, what was said, which keys help."""

    def __init__(self, entry: Entry, *, raw: bool, gap: int) -> None:
        super().__init__()
        self.gap = gap
        self._code = one_line(entry.code or "error")
        self._cause = one_line(entry.cause) if entry.cause and not raw else self._code
        self._facts = one_line(entry.footer)
        self._text = safe(entry.error)
        self._remedy = () if raw else entry.remedy

    def draw(self, width: int) -> list[Row]:
        facts: list[Run] = [(f" · {self._facts}", DIM)] if self._facts else []
        rows = wrap_runs([(f"✖ {self._cause}", ERROR | BOLD), *facts], width)
        if self._text.strip() and self._text.strip() != self._cause:
            rows += plain_rows(self._text, width, TEXT)
        if self._remedy:
            runs: list[Run] = []
            for key, words in self._remedy:
                runs += [(key, BULLET | BOLD), (f" {words}   ", DIM)]
            rows += [row._replace(decor=len(row.text)) for row in wrap_runs(runs, width)]
        return rows

    def estimate(self, width: int) -> int:
        return 1 + bool(self._remedy) + (1 + len(self._text) // max(1, width) if self._text else 0)

    @property
    def copied(self) -> str:
        return f"{self._code}: {self._text}" if self._text else self._code


class Files(Piece):
    """What went along with a question."""

    searched = False

    def __init__(self, files: tuple[str, ...]) -> None:
        super().__init__()
        self._files = files

    def draw(self, width: int) -> list[Row]:
        runs: list[Run] = []
        for file in self._files:
            runs += [(one_line(f"▪ {file}", max(1, width)).replace(" ", NO_BREAK), CODE), (" ", TEXT)]
        return wrap_runs(runs, width)

    def estimate(self, width: int) -> int:
        return 1


class Footer(Piece):
    """Facts about a finished turn."""

    searched = False

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def draw(self, width: int) -> list[Row]:
        text = one_line(self._text, width)
        return [Row(((text, DIM),), cell_len(text), "\n", len(text))]

    def estimate(self, width: int) -> int:
        return 1
