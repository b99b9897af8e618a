"""Which provider `auto` means on this machine, and why, in words for the operator."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Mapping

from backend.config import ConfigError, Settings
from backend.home import Home
from backend.providers.keys import find_key
from backend.providers.names import display_name
from backend.providers.sdk import is_loopback
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
        return _named(kind, _model(kind, settings), "named in the configuration")
    ollama = settings.providers.ollama
    try:
        problem = await asyncio.wait_for(
            asyncio.to_thread(_ollama_problem, ollama.host, ollama.model), PROBE_TIMEOUT_S
        )
    except TimeoutError:  # the thread ends by its own time-outs, heard by nobody
        problem = f"Ollama at {ollama.host} did not answer"
    if not problem:
        return _named("ollama", ollama.model, f"Ollama answers at {ollama.host} and has the model")
    try:
        key, missing = find_key(settings.providers.anthropic, home, environment), "no Anthropic key"
    except ConfigError as error:
        key, missing = "", error.message
    if key:
        return _named("anthropic", settings.providers.anthropic.model, f"{problem}; an Anthropic key is set")
    return _named("embedded", _model("embedded", settings), f"{problem}; {missing}")


def _ollama_problem(host: str, model: str) -> str:
    """Return why Ollama cannot be used, empty when it can."""
    proxies = urllib.request.ProxyHandler({} if is_loopback(host) else None)
    try:
        opener = urllib.request.build_opener(proxies)
        with opener.open(f"{host.rstrip('/')}/api/tags", timeout=PROBE_TIMEOUT_S) as answer:
            names = {entry["name"] for entry in json.loads(answer.read(MAX_LISTING_BYTES))["models"]}
    except (OSError, ValueError, KeyError, TypeError):
        return "Ollama not found"
    wanted = {model, f"{model}:latest"}
    return "" if names & wanted else f"Ollama has no {model} (`ollama pull {model}`)"


def _model(kind: str, settings: Settings) -> str:
    if kind == "embedded":
        from backend.providers.weights import model_name

        return model_name(settings)
    return getattr(getattr(settings.providers, kind), "model", kind)


def _named(kind: str, model: str, reason: str) -> ProviderChoice:
    return ProviderChoice(kind, model, reason, display_name(kind, model))
