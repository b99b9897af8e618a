"""Anthropic, asked through its own library and read as bytes. The library takes no temperature: a note says so."""

from __future__ import annotations

import asyncio
import re
import sys
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from datetime import date, datetime
from typing import Any, get_args

from backend.config import Address, Count, KeyedSettings, ProviderInfo
from backend.deadlines import loop_timeout
from backend.home import Home
from backend.providers.anthropic_messages import anthropic_messages, anthropic_options
from backend.providers.base import (
    CompletionRequest,
    ContextOverflow,
    ModelInfo,
    ModelNotFound,
    ProviderError,
    ProviderHealth,
    StreamItem,
)
from backend.providers.choice import display_name
from backend.providers.http import quiet_libraries, sdk_options
from backend.providers.remote import RemoteProvider
from backend.providers.streams import ServerSentEvents, StreamReader, read
from backend.providers.streams.anthropic import take
from backend.schema.content import Abilities, AnswerOptions

API = "https://api.anthropic.com"
ASK_TIMEOUT_S = 2.0
DEFAULT_WINDOW = 200_000
"""Tokens, of a model the server says nothing about."""
COUNTED_TEXTS = 24
"""More texts than this are not counted by the server: a call each would run into its rate limit."""
NO_TEMPERATURE = "this provider takes no temperature; the specialist's was not sent"
SHOWN = 8
RETIRED = "was retired on"


class AnthropicSettings(KeyedSettings, frozen=True):
    base_url: Address | None = None
    model: str = "claude-sonnet-5-5"
    api_key_env: str = "ANTHROPIC_API_KEY"
    max_tokens: Count = 4096
    max_concurrency: Count = 8


class AnthropicProvider(RemoteProvider[AnthropicSettings]):
    """See `Provider`."""

    kind, who, setting = "anthropic", "Anthropic", "providers.anthropic.base_url"

    def __init__(self, own: AnthropicSettings, home: Home, environment: Mapping[str, str]) -> None:
        super().__init__(own, own.base_url or API, home, environment)
        self._infos: dict[str, ModelInfo | None] = {}

    async def stream(self, request: CompletionRequest) -> AsyncIterator[StreamItem]:
        model = request.model or self._own.model
        notes = [NO_TEMPERATURE] if request.wished_temperature is not None else []
        if retires := self._refused_if_retired(model):
            notes.append(f"{model} {retires}")
        wanted: dict[str, Any] = {}
        if request.options != AnswerOptions():
            wanted, more = anthropic_options(request.options, await self.abilities(model))
            notes += more
        reader = StreamReader(
            self._upstream(model), take, ServerSentEvents(), offered=bool(request.options.offered)
        )
        reader.notes = notes
        # Anthropic caches a prompt only where a request says so, hence `cache_control` below.
        messages = self._ready().messages.with_streaming_response
        try:
            async with messages.create(
                model=model, messages=anthropic_messages(request.messages, f"{self.kind}:{model}"), stream=True,
                max_tokens=request.max_tokens or self._own.max_tokens, cache_control={"type": "ephemeral"},
                **({"system": request.system} if request.system else {}), **wanted,
            ) as response:  # fmt: skip
                reader.answered(response.status_code, response.headers.get("content-type", ""))
                async with aclosing(read(response.iter_bytes(), reader)) as items:
                    async for item in items:
                        yield item
        except Exception as error:
            raise self._failure(error, model, begun=reader.begun) from error

    async def health(self, model: str) -> ProviderHealth:
        try:
            self._refused_if_retired(model)
            async with loop_timeout(ASK_TIMEOUT_S):
                infos = await self.models()
        except TimeoutError:
            return ProviderHealth(False, f"{self._where} did not answer within {ASK_TIMEOUT_S:g} s")
        except ProviderError as error:
            return ProviderHealth(False, error.message, model_missing=isinstance(error, ModelNotFound))
        found = next((info for info in infos if _DAY.sub("", info.name) == _DAY.sub("", model)), None)
        if found is not None or not model or not infos:
            detail = f"{self._where} answers"
            return ProviderHealth(True, f"{detail}; {found.detail}" if found and found.detail else detail)
        return ProviderHealth(False, _unknown(model, [info.name for info in infos]), model_missing=True)

    async def models(self) -> list[ModelInfo]:
        try:
            listing = await self._ready().models.list(limit=100)
            return [_info(entry) for entry in listing.data if getattr(entry, "lifecycle", "") != "retired"]
        except Exception as error:
            raise self._failure(error, "") from error

    async def context_window(self, model: str) -> int:
        info = await self._info(model)
        return info.context_window if info and info.context_window else DEFAULT_WINDOW

    async def abilities(self, model: str) -> Abilities:
        info = await self._info(model)
        if info is not None and info.abilities != Abilities():
            return info.abilities
        return Abilities(tools=True, logprobs=False)

    async def _info(self, model: str) -> ModelInfo | None:
        """Return what the server says of a model, asked once; `None` when it says nothing."""
        if model not in self._infos:
            try:
                async with loop_timeout(ASK_TIMEOUT_S):
                    infos = await self.models()
            except (ProviderError, TimeoutError):
                return None
            self._infos.update({info.name: info for info in infos})
            self._infos.setdefault(model, None)
        return self._infos[model]

    async def count_tokens(self, texts: list[str], model: str) -> list[int] | None:
        """Ask the server for each text; a call a text, so only a short list is counted."""
        if len(texts) > COUNTED_TEXTS:
            return None
        try:
            # The server refuses an empty message, so a full stop stands for a text without characters.
            counted = [
                self._ready().messages.count_tokens(
                    model=model, messages=[{"role": "user", "content": text if text.strip() else "."}]
                )
                for text in texts
            ]
            # Side by side: each is a way there and back.
            return [answer.input_tokens for answer in await asyncio.gather(*counted)]
        except Exception:  # a count is a convenience: the estimate serves instead
            return None

    def _open(self) -> Any:
        import anthropic

        quiet_libraries()
        warnings.filterwarnings("ignore", message="The model '", category=DeprecationWarning)  # noted instead
        client: Any = anthropic.AsyncAnthropic(
            api_key=self._key, **sdk_options(anthropic, self._address, self._own.timeouts.connect)
        )
        _ = client.messages.with_streaming_response, client.models  # they import the rest
        return client

    def _refused_if_retired(self, model: str) -> str:
        """Return when a model ends, empty for a current one. Another server than Anthropic's may still have it.

        Raises:
            ModelNotFound: Anthropic has retired it; the message names current ones.
        """
        ends = retirement(model)
        if ends.startswith(RETIRED) and self._where == API:
            raise ModelNotFound(_unknown(model, current_models()))
        return ends

    def _failure(self, error: Exception, model: str, *, begun: bool = False) -> ProviderError:
        found = super()._failure(error, model, begun=begun)
        if isinstance(found, ModelNotFound) and self._where == API:
            return ModelNotFound(_unknown(model, current_models()), evidence=found.evidence)
        if isinstance(found, ContextOverflow):
            info = self._infos.get(model)
            found.detail["window"] = info.context_window if info and info.context_window else DEFAULT_WINDOW
        return found


