"""Any OpenAI-compatible server through the client of the `openai` library: vLLM, llama.cpp, LM Studio, a remote gateway."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from typing import Any, Literal, cast

import msgspec

from backend.config import Address, Count, KeyedSettings, ProviderInfo
from backend.deadlines import loop_timeout
from backend.home import Home
from backend.providers.base import (
    CompletionRequest,
    ModelInfo,
    ProviderError,
    ProviderHealth,
    StreamItem,
)
from backend.providers.chat_messages import chat_messages, chat_options
from backend.providers.http import quiet_libraries, sdk_options, split_user
from backend.providers.lenient import as_object
from backend.providers.remote import RemoteProvider
from backend.providers.responses_items import response_items, response_options
from backend.providers.streams import ServerSentEvents, StreamReader, read, responses
from backend.providers.streams.openai import take
from backend.schema.content import Abilities
from backend.schema.frames import Usage

API = "https://api.openai.com/v1"
"""The one server of its protocol that certainly wants a key."""
ASK_TIMEOUT_S = 2.0
NO_KEY = "none"
"""What is sent as the key to a server that wants none."""
NO_TEMPERATURE = "no temperature was sent: providers.openai.send_temperature is off"
NO_SEED = "no seed was sent: the Responses API takes none"
NO_EFFORT = "no effort was sent: providers.openai.send_effort is off"
PARAMETERS = {
    "reasoning_effort": "set providers.openai.send_effort = false",
    "temperature": "set providers.openai.send_temperature = false",
    "stream_options": "set providers.openai.send_stream_options = false",
    "max_tokens": 'set providers.openai.max_tokens_name = "max_completion_tokens"',
    "max_completion_tokens": 'set providers.openai.max_tokens_name = "max_tokens"',
}
"""What to set for a server that refuses a parameter."""


class OpenAISettings(KeyedSettings, frozen=True):
    """`context` in tokens is for servers that do not say theirs.

    `send_temperature`, `send_stream_options` and `send_effort` are false for servers that refuse the one or the other;
    without the second most do not count tokens, which are estimated then. `max_tokens_name` is what the cap on an answer
    is called: `auto` follows OpenAI for its own address and everybody else for others. `tools` and `images` say whether
    the model takes them, where the server does not: false refuses before the call. `api` is the protocol: with
    `responses` signed thinking goes back to its model between tool calls, which chat completions cannot.
    """

    send_temperature: bool = True
    send_stream_options: bool = True
    send_effort: bool = True
    tools: bool | None = None
    images: bool | None = None
    api: Literal["chat", "responses"] = "chat"
    max_tokens_name: Literal["auto", "max_tokens", "max_completion_tokens"] = "auto"
    context: Count = 8192
    base_url: Address | None = None
    api_key_env: str = "OPENAI_API_KEY"
    max_concurrency: Count = 8


class OpenAIProvider(RemoteProvider[OpenAISettings]):
    """See `Provider`."""

    kind, who, setting = "openai", "the OpenAI-compatible server", "providers.openai.base_url"
    parameters = PARAMETERS

    def __init__(self, own: OpenAISettings, home: Home, environment: Mapping[str, str]) -> None:
        super().__init__(own, own.base_url or API, home, environment)
        self._http: Any = None
        """The HTTP client of the library's, with what it puts into the head of each request, and the address."""
        self._headers: dict[str, str] = {}
        self._url = ""

    async def stream(self, request: CompletionRequest) -> AsyncIterator[StreamItem]:
        model = request.model or self._own.model
        self._ready()
        if self._own.api == "responses":
            path, taking = "/responses", responses.take
            body, notes = self._response(request, model)
        else:
            path, taking = "/chat/completions", take
            body, notes = self._chat(request, model)
        reader = StreamReader(
            self._upstream(model), taking, ServerSentEvents(), offered=bool(request.options.offered)
        )
        reader.notes = notes
        try:
            async with (
                aclosing(self._streamed(path, {"model": model, "stream": True, **body}, reader)) as chunks,
                aclosing(read(chunks, reader)) as items,
            ):
                async for item in items:
                    yield item
        except Exception as error:
            raise self._failure(error, model, begun=reader.begun) from error

    async def health(self, model: str) -> ProviderHealth:
        try:
            async with loop_timeout(ASK_TIMEOUT_S):
                names = [info.name for info in await self.models()]
        except TimeoutError:
            return ProviderHealth(False, f"{self._where} did not answer within {ASK_TIMEOUT_S:g} s")
        except ProviderError as error:
            return ProviderHealth(False, error.message)
        if not model:
            return ProviderHealth(
                False,
                f"no model is named: set providers.openai.model; {self._where} has {', '.join(names[:8])}",
            )
        if model in names:
            return ProviderHealth(True, f"{self._where} answers")
        has = f"; it has {', '.join(names[:8])}" if names else ""
        return ProviderHealth(False, f"{self._where} has no model {model!r}{has}", model_missing=bool(names))

    async def models(self) -> list[ModelInfo]:
        try:
            listing = await self._ready().models.list()
            return [
                ModelInfo(entry.id, context_window=_window(entry), abilities=_abilities(entry))
                for entry in listing.data
            ]
        except Exception as error:
            raise self._failure(error, "") from error

    async def context_window(self, model: str) -> int:
        return (await self._said_of(model)).context_window or self._own.context

    async def abilities(self, model: str) -> Abilities:
        """Return what the settings or the server say; of most servers nobody knows, and they are asked."""
        found = (await self._said_of(model)).abilities
        said = {"tools": self._own.tools, "images": self._own.images}
        return msgspec.structs.replace(found, **{k: v for k, v in said.items() if v is not None})

    async def _said_of(self, model: str) -> ModelInfo:
        """Return what the server's listing says of a model, which may be nothing."""
        try:
            async with loop_timeout(ASK_TIMEOUT_S):
                infos = await self.models()
        except (ProviderError, TimeoutError):
            infos = []
        return next((info for info in infos if info.name == model), ModelInfo(model))

    async def embed(self, texts: list[str], model: str) -> tuple[list[list[float]], Usage]:
        """Return the vectors of texts in their order, and what that used. Raises `ProviderError`."""
        try:
            made = await self._ready().embeddings.create(
                model=model or self._own.model, input=texts, encoding_format="float"
            )
        except Exception as error:
            raise self._failure(error, model) from error
        vectors = [list(map(float, row.embedding)) for row in sorted(made.data, key=lambda row: row.index)]
        return vectors, Usage(input_tokens=getattr(made.usage, "prompt_tokens", 0) or 0)

    def _streamed(self, path: str, body: dict[str, Any], reader: StreamReader) -> AsyncGenerator[bytes]:
        """Yield the body of a streamed answer; see `_body_of`.

        By the client of the library and its headers, past its methods: these look at each key of each message and build
        an answer that is not used, which is 0.5 ms before anything is sent, and 0.1 ms for each message.
        """
        request = self._http.build_request(
            "POST", f"{self._url}{path}", headers=self._headers, content=msgspec.json.encode(body)
        )
        return self._body_of(self._http, request, body["model"], reader)

    def _chat(self, request: CompletionRequest, model: str) -> tuple[dict[str, Any], list[str]]:
        messages = [{"role": "system", "content": request.system}] if request.system else []
        # OpenAI's own chat completions take no thinking back; servers of open models do.
        own = "" if self._where == API else f"{self.kind}:{model}"
        messages += chat_messages(request.messages, thinking_to=own)
        options, notes = self._options(request)
        return {"messages": messages, **options}, notes

    def _response(self, request: CompletionRequest, model: str) -> tuple[dict[str, Any], list[str]]:
        """Return the body of a response; nothing of it is stored there, so its thinking comes back to us signed."""
        wishes, notes = request.options, list[str]()
        body: dict[str, Any] = {
            "input": response_items(request.messages, f"{self.kind}:{model}"),
            "store": False,
            "include": [
                "reasoning.encrypted_content",
                *(["message.output_text.logprobs"] if wishes.logprobs is not None else ()),
            ],
            **response_options(wishes),
        }
        if request.system:
            body["instructions"] = request.system
        if wishes.effort is not None and self._own.send_effort:
            shown = {} if wishes.effort == "none" else {"summary": "auto"}
            body["reasoning"] = {"effort": wishes.effort, **shown}
        elif wishes.effort is not None:
            notes.append(NO_EFFORT)
        if request.temperature is not None and self._own.send_temperature:
            body["temperature"] = request.temperature
        elif request.wished_temperature is not None:
            notes.append(NO_TEMPERATURE)
        if limit := request.max_tokens or self._own.max_tokens:
            body["max_output_tokens"] = limit
        if wishes.seed is not None:
            notes.append(NO_SEED)
        return body, notes

    def _options(self, request: CompletionRequest) -> tuple[dict[str, Any], list[str]]:
        """Return what is sent beside the messages, and what the operator should know of it."""
        options: dict[str, Any] = {}
        notes: list[str] = []
        options |= chat_options(request.options)
        if (effort := request.options.effort) is not None and self._own.send_effort:
            options["reasoning_effort"] = effort
        elif effort is not None:
            notes.append(NO_EFFORT)
        if self._own.send_stream_options:
            options["stream_options"] = {"include_usage": True}
        if request.temperature is not None and self._own.send_temperature:
            options["temperature"] = request.temperature
        elif request.wished_temperature is not None:
            notes.append(NO_TEMPERATURE)
        if limit := request.max_tokens or self._own.max_tokens:
            name = self._own.max_tokens_name
            options[
                ("max_completion_tokens" if self._where == API else "max_tokens") if name == "auto" else name
            ] = limit
        return options, notes

    def _open(self) -> Any:
        import openai

        quiet_libraries()
        # Kept, as `_streamed` asks by this very HTTP client: one pool of connections, one set of time-outs.
        options = sdk_options(openai, self._address, self._own.timeouts.connect)
        client: Any = openai.AsyncOpenAI(api_key=self._key or NO_KEY, **options)
        _ = client.models  # it imports the rest
        self._http, self._url = options["http_client"], self._address.rstrip("/")
        # The library marks a header that is to be left out by a value that is no text.
        head = {**client.default_headers, **client.auth_headers}
        self._headers = {name: text for name, text in head.items() if isinstance(text, str)}
        return client


