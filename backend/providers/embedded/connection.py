"""One request to the embedded model server over loopback, each on a connection of its own.

Built on httpcore, which costs a worker a quarter of the time and a fifth of the memory of its bigger sibling: all
specialists of a fresh machine load it. Knows the server's dialect of errors and nothing of prompts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from backend.deadlines import loop_timeout
from backend.providers.base import (
    ModelNotFound,
    ProviderAuth,
    ProviderError,
    ProviderFault,
    ProviderUnavailable,
)
from backend.providers.http import Upstream, from_status

if TYPE_CHECKING:
    import httpcore

UPSTREAM = Upstream(
    "the embedded model server",
    "this machine",
    "the embedded model",
    setting="what `tekton logs embedded` shows",
)
AGAIN = (
    "start it again with `tekton launch NAME`, any specialist of this model, or see `tekton logs embedded`"
)
GONE = f"the embedded model server does not answer; {AGAIN}"
MAX_ENDING_BYTES = 2_000


class ServerFacts(Struct):
    """Where the server is and what it holds; `context` in tokens a slot."""

    url: str
    api_key: str
    model: str
    slots: int
    context: int


class FactsFile:
    """The server's facts as its starter wrote them, read anew when the file changes."""

    def __init__(self, path: Path, ending: Path) -> None:
        self._path, self._ending = path, ending
        self._stamp = (0, 0)
        self._facts: ServerFacts | None = None

    def read(self) -> ServerFacts | None:
        """Return the facts, `None` while there is no server."""
        try:
            stat = self._path.stat()
            if (stamp := (stat.st_mtime_ns, stat.st_ino)) != self._stamp:
                self._facts = msgspec.json.decode(self._path.read_bytes(), type=ServerFacts)
                self._stamp = stamp
        except (OSError, msgspec.MsgspecError):
            self._facts, self._stamp = None, (0, 0)
        return self._facts

    def gone(self) -> str:
        """Return how the last server ended and how to start another; empty when none ended or one is starting."""
        try:
            with self._ending.open("rb") as file:
                said = file.read(MAX_ENDING_BYTES).decode(errors="replace")
        except OSError:
            return ""
        return f"{said}; {AGAIN}"


class ServerLink:
    """Asks the server. Closing a stream closes its connection, which frees the server's slot."""

    def __init__(self, connect_s: float) -> None:
        import httpcore

        self._library = httpcore
        self._pool = httpcore.AsyncConnectionPool(max_connections=None, max_keepalive_connections=0)
        self._connect_s = connect_s

    async def ask(
        self, facts: ServerFacts, path: str, body: dict[str, Any] | None = None, *, timeout_s: float
    ) -> bytes:
        """Return the body of an answer.

        Raises:
            ProviderError: The server is not there, refused, or took longer than `timeout_s`.
        """
        try:
            async with loop_timeout(timeout_s):
                answer = await self._pool.handle_async_request(self._request(facts, path, body))
                try:
                    data = b"".join([part async for part in self._parts(answer)])
                finally:
                    await answer.aclose()
        except (*self._errors(), TimeoutError) as error:
            raise self.failed(error) from error
        if answer.status != 200:
            raise refused(answer.status, data.decode(errors="replace"))
        return data

    async def chunks(
        self,
        facts: ServerFacts,
        path: str,
        body: dict[str, Any],
        *,
        look_every_s: float,
    ) -> AsyncGenerator[bytes | None]:
        """Yield the body of a streamed answer as it arrives, and `None` every `look_every_s` until it begins.

        Raises:
            ProviderError: The server is not there, refused, or broke off.
        """
        opening = asyncio.ensure_future(self._pool.handle_async_request(self._request(facts, path, body)))
        answer: httpcore.Response | None = None
        try:
            while not (await asyncio.wait({opening}, timeout=look_every_s))[0]:
                yield None
            answer = opening.result()
            if answer.status != 200:
                data = b"".join([part async for part in self._parts(answer)])
                raise refused(answer.status, data.decode(errors="replace"))
            async for part in self._parts(answer):
                yield part
        except self._errors() as error:
            raise self.failed(error, begun=answer is not None) from error
        finally:
            if answer is None:
                await _dropped(opening)
            else:
                await answer.aclose()

    async def aclose(self) -> None:
        await self._pool.aclose()

    def failed(self, error: BaseException, *, begun: bool = False) -> ProviderError:
        """Return the error for a connection that failed, before or after the answer had begun."""
        evidence = f"{type(error).__name__}: {error}".rstrip(": ")
        if isinstance(error, TimeoutError):
            return ProviderUnavailable(
                "the embedded model server did not answer in time: ask again", evidence=evidence
            )
        if not begun:
            return ProviderUnavailable(GONE, evidence=evidence)
        return ProviderFault(
            "the embedded model server broke off in the middle: ask again", evidence=evidence
        )

    def _request(self, facts: ServerFacts, path: str, body: dict[str, Any] | None) -> httpcore.Request:
        headers = [("Authorization", f"Bearer {facts.api_key}"), ("Host", facts.url.rpartition("/")[2])]
        content = None
        if body is not None:
            content = msgspec.json.encode(body)
            headers += [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
        return self._library.Request(
            "POST" if body is not None else "GET",
            f"{facts.url}{path}",
            headers=headers,
            content=content,
            extensions={"timeout": {"connect": self._connect_s}},
        )

    @staticmethod
    async def _parts(answer: httpcore.Response) -> AsyncIterator[bytes]:
        async for part in answer.aiter_stream():
            yield part

    def _errors(self) -> tuple[type[Exception], ...]:
        """Return what httpcore raises; it has no common root."""
        library = self._library
        return (
            library.NetworkError,
            library.TimeoutException,
            library.ProtocolError,
            library.UnsupportedProtocol,
        )


async def _dropped(opening: asyncio.Future[httpcore.Response]) -> None:
    """Give up a request that has no answer yet."""
    opening.cancel()
    await asyncio.wait({opening})
    if not opening.cancelled() and opening.exception() is None:
        await opening.result().aclose()


def refused(status: int, body: str) -> ProviderError:
    """Return the error for the server's answer, its own words kept."""
    evidence = UPSTREAM.evidence(f"HTTP {status}\n{body}")
    match status:
        case 401 | 403:
            text = "the embedded model server refused its key: it was replaced; ask again"
            return ProviderAuth(text, evidence=evidence)
        case 404:
            text = "the embedded model server does not know this model: `tekton models` lists what there is"
            return ModelNotFound(text, evidence=evidence)
        case 503:
            text = "the embedded model server is still loading its model: ask again soon"
            return ProviderUnavailable(text, evidence=evidence)
        case _:
            return from_status(UPSTREAM, status, body, {})
