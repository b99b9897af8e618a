"""Ollama over HTTP. One prompt is one chat call; a model that is loading says so."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, cast
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from backend.config import BareAddress, KeyedSettings, ProviderInfo
from backend.deadlines import loop_timeout
from backend.home import Home
from backend.providers import base
from backend.providers.chat_messages import arguments_object, chat_tools, result_text
from backend.providers.choice import display_name
from backend.providers.http import client_options, from_error, quiet_libraries, read_error
from backend.providers.lenient import as_object
from backend.providers.remote import RemoteProvider
from backend.providers.streams import JsonLines, StreamReader, decode, read
from backend.providers.streams.answer import count
from backend.providers.streams.framing import Malformed
from backend.providers.streams.ollama import take
from backend.schema.content import (
    Abilities,
    AnswerOptions,
    ChatMessage,
    Effort,
    ImagePart,
    ToolCall,
    ToolResult,
)
from backend.schema.frames import Usage

if TYPE_CHECKING:
    import httpx

WHO = "Ollama"
ASK_TIMEOUT_S = 2.0
LOADING_AFTER_S = 0.4
"""After so long without a first token it is worth asking whether the model is being loaded."""
EMBED_TIMEOUT_S = 100.0
SHOW_TIMEOUT_S = 10.0
"""For a model's facts before its first chat: without its window, Ollama would cut the prompt in silence."""
MAX_BYTES = 1 << 50
"""More than any model has; a larger number is not taken for a size."""
DEFAULT_WINDOW = 4096
"""Tokens Ollama gives a model when nobody asks for more."""
PORT = 11434
EFFORTS: dict[Effort, bool | str] = {"none": False, "minimal": "low", "xhigh": "high", "max": "high"}
"""What Ollama calls a degree of effort, where it has another word."""
_PORT = re.compile(r":\d+/?$")
_NUM_CTX = re.compile(r"^num_ctx\s+(\d+)", re.MULTILINE)


class OllamaSettings(KeyedSettings, frozen=True):
    """`host` as in `OLLAMA_HOST`: an address, or a bare name with or without a port.

    `context` in tokens is asked of Ollama with each chat, unless the model file names its own; 0 asks nothing. Left
    alone, Ollama cuts longer prompts without a word.
    """

    host: BareAddress = "http://127.0.0.1:11434"
    model: str = "llama3.3:70b"
    context: Annotated[int, Meta(ge=0)] = 8192
    api_key_env: str = "OLLAMA_API_KEY"

    @property
    def address(self) -> str:
        """The host as an address, read as Ollama itself reads it: a bare name means its own port."""
        if "://" in self.host:
            return self.host
        return f"http://{self.host}" if _PORT.search(self.host) else f"http://{self.host}:{PORT}"


class _Window(Struct, frozen=True):
    """Tokens a chat may take, whether Ollama must be asked for them, and what the model takes beside text."""

    tokens: int
    asked: bool
    abilities: Abilities


