"""Connections to a Redis server that send commands in batches, scripts, and what a failure means in words.

Nothing is sent twice: redis-py's own retries are switched off. Knows no key and no message.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from backend import tls
from backend.memory.errors import StoreClosed, StoreFailed
from backend.memory.shared_log import Fenced

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 10.0
"""A server that is silent for so long is taken for dead. A fork for a snapshot pauses it for less than that."""
MAX_COMMANDS_PER_TRIP = 512
CONNECTING = " connecting to "
"""What the client library says of a failure before the first command."""
SERVER_CLOSED = "Connection closed by server."
"""What the client library says of an end in the middle of an answer; a server for TLS alone ends every plain connection so."""
Command = Sequence[str | bytes | int | float]


@dataclass(frozen=True)
class Address:
    """Where the server is. `shown` carries no secret and may appear anywhere."""

    url: str
    password: str = field(default="", repr=False)

    @property
    def shown(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port or 6379}"


@dataclass(eq=False)
class Job:
    """Commands that belong together, and the future of the caller who waits for their answers."""

    commands: Sequence[Command]
    future: asyncio.Future[list[Any]]


ConnectHook = Callable[[Any], Awaitable[None]]
"""Called with every new connection before its first command; what it raises refuses the connection."""


def connect(address: Address, *, name: str = "tekton", on_connect: ConnectHook | None = None) -> Redis:
    """Return a client that connects at its first command and asks each thing once.

    Raises:
        StoreFailed: The URL cannot be read.
    """
    try:
        client: Redis = cast(Any, Redis).from_url(
            address.url,
            password=address.password or None,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=ANSWER_TIMEOUT_S,
            client_name=name,
            redis_connect_func=on_connect,
            # RESP3 would answer with maps and doubles where the stores expect lists and bytes
            protocol=2,
        )
    except ValueError as error:
        raise StoreFailed(f"The store address {address.shown} cannot be used: {error}.") from error
    # answers as the server gave them: bytes, integers, lists
    client.response_callbacks.clear()
    return client


class NotListed(RedisConnectionError):
    """The server no longer lists this gateway."""


class FencedOff(NotListed):
    """Another gateway has declared this one dead."""


class RedisConnection:
    """One connection. What waits goes to the server together, in the order it was asked for."""

    def __init__(
        self,
        address: Address,
        scripts: Sequence[str],
        *,
        name: str = "tekton",
        on_connect: ConnectHook | None = None,
    ) -> None:
        self._address = address
        self._client = connect(address, name=name, on_connect=on_connect)
        self._is_of_fleet = on_connect is not None
        self._texts = {hashlib.sha1(text.encode()).hexdigest(): text for text in scripts}
        self._digests = {text: digest for digest, text in self._texts.items()}
        self._queue: asyncio.Queue[Job | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._work(), name="memory-redis")
        self._closed = False
        self._answered = False
        """Whether the server has answered at all, so that it speaks as we do."""

    @property
    def waiting(self) -> int:
        """Jobs not yet sent."""
        return self._queue.qsize()

    def script(self, text: str, *arguments: str | bytes | int | float) -> Command:
        """Return the command that runs one of the connection's scripts; the first argument is its key prefix."""
        return ("EVALSHA", self._digests[text], 1, *arguments)

    async def call(self, *command: str | bytes | int | float) -> Any:
        """Run one command and return the answer; see `batch`."""
        return (await self.batch([command]))[0]

    async def run(self, script: str, *arguments: str | bytes | int | float) -> Any:
        """Run one script and return its answer; see `script` and `batch`."""
        return await self.call(*self.script(script, *arguments))

    async def batch(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands one after another and return their answers.

        A caller that is cancelled stops waiting; the commands are run all the same.

        Raises:
            StoreClosed: The connection was closed.
            StoreFailed: The server refused one, or cannot be reached; then each may or may not have been run.
        """
        if self._closed:
            raise StoreClosed()
        if not commands:
            return []
        job = Job([_encoded(c) for c in commands], asyncio.get_running_loop().create_future())
        self._queue.put_nowait(job)
        answers = await job.future
        for answer in answers:
            if isinstance(answer, RedisError):
                raise store_failed(answer, self._address) from answer
        return answers

    async def close(self) -> None:
        """Send the jobs that wait, then disconnect."""
        if not self._closed:
            self._closed = True
            self._queue.put_nowait(None)
        # Not cancelled: it ends by itself behind the jobs that wait, whose callers want their answers.
        await asyncio.gather(self._task, return_exceptions=True)
        await self._client.aclose()

    async def _work(self) -> None:
        while job := await self._queue.get():
            batch, size = [job], len(job.commands)
            last = False
            # What gathered during the last trip goes together; a job that waits alone is sent at once.
            while size < MAX_COMMANDS_PER_TRIP and not self._queue.empty():
                follower = self._queue.get_nowait()
                if follower is None:
                    last = True
                    break
                batch.append(follower)
                size += len(follower.commands)
            await self._send(batch)
            if last:
                return

    async def _send(self, batch: list[Job]) -> None:
        commands = [command for job in batch for command in job.commands]
        try:
            answers = await self._trip(commands)
            unknown = [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            if unknown:
                # a server begun anew has forgotten the scripts, and has run none of these
                again = await self._trip([self._in_full(commands[index]) for index in unknown])
                for index, answer in zip(unknown, again, strict=True):
                    answers[index] = answer
        except Exception as error:
            # whatever it is: the callers get it, and the connection serves the next ones
            # The commands are not sent again: an append whose answer was lost may have been done.
            error = await self._why(error)
            failure = store_failed(error, self._address, answered=self._answered)
            failure.__cause__ = error
            for job in batch:
                if not job.future.done():
                    job.future.set_exception(failure)
            return
        self._answered = True
        start = 0
        for job in batch:
            end = start + len(job.commands)
            if not job.future.done():
                job.future.set_result(answers[start:end])
            start = end

    async def _why(self, error: Exception) -> Exception:
        """Return why a connection broke: whoever declares a gateway dead cuts its connections, and a new one is told so.

        Only looked at, nothing is sent again.
        """
        if (
            not self._is_of_fleet
            or not isinstance(error, RedisConnectionError)
            or isinstance(error, NotListed)
        ):
            return error
        try:
            await cast(Any, self._client).execute_command("PING")
        except FencedOff as told:
            return told
        except Exception as other:
            log.debug("the server is still away: %s", other)
        return error

    async def _trip(self, commands: Sequence[Command]) -> list[Any]:
        # no MULTI: what must be one step is a script, and jobs of different callers may fail each by itself
        pipeline: Any = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    def _in_full(self, command: Command) -> Command:
        digest = cast(bytes, command[1]).decode()
        return ("EVAL", self._texts[digest], *command[2:])


class RedisConnections:
    """The three connections of a store: one writes, one reads, one runs what may take many milliseconds."""

    def __init__(self, address: Address, scripts: Sequence[str]) -> None:
        self._address, self._scripts = address, scripts
        self._open: dict[str, RedisConnection] = {}

    def open(self, *, name: str = "tekton", on_connect: ConnectHook | None = None) -> None:
        """Make the connections; each connects at its first command."""
        self._open = {
            purpose: RedisConnection(self._address, self._scripts, name=name, on_connect=on_connect)
            # The same server runs them all, one after another; apart, a long search holds up nobody who only
            # reads.
            for purpose in ("writer", "reader", "search")
        }

    async def close(self) -> None:
        """Send what waits and disconnect. Safe to call twice."""
        connections, self._open = self._open, {}
        for connection in reversed(connections.values()):
            await connection.close()

    @property
    def writer(self) -> RedisConnection:
        return self._get("writer")

    @property
    def reader(self) -> RedisConnection:
        return self._get("reader")

    @property
    def search(self) -> RedisConnection:
        return self._get("search")

    def figures(self) -> dict[str, int]:
        """Return the jobs that wait at each connection."""
        return {f"waiting_{purpose}": connection.waiting for purpose, connection in self._open.items()}

    def _get(self, purpose: str) -> RedisConnection:
        if purpose not in self._open:
            raise StoreClosed()
        return self._open[purpose]


def _encoded(command: Command) -> Command:
    """Return the command with its texts as bytes; what UTF-8 cannot hold becomes a question mark."""
    return [part.encode("utf-8", "replace") if isinstance(part, str) else part for part in command]


def store_failed(error: BaseException, address: Address, *, answered: bool = True) -> StoreFailed:
    """Return the failure that says what the server refused, and how to fix it; `answered` if it ever said anything else."""
    text = str(error) or type(error).__name__
    if isinstance(error, FencedOff):
        return Fenced(text)
    match error:
        case AuthenticationError():
            advice = "Set TEKTON_REDIS_PASSWORD (environment or .env.tekton) to its password."
        case OutOfMemoryError():
            advice = "Raise its `maxmemory`, or set memory.retention_days so that old conversations go."
        case ReadOnlyError():
            advice = "It is a replica: name the server that takes writes."
        case BusyLoadingError():
            advice = "It is still reading its data from disk: try again when it has."
        case ResponseError() if "NOAUTH" in text or "WRONGPASS" in text:
            advice = "Set TEKTON_REDIS_PASSWORD (environment or .env.tekton) to its password."
        case ResponseError() if "MISCONF" in text:
            advice = "It cannot write to its disk: free some space there."
        case ResponseError() if "NOREPLICAS" in text:
            advice = "Its setting min-replicas-to-write wants more replicas than follow it: bring them back, or lower it."
        case ResponseError():
            advice = "See the log of the Redis server."
        case _ if words := _tls_words(error, address):
            text, advice = words, "Nothing was sent to it."
        case _:
            advice = (
                "See that it runs and can be reached from here. What was being stored may or may not be kept; "
                "nothing is sent again by itself."
            )
    if text == SERVER_CLOSED and not answered and urlsplit(address.url).scheme == "redis":
        text = f"{text.rstrip('.')} (one with TLS has an address that begins with rediss)"
    said = text.partition(" script: ")[0].rstrip(" .")  # which script of ours it was stands in the evidence
    return StoreFailed(
        f"The conversation store failed: Redis at {address.shown}: {said}. {advice}", evidence=text
    )


def _tls_words(error: BaseException, address: Address) -> str:
    """Return in words why no TLS connection came about; empty where the failure is another, or came later."""
    if urlsplit(address.url).scheme != "rediss" or CONNECTING not in str(error):
        return ""
    cause: BaseException | None = error
    while cause is not None:
        if words := tls.failure(cause, urlsplit(address.url).hostname or address.shown):
            return words
        cause = cause.__cause__ or cause.__context__
    return ""
