"""Taking back what was just done: calls that are held for a moment before they are sent, and acts that have a way back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from backend.schema.errors import TektonError
from backend.schema.params import Params
from tekton_tui.runtime.controller import Controller

UNDO_S = 5.0
"""How long an act can be taken back."""
FLUSH_S = 1.0
"""How long the end of the console waits for the calls that were held."""


@dataclass
class _Done:
    what: str
    back: Callable[[], object]
    at: float
    key: str = ""
    """Names a call that was not sent yet."""


class Undo:
    """The newest acts; each can be taken back once, the newest first."""

    GRACE_S: ClassVar[float] = 1.0
    """How long a call is held that nothing can take back once it was sent; 0 sends at once."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._done: list[_Done] = []
        self._held: dict[str, tuple[Params[Any], Callable[[], None], asyncio.TimerHandle]] = {}

    def holds(self, key: str) -> bool:
        """Return whether the call of this name waits to be sent."""
        return key in self._held

    def offer(self, what: str, back: Callable[[], object]) -> None:
        """Say that an act was done, and how it is taken back."""
        self._done.append(_Done(what, back, time.monotonic()))
        # more than anybody takes back within five seconds
        del self._done[:-20]

    def hold(self, key: str, what: str, params: Params[Any], back: Callable[[], None]) -> None:
        """Send a call after the grace; `back` is called if it is taken back before, or refused."""
        if self.GRACE_S <= 0:
            self._controller.request(params, otherwise=back)
            return
        timer = asyncio.get_running_loop().call_later(self.GRACE_S, self._send, key)
        self._held[key] = (params, back, timer)
        self._done.append(_Done(what, back, time.monotonic(), key))
        self._controller.notify(f"{what} · u takes it back")

    def take_back(self) -> None:
        """Take back the newest act that still can be."""
        since = time.monotonic() - UNDO_S
        self._done = [done for done in self._done if done.at >= since or done.key in self._held]
        if not self._done:
            self._controller.notify(
                f"nothing to take back: what was done {UNDO_S:.0f} s ago or was sent stays"
            )
            return
        done = self._done.pop()
        if done.key:
            self._held.pop(done.key)[2].cancel()
        done.back()
        self._controller.notify(f"taken back: {done.what}")

    def drop(self, key: str) -> bool:
        """Never send a call that is held, nor offer to take it back; return whether it was held."""
        if key not in self._held:
            return False
        self._release(key)[2].cancel()
        return True

    async def flush(self) -> None:
        """Send at once what is held: the console ends."""
        for key in list(self._held):
            params, _back, timer = self._release(key)
            timer.cancel()
            # the console ends either way: a refusal has no screen to be shown on
            with suppress(TektonError, TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    await self._controller.call(params)

    def _send(self, key: str) -> None:
        params, back, _timer = self._release(key)
        self._controller.request(params, otherwise=back)

    def _release(self, key: str) -> tuple[Params[Any], Callable[[], None], asyncio.TimerHandle]:
        self._done = [done for done in self._done if done.key != key]
        return self._held.pop(key)
