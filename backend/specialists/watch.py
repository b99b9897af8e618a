"""The clocks of one turn: how long until the first token, how long between tokens. One timer, no task.

Knows no provider and no socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class TokenWatch:
    """Call `late` when no first token came in time, `stalled` when tokens stop for longer than the threshold.

    `touch` costs one assignment a token. Times in seconds.
    """

    def __init__(
        self,
        *,
        first_token_s: float,
        between_tokens_s: float,
        late: Callable[[], None],
        stalled: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._first_token_s, self._between_s = first_token_s, between_tokens_s
        self._late, self._stalled = late, stalled
        self._timer: asyncio.TimerHandle | None = None
        self._streaming = False
        self.last = 0.0
        """When the newest token came, or the wait for the first began; the loop's clock."""

    def begin(self) -> None:
        """Start, or start anew, the wait for the first token."""
        self._streaming = False
        self.touch()
        self._rearm(self._first_token_s)

    def first(self) -> None:
        """The first token came."""
        self._streaming = True
        self.touch()
        self._rearm(self._between_s)

    def touch(self) -> None:
        """A token came, or something else that excuses silence."""
        self.last = self._loop.time()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rearm(self, delay: float) -> None:
        self.stop()
        self._timer = self._loop.call_later(delay, self._check)

    def _check(self) -> None:
        limit = self._between_s if self._streaming else self._first_token_s
        left = self.last + limit - self._loop.time()
        if left > 0:
            self._rearm(left)
        elif self._streaming:
            self._stalled()
            self._rearm(limit)
        else:
            self._late()