class OllamaProvider(RemoteProvider[OllamaSettings]):
    """See `Provider`."""

    kind, who, setting = "ollama", WHO, "providers.ollama.host"

    def __init__(self, own: OllamaSettings, home: Home, environment: Mapping[str, str]) -> None:
        super().__init__(own, own.address, home, environment)
        self._windows: dict[str, _Window] = {}

    async def stream(self, request: base.CompletionRequest) -> AsyncIterator[base.StreamItem]:
        model = request.model or self._own.model
        messages = [{"role": "system", "content": request.system}] if request.system else []
        messages += ollama_messages(request.messages)
        offered = request.options.offered
        reader = StreamReader(self._upstream(model), take, JsonLines(), offered=bool(offered))
        try:
            body: dict[str, Any] = {"model": model, "messages": messages, "stream": True}
            body["options"] = await self._options(request, model)
            if offered:
                body["tools"] = chat_tools(offered)
            reader.notes = await self._add_wishes(body, request.options, model)
            async with aclosing(self._streamed("/api/chat", body, reader)) as chunks:
                # As a task, so that it can be looked at after a moment without giving the wait for it up.
                first = asyncio.ensure_future(anext(chunks, b""))
                try:
                    await asyncio.wait({first}, timeout=LOADING_AFTER_S)
                    if not first.done() and not await self._loaded(model):
                        yield base.Loading(f"loading {display_name('ollama', model)}")
                    async with aclosing(read(_joined(first, chunks), reader)) as items:
                        async for item in items:
                            yield item
                finally:
                    # Before the stream is closed: a generator that somebody still awaits cannot be.
                    first.cancel()
                    await asyncio.gather(first, return_exceptions=True)
        except Exception as error:
            raise self._failure(error, model, begun=reader.begun) from error

    async def health(self, model: str) -> base.ProviderHealth:
        try:
            names = [info.name for info in await self._listed(ASK_TIMEOUT_S)]
        except base.ProviderError as error:
            return base.ProviderHealth(False, error.message)
        if _is_among(model, names):
            return base.ProviderHealth(True, f"{self._where} has {model}")
        return base.ProviderHealth(False, _not_pulled(model), model_missing=True)

    async def models(self) -> list[base.ModelInfo]:
        return await self._listed(ASK_TIMEOUT_S * 2)

    async def context_window(self, model: str) -> int:
        """Return what a chat may take: the model file's own `num_ctx`, else what we ask of Ollama."""
        try:
            return (await self._window(model)).tokens
        except Exception as error:
            raise self._failure(error, model) from error

    async def abilities(self, model: str) -> Abilities:
        """Return what Ollama says of a model; versions before 0.6 say nothing."""
        try:
            return (await self._window(model)).abilities
        except Exception:  # the chat itself will say what is wrong
            return Abilities()

    async def embed(self, texts: list[str], model: str) -> tuple[list[list[float]], Usage]:
        """Return the vectors of texts in their order, and what that used. Raises `ProviderError`."""
        body = {"model": model, "input": texts}
        try:
            made = await self._ask("/api/embed", body, timeout_s=EMBED_TIMEOUT_S, model=model)
        except Exception as error:
            raise self._failure(error, model) from error
        try:
            vectors = msgspec.convert(made.get("embeddings"), list[list[float]])
        except msgspec.ValidationError as error:
            raise base.ProviderFault(f"{WHO} answered no vectors: {error}") from error
        count = made.get("prompt_eval_count")
        return vectors, Usage(input_tokens=count if isinstance(count, int) else 0)

    async def _add_wishes(self, body: dict[str, Any], options: AnswerOptions, model: str) -> list[str]:
        """Put format and thinking into a chat's body; return notes on what is not held."""
        notes: list[str] = []
        if (wanted := options.format) is not None and wanted.kind != "text":
            body["format"] = "json" if wanted.kind == "json" else wanted.schema
        if options.logprobs is not None:
            body["logprobs"], body["top_logprobs"] = True, options.logprobs
        if (choice := options.choice) is not None and choice.mode in ("required", "named"):
            notes.append("Ollama knows no tool_choice: the model was free to answer without a tool")
        if (effort := options.effort) is not None:
            if (await self.abilities(model)).thinking:
                body["think"] = EFFORTS.get(effort, effort)
            elif effort != "none":
                notes.append(f"effort {effort} was not sent: {model} does not think before it answers")
        return notes

    async def pull(self, model: str) -> AsyncIterator[base.Loading]:
        """Have Ollama fetch a model; yields its progress in words and bytes.

        Closing the iterator ends the fetch; Ollama keeps what it has and goes on from there another time.
        """
        lines = JsonLines()
        if self._client is None:
            await self.prepare()
        try:
            async with aclosing(self._streamed("/api/pull", {"model": model, "stream": True})) as chunks:
                async for data in chunks:
                    for line in lines.feed(data):
                        step = _object(decode(line.data))
                        if step.get("error"):
                            raise from_error(self._upstream(model), step)
                        yield _progress(step)
        except Exception as error:
            raise self._failure(error, model) from error

    def _open(self) -> httpx.AsyncClient:
        import httpx

        quiet_libraries()
        return httpx.AsyncClient(
            base_url=self._where,
            timeout=httpx.Timeout(None, connect=self._own.timeouts.connect),
            headers={"authorization": said} if (said := self._authorization()) else None,
            **client_options(httpx, self._where),
        )

    def _authorization(self) -> str:
        return f"Bearer {self._key}" if self._key else self._user

    def _streamed(
        self, path: str, body: dict[str, Any], reader: StreamReader | None = None
    ) -> AsyncGenerator[bytes]:
        """Yield the body of a streamed answer; see `_body_of`."""
        client: httpx.AsyncClient = self._ready()
        return self._body_of(client, client.build_request("POST", path, json=body), body["model"], reader)

    async def _ask(
        self, path: str, body: dict[str, Any] | None = None, *, timeout_s: float, model: str = ""
    ) -> dict[str, Any]:
        """Return the object of an answer that is not streamed.

        Raises:
            ProviderError: Ollama refused, or what it said is no object.
            Exception: What the connection broke with.
        """
        async with loop_timeout(timeout_s):
            response = await self._ready().request("GET" if body is None else "POST", path, json=body)
        if not response.is_success:
            raise self._refused(model, response, response.text)
        return _object(decode(response.content))

    async def _options(self, request: base.CompletionRequest, model: str) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if request.temperature is not None:
            options["temperature"] = request.temperature
        if limit := request.max_tokens or self._own.max_tokens:
            options["num_predict"] = limit
        wishes = request.options
        options |= {"stop": wishes.stops} if wishes.stops else {}
        options |= {"seed": wishes.seed} if wishes.seed is not None else {}
        options |= {"top_p": wishes.top_p} if wishes.top_p is not None else {}
        window = await self._window(model)
        if window.asked:
            options["num_ctx"] = window.tokens
        return options

    async def _window(self, model: str) -> _Window:
        """Find out a model's window, once; what cannot be found out now is tried again with the next turn."""
        if model not in self._windows:
            shown = await self._ask("/api/show", {"model": model}, timeout_s=SHOW_TIMEOUT_S, model=model)
            facts, parameters = shown.get("model_info"), shown.get("parameters")
            lengths = as_object(facts).items()
            largest = next(
                (count(value) or 0 for name, value in lengths if name.endswith(".context_length")), 0
            )
            can = _abilities(shown.get("capabilities"))
            if named := _NUM_CTX.search(parameters if isinstance(parameters, str) else ""):
                self._windows[model] = _Window(int(named[1]), False, can)
            elif self._own.context:
                wanted = min(self._own.context, largest or self._own.context)
                self._windows[model] = _Window(wanted, True, can)
            else:
                self._windows[model] = _Window(min(DEFAULT_WINDOW, largest or DEFAULT_WINDOW), False, can)
        return self._windows[model]

    async def _loaded(self, model: str) -> bool:
        """Return whether the model is in memory now; unknown counts as yes."""
        try:
            running = _models(await self._ask("/api/ps", timeout_s=ASK_TIMEOUT_S))
        except Exception:  # only a courtesy: the chat itself will say what is wrong
            return True
        return _is_among(model, [info.name for info in running])

    async def _listed(self, timeout_s: float) -> list[base.ModelInfo]:
        try:
            return _models(await self._ask("/api/tags", timeout_s=timeout_s))
        except Exception as error:
            raise self._failure(error, "") from error

    def _secrets(self) -> tuple[str, ...]:
        return (self._key, self._user, urlsplit(self._address).password or "")

    def _refused(self, model: str, response: httpx.Response, body: str) -> base.ProviderError:
        """Return the error for a status; a 404 is about the model only where Ollama's own words name it."""
        upstream, words = self._upstream(model), read_error(body)
        if response.status_code == 404 and words.is_object and model and model in words.message:
            return base.ModelNotFound(_not_pulled(model), evidence=upstream.evidence(body))
        return super()._refused(model, response, body)


