"""A console on a terminal whose backend does what the test says: the other end of `tests.tui.pty_stage`."""

from __future__ import annotations

import json
import os
import re
import select
import sys
import time
from collections.abc import Mapping
from typing import Any

from tests.tui.terminal import LIMIT_S, Terminal

READ_S = 0.4
"""After this long what came by itself could be read: keys act on it."""
PASTE = "\x1b[200~{}\x1b[201~"


class Staged(Terminal):
    """Begins unattached; `tell("connect")` has its backend answer."""

    def __init__(
        self,
        *orders: tuple[Any, ...],
        typed: str = "",
        size: tuple[int, int] = (100, 30),
        env: Mapping[str, str] | None = None,
        program: str = "tests.tui.pty_stage",
    ) -> None:
        """`orders` are carried out before anything is drawn, `typed` is written before the program has begun to run."""
        self._calls, calls = os.pipe()
        stage, self._stage = os.pipe()
        os.set_blocking(self._calls, False)
        self._read_calls, self._done = "", 0
        """What was read of the calls and not taken yet, and how many orders were carried out."""
        self._told = 0
        fds = {"CALLS_FD": str(calls), "STAGE_FD": str(stage)}
        super().__init__(
            [sys.executable, "-m", program], size=size, env={**fds, **(env or {})}, pass_fds=[calls, stage]
        )
        for end in (calls, stage):
            os.close(end)
        if typed:
            os.write(self.master, typed.encode())
        for order in orders:
            self.order(*order)

    def __exit__(self, *given: object) -> None:
        super().__exit__(*given)
        for end in (self._calls, self._stage):
            os.close(end)

    def order(self, word: str, *given: Any) -> None:
        """Give an order without waiting for it."""
        self._told += 1
        os.write(self._stage, (json.dumps([word, *given]) + "\n").encode())

    def tell(self, word: str, *given: Any) -> None:
        """Give an order and wait until it was carried out."""
        self.order(word, *given)
        deadline = time.monotonic() + LIMIT_S
        while self._done < self._told:
            assert time.monotonic() < deadline, f"never done: {word}\n{self.text}"
            readable = select.select([self.master, self._calls], [], [], 0.1)[0]
            if self.master in readable:
                self._read()
            self._hear()

    def calls(self, *names: str) -> list[str]:
        """Return the calls made since the last time, of these names if any are given, with their fields."""
        self._hear()
        lines, self._read_calls = self._read_calls.splitlines(), ""
        return [line for line in lines if not names or line.partition(" ")[0] in names]

    def _hear(self) -> None:
        try:
            heard = os.read(self._calls, 1_000_000).decode()
        except BlockingIOError:
            return
        self._done += len(re.findall(r"^done$", heard, re.M))
        self._read_calls += re.sub(r"^done\n", "", heard, flags=re.M)

    def rest(self, at_least_s: float = 0.0) -> None:
        """Wait until the console has acted on all that came, and has drawn it."""
        self.tell("rest", at_least_s)
        self.drain(0.02)

    @property
    def settled(self) -> str:
        """What is shown once nothing changes any more, without the notices: see `still`."""
        self.rest()
        return "\n".join(row for row in self.still.split("\n")[1:] if not row.startswith("▌"))

    @property
    def still(self) -> str:
        """What is shown, with every number written as zeros: clocks differ."""
        return re.sub(r"\d+", "0", self.text)
