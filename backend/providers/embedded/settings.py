"""What `[providers.embedded]` may hold."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from backend.config import Count, ProviderSettings


class EmbeddedSettings(ProviderSettings, frozen=True):
    """Zeros mean: sized to this machine and to the catalogue. `context` is per slot, in tokens.

    `gguf` names another model file than the shipped one. `max_concurrency` is 1 because a specialist has one slot,
    where its prompt cache lies.
    """

    gguf: str | None = None
    threads: Annotated[int, Meta(ge=0)] = 0
    slots: Annotated[int, Meta(ge=0)] = 0
    context: Annotated[int, Meta(ge=512)] = 2048
    max_tokens: Count = 120
    temperature: float = 0.3
    max_concurrency: Count = 1
