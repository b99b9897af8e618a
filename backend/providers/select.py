"""Which provider `auto` means on this machine, and why, in words for the operator."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Mapping

from backend.config import Settings
from backend.home import Home
from backend.providers.keys import find_key
from backend.providers.names import display_name
from backend.schema.records import ProviderChoice

PROBE_TIMEOUT_S = 0.8


async def choose(settings: Settings, home: Home, environment: Mapping[str, str]) -> ProviderChoice:
    """Return the platform's provider and model. A provider named explicitly is taken as it is, whatever its state.

    `auto`: Ollama if it answers and has the model, else Anthropic if a key is set, else the embedded model.
    """
    kind = settings.providers.default
    if kind != "auto":
        return _named(kind, _model(kind, settings), "named in the configuration")
    ollama = settings.providers.ollama
    problem = await asyncio.to_thread(_ollama_problem, ollama.host, ollama.model)
    if not problem:
        return _named("ollama", ollama.model, f"Ollama answers at {ollama.host} and has the model")
    if find_key(settings.providers.anthropic, home, environment):
        return _named("anthropic", settings.providers.anthropic.model, f"{problem}; an Anthropic key is set")
    return _named("embedded", _model("embedded", settings), f"{problem}; no Anthropic key")


def _ollama_problem(host: str, model: str) -> str:
    """Return why Ollama cannot be used, empty when it can."""
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{host.rstrip('/')}/api/tags", timeout=PROBE_TIMEOUT_S) as answer:
            names = {entry["name"] for entry in json.load(answer)["models"]}
    except (OSError, ValueError, KeyError, TypeError):
        return "Ollama not found"
    wanted = {model, f"{model}:latest"}
    return "" if names & wanted else f"Ollama has no {model} (`ollama pull {model}`)"


def _model(kind: str, settings: Settings) -> str:
    if kind == "embedded":
        from backend.providers.weights import MODEL_NAME

        gguf = settings.providers.embedded.gguf
        return gguf.rpartition("/")[2].removesuffix(".gguf") if gguf else MODEL_NAME
    return getattr(getattr(settings.providers, kind), "model", kind)


def _named(kind: str, model: str, reason: str) -> ProviderChoice:
    return ProviderChoice(kind, model, reason, display_name(kind, model))
