"""Which provider and model are used on this machine, why, and what a model is called on the screen."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from backend.config import Settings, find_provider, usable_provider
from backend.home import Home, write_private
from backend.schema.records import ProviderChoice

_CLAUDE = re.compile(r"claude-([a-z]+)-(\d+)(?:-(\d{1,2}))?(?:-\d{8})?$")
_GPT = re.compile(r"gpt-([^-]+)(?:-(.+))?$")


def read_choice(home: Home) -> ProviderChoice | None:
    """Return what the operator chose by hand; `None` when nothing was, or the provider is not there any more."""
    try:
        choice = msgspec.json.decode(home.model_choice.read_bytes(), type=ProviderChoice)
    except (OSError, msgspec.DecodeError):
        return None
    return choice if usable_provider(choice.provider) else None


def write_choice(home: Home, choice: ProviderChoice | None) -> None:
    """Keep a choice for the next start; `None` forgets it."""
    if choice is None:
        home.model_choice.unlink(missing_ok=True)
    else:
        write_private(home.model_choice, msgspec.json.encode(choice))


def settings_with(settings: Settings, choice: ProviderChoice) -> Settings:
    """Return the settings with the address of a server that was found, asked without the key for OpenAI."""
    if choice.provider != "openai" or not choice.address:
        return settings
    own: Any = find_provider("openai").own(settings)
    if (own.base_url or "").rstrip("/") == choice.address:
        return settings
    providers = settings.providers.changed(
        "openai",
        base_url=choice.address,
        model=choice.model,
        api_key_env="TEKTON_LOCAL_API_KEY",
        api_key_file=None,
    )
    return msgspec.structs.replace(settings, providers=providers)


def default_model(kind: str, settings: Settings) -> str:
    """Return the model a provider uses where none is named; empty when its settings must name one and do not."""
    info = usable_provider(kind)
    return info.model_of(settings) if info else ""


def named(kind: str, model: str, reason: str) -> ProviderChoice:
    """Return a choice with the model's display name."""
    return ProviderChoice(kind, model, reason, display_name(kind, model))


def display_name(kind: str, model: str) -> str:
    """Return a model's name for people: `llama3.3:70b` is `Llama3.3 70B`, `claude-opus-4-1` is `Claude Opus 4.1`."""
    info = usable_provider(kind)
    if info is not None and info.display is not None and (name := info.display(model)):
        return name
    if match := _CLAUDE.match(model):
        version = match[2] + (f".{match[3]}" if match[3] else "")
        return f"Claude {match[1].title()} {version}"
    if match := _GPT.match(model):
        return f"GPT-{match[1]}" + (f" {match[2]}" if match[2] else "")
    base, _, variant = model.rpartition("/")[2].partition(":")
    name = base[:1].upper() + base[1:]
    return name if variant in ("", "latest") else f"{name} {variant.upper()}"