def _window(entry: Any) -> int:
    """Return a model's window where the server says it: vLLM and llama.cpp do, each its own way."""
    extra: Mapping[str, Any] = getattr(entry, "model_extra", None) or {}
    meta: Mapping[str, Any] = extra.get("meta") or {}
    return int(extra.get("max_model_len") or meta.get("n_ctx") or meta.get("n_ctx_train") or 0)


def _abilities(entry: Any) -> Abilities:
    """Return what a model takes where the server says it, as another gateway of ours and OpenRouter do."""
    extra: Mapping[str, Any] = getattr(entry, "model_extra", None) or {}
    if isinstance(said := extra.get("abilities"), dict):
        with suppress(msgspec.ValidationError):
            return msgspec.convert(said, Abilities)
    parameters, shape = extra.get("supported_parameters"), extra.get("architecture")
    inputs = as_object(shape).get("input_modalities")
    known = cast(list[str], parameters) if isinstance(parameters, list) else None
    return Abilities(
        tools=None if known is None else "tools" in known,
        images=None if not isinstance(inputs, list) else "image" in inputs,
        files=None if not isinstance(inputs, list) else "file" in inputs,
        thinking=None if known is None else "reasoning" in known,
        schema=None if known is None else "structured_outputs" in known or "response_format" in known,
    )


def _missing_key(own: OpenAISettings) -> str:
    if split_user(own.base_url or API)[0] != API:
        return ""
    return f"no key for OpenAI: set {own.api_key_env}, or providers.openai.base_url for another server"


PROVIDER = ProviderInfo(
    kind="openai",
    settings=OpenAISettings,
    make=OpenAIProvider,
    help="any OpenAI-compatible server: vLLM, llama.cpp, LM Studio, a gateway",
    fix="correct providers.openai.base_url, its model or its key; see that the server runs",
    remote=True,
    worker_bytes=60 << 20,
    variables={"OPENAI_BASE_URL": "base_url"},
    missing_key=_missing_key,
)