async def _joined(first: asyncio.Future[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the part that was awaited ahead, then the others."""
    yield await first
    async for part in rest:
        yield part


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed(f"an object was expected, not {value!r:.60}")
    return cast(dict[str, Any], value)


def _models(listing: dict[str, Any]) -> list[base.ModelInfo]:
    """Return the models of a listing, by either of the names Ollama gives them."""
    rows = listing.get("models")
    if not isinstance(rows, list):
        raise Malformed(f"models should be a list, not {rows!r:.60}")
    entries = [_object(row) for row in cast(list[object], rows)]
    names = [str(entry.get("model") or entry.get("name") or "") for entry in entries]
    sizes = [count(entry.get("size"), MAX_BYTES) or 0 for entry in entries]
    return [
        base.ModelInfo(
            name, display_name("ollama", name), size, abilities=_abilities(entry.get("capabilities"))
        )
        for name, size, entry in zip(names, sizes, entries, strict=True)
    ]


def _abilities(said: object) -> Abilities:
    if not isinstance(said, list):
        return Abilities()
    names = cast(list[object], said)
    return Abilities("tools" in names, "vision" in names, False, "thinking" in names, schema=True)


def ollama_messages(messages: Iterable[ChatMessage]) -> list[dict[str, Any]]:
    """Return messages as Ollama has them: bytes of pictures on the message, results of tools by the tool's name."""
    sent: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for message in messages:
        calls = [part for part in message.parts if isinstance(part, ToolCall)]
        names |= {call.id: call.name for call in calls}
        for part in message.parts:
            if isinstance(part, ToolResult):
                name = part.name or names.get(part.call_id, part.call_id)
                pictures = [inner for inner in part.parts if isinstance(inner, ImagePart)]
                sent.append(
                    {"role": "tool", "tool_name": name, "content": result_text(part), **_pictures(pictures)}
                )
        pictures = [part for part in message.parts if isinstance(part, ImagePart)]
        results = any(isinstance(part, ToolResult) for part in message.parts)
        if results and not message.content and not pictures:
            continue
        value: dict[str, Any] = {"role": message.role, "content": message.content, **_pictures(pictures)}
        if calls:
            value["tool_calls"] = [
                {"function": {"name": call.name, "arguments": arguments_object(call)}} for call in calls
            ]
        sent.append(value)
    return sent


def _pictures(parts: list[ImagePart]) -> dict[str, list[str]]:
    if any(part.url and not part.data for part in parts):
        raise base.Unable("Ollama takes the bytes of a picture, not its address: send it in base64")
    return {"images": [part.data for part in parts]} if parts else {}


def _progress(step: dict[str, Any]) -> base.Loading:
    done, total = (count(step.get(name), MAX_BYTES) or 0 for name in ("completed", "total"))
    share = f" {100 * done // total} % of {total / 1e9:.1f} GB" if total else ""
    return base.Loading(f"{step.get('status') or ''}{share}", done, total)


def _is_among(model: str, names: list[str]) -> bool:
    return model in names or f"{model}:latest" in names


def _not_pulled(model: str) -> str:
    return f"Ollama has no model {model!r}: run `ollama pull {model}`, or `tekton models pull {model}`"


PROVIDER = ProviderInfo(
    kind="ollama",
    settings=OllamaSettings,
    make=OllamaProvider,
    help="a local or remote Ollama",
    fix="start it with `ollama serve`, fetch the model with `ollama pull MODEL`, or correct providers.ollama",
    remote=True,
    free=True,
    worker_bytes=36 << 20,
    variables={"OLLAMA_HOST": "host"},
)
