"""Texts as vectors: passed through to the model behind a specialist, where its provider makes any."""

from __future__ import annotations

from backend.gateway.completions.answer import find_model
from backend.gateway.completions.asked import refused
from backend.gateway.context import Gateway
from backend.schema.errors import TektonError
from backend.schema.frames import EmbedResponse

MAX_TEXTS = 256
"""Texts of one request."""


async def embed(gateway: Gateway, name: str, texts: list[str]) -> EmbedResponse:
    """Return the vectors of texts, in their order. `name` is a specialist's, or `SPECIALIST:MODEL` for another of its models.

    Raises:
        TektonError: There is no such specialist, it does not run, or its provider makes no vectors.
    """
    if not texts or not all(text.strip() for text in texts):
        raise refused("input", "input: a text is empty; send words to embed")
    if len(texts) > MAX_TEXTS:
        raise refused("input", f"input: {len(texts):,} texts; at most {MAX_TEXTS} are taken at once")
    platform = gateway.platform
    try:
        ai_id, model = find_model(platform, name), ""
    except TektonError:
        own, colon, model = name.partition(":")
        if not colon or not model:
            raise
        ai_id = find_model(platform, own)
    return await platform.embeddings.embed(ai_id, texts, model)
