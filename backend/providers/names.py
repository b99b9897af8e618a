"""How models are called on the screen."""

from __future__ import annotations

import re

_NAMES = {
    ("embedded", "SmolLM2-135M-Instruct.Q4_1"): "SmolLM2 135M",
}
"""Display names that no rule gives."""
_CLAUDE = re.compile(r"claude-([a-z]+)-(\d+)(?:-(\d{1,2}))?(?:-\d{8})?$")
_GPT = re.compile(r"gpt-([^-]+)(?:-(.+))?$")


def display_name(provider: str, model: str) -> str:
    """Return a model's name for people: `llama3.3:70b` is `Llama3.3 70B`, `claude-opus-4-1` is `Claude Opus 4.1`."""
    if provider == "scripted":
        return "scripted"
    if known := _NAMES.get((provider, model)):
        return known
    if match := _CLAUDE.match(model):
        version = match[2] + (f".{match[3]}" if match[3] else "")
        return f"Claude {match[1].title()} {version}"
    if match := _GPT.match(model):
        return f"GPT-{match[1]}" + (f" {match[2]}" if match[2] else "")
    base, _, variant = model.rpartition("/")[2].partition(":")
    name = base[:1].upper() + base[1:]
    return name if variant in ("", "latest") else f"{name} {variant.upper()}"