_DAY = re.compile(r"-(?:\d{8}|latest)$")
"""What a listed name may have behind the one in the settings, and the other way round."""


def _unknown(model: str, names: list[str]) -> str:
    retires = retirement(model)
    why = f"{model!r} {retires}" if retires else f"Anthropic offers no {model!r}"
    return f"{why}. Current names: {', '.join(names[:8])}"


def _info(entry: Any) -> ModelInfo:
    detail = ""
    if getattr(entry, "lifecycle", "") == "deprecated":
        ends = getattr(entry, "retires_at", None)
        detail = f"deprecated, ends {ends:%Y-%m-%d}" if ends else "deprecated"
    return ModelInfo(
        entry.id,
        getattr(entry, "display_name", "") or display_name("anthropic", entry.id),
        context_window=getattr(entry, "max_input_tokens", None) or 0,
        detail=detail,
        abilities=_abilities(entry),
    )


def _abilities(entry: Any) -> Abilities:
    """Return what the server says a model can do; every current model takes tools, which it has no word for."""
    said = getattr(entry, "capabilities", None)
    if said is None:
        return Abilities()

    def can(name: str) -> bool | None:
        return getattr(getattr(said, name, None), "supported", None)

    return Abilities(
        True, can("image_input"), can("pdf_input"), can("thinking"), can("structured_outputs"), logprobs=False
    )


def current_models() -> list[str]:
    """Return the names the library knows and does not call deprecated, dated duplicates left out; newest first."""
    from anthropic.types import model_param

    names: list[str] = []
    for part in get_args(model_param.ModelParam):
        names += [name for name in get_args(part) if isinstance(name, str)]
    ends = _deprecated()
    return [name for name in names if name not in ends and not name[-8:].isdigit()][:SHOWN]


def retirement(model: str, today: date | None = None) -> str:
    """Return `was retired on …` or `ends on …` for a model the library calls deprecated, else an empty text.

    Says nothing as long as the library is not imported: importing it takes seconds.
    """
    end = _deprecated().get(model)
    if end is None:
        return ""
    day = _read_day(end)
    if day is None:
        return f"is deprecated ({end})"
    return f"{RETIRED} {day}" if day <= (today or date.today()) else f"ends on {day}: choose a newer model"


def _deprecated() -> Mapping[str, str]:
    if "anthropic" not in sys.modules:
        return {}
    from anthropic.resources.messages.messages import DEPRECATED_MODELS

    return DEPRECATED_MODELS


def _read_day(text: str) -> date | None:
    """Read `June 15th, 2026`."""
    month, _, rest = text.partition(" ")
    day, _, year = rest.partition(", ")
    try:
        return datetime.strptime(f"{month} {day.rstrip('stndrh')} {year}", "%B %d %Y").date()
    except ValueError:
        return None


PROVIDER = ProviderInfo(
    kind="anthropic",
    settings=AnthropicSettings,
    make=AnthropicProvider,
    help="Claude",
    fix="set ANTHROPIC_API_KEY, or providers.anthropic.api_key_file; see that the network lets it through",
    remote=True,
    worker_bytes=95 << 20,
    variables={"ANTHROPIC_BASE_URL": "base_url"},
    missing_key=lambda own: (
        f"no key for Anthropic: set {own.api_key_env}, or providers.anthropic.api_key_file"
    ),
)
