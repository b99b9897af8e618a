"""Which provider `auto` means on this machine, and why, in words for the operator."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping

from backend.config import ConfigError, Settings
from backend.home import Home
from backend.providers.keys import find_key
from backend.providers.names import display_name
from backend.providers.sdk import is_loopback, split_user
from backend.schema.records import ProviderChoice

PROBE_TIMEOUT_S = 0.8
MAX_LISTING_BYTES = 1 << 20


async def choose(settings: Settings, home: Home, environment: Mapping[str, str]) -> ProviderChoice:
    """Return the platform's provider and model. A provider named explicitly is taken as it is, whatever its state.

    `auto`: Ollama if it answers within `PROBE_TIMEOUT_S` and has the model, else Anthropic if a key is set, else the
    embedded model.
    """
    kind = settings.providers.default
    if kind != "auto":
        return _named(kind, default_model(kind, settings), "named in the configuration")
    ollama = settings.providers.ollama
    where, user = split_user(ollama.host)
    try:
        problem = await asyncio.wait_for(
            asyncio.to_thread(_ollama_problem, where, ollama.model, user), PROBE_TIMEOUT_S
        )
    except TimeoutError:  # the thread ends by its own time-outs, heard by nobody
        problem = f"Ollama at {where} did not answer"
    if not problem:
        return _named("ollama", ollama.model, f"Ollama answers at {where} and has the model")
    try:
        key, missing = find_key(settings.providers.anthropic, home, environment), "no Anthropic key"
    except ConfigError as error:
        key, missing = "", error.message
    if key:
        return _named("anthropic", settings.providers.anthropic.model, f"{problem}; an Anthropic key is set")
    return _named("embedded", default_model("embedded", settings), f"{problem}; {missing}")


def _ollama_problem(host: str, model: str, authorization: str) -> str:
    """Return why Ollama cannot be used, empty when it can."""
    proxies = urllib.request.ProxyHandler({} if is_loopback(host) else None)
    headers = {"Authorization": authorization} if authorization else {}
    try:
        request = urllib.request.Request(f"{host.rstrip('/')}/api/tags", headers=headers)
        with urllib.request.build_opener(proxies).open(request, timeout=PROBE_TIMEOUT_S) as answer:
            names = {entry["name"] for entry in json.loads(answer.read(MAX_LISTING_BYTES))["models"]}
    except urllib.error.HTTPError as error:
        error.close()
        return f"Ollama at {host} answers {error.code}"
    except (OSError, ValueError, KeyError, TypeError):
        return "Ollama not found"
    wanted = {model, f"{model}:latest"}
    return "" if names & wanted else f"Ollama has no {model} (`ollama pull {model}`)"


def default_model(kind: str, settings: Settings) -> str:
    """Return the model a provider uses that is told no other; empty when its settings must name one and do not."""
    if kind == "embedded":
        from backend.providers.weights import model_name

        return model_name(settings)
    return getattr(getattr(settings.providers, kind), "model", kind)


def _named(kind: str, model: str, reason: str) -> ProviderChoice:
    return ProviderChoice(kind, model, reason, display_name(kind, model))
