"""The time limits of one generation: until its first token, and between two tokens. One timer, no task.

Knows no provider and no socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class TokenTimeout:
    """Calls `on_late` when no first token came in time, and `on_stall` each time tokens pause for too long.

    A token costs one assignment to `last`: the timer is not moved for it, but looks at `last` when it fires and
    waits for what is left. Times in seconds.
    """

    def __init__(
        self,
        *,
        first_token_s: float,
        between_tokens_s: float,
        on_late: Callable[[], None],
        on_stall: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._first_token_s, self._between_s = first_token_s, between_tokens_s
        self._on_late, self._on_stall = on_late, on_stall
        self._timer: asyncio.TimerHandle | None = None
        self._streaming = False
        self.last = 0.0
        """When the newest token came, or the wait for the first one began; the loop's clock."""

    def start(self) -> None:
        """Start the wait for the first token, or start it again."""
        self._streaming = False
        self.reset()
        self._rearm(self._first_token_s)

    def first_token(self) -> None:
        """Note the first token: from now on the limit between tokens holds."""
        self._streaming = True
        self.reset()
        self._rearm(self._between_s)

    def reset(self) -> None:
        """Count from now: a token came, or the silence was not the provider's."""
        self.last = self._loop.time()

    def stop(self) -> None:
        """Call nothing any more. Safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rearm(self, delay_s: float) -> None:
        self.stop()
        self._timer = self._loop.call_later(delay_s, self._check)

    def _check(self) -> None:
        limit_s = self._between_s if self._streaming else self._first_token_s
        left_s = self.last + limit_s - self._loop.time()
        if left_s > 0:
            self._rearm(left_s)
        elif self._streaming:
            self._on_stall()
            self._rearm(limit_s)
        else:
            self._on_late()
