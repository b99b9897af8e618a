"""Embeddings in OpenAI's words. Pure."""

from __future__ import annotations

import base64
import sys
from array import array
from typing import Any, Literal

from msgspec import Struct

from backend.gateway.completions.asked import ModelName, read_body
from backend.gateway.completions.parameters import Parameters
from backend.schema.frames import EmbedResponse


class EmbeddingBody(Struct):
    """The body of a request for embeddings: what we read of it. Tokens in place of texts are not taken."""

    model: ModelName
    input: str | list[str]
    encoding_format: Literal["float", "base64"] = "float"

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


PARAMETERS = Parameters(
    "embeddings",
    EmbeddingBody,
    noted={"user", "service_tier"},
    refuse={
        "dimensions": "vectors come as the model makes them",
        "input_type": "vectors come as the model makes them",
        "truncate": "a text that is too long is refused",
    },
)


def read_embedding(values: dict[str, Any]) -> EmbeddingBody:
    """Read the body of a request for embeddings.

    Raises:
        InvalidRequest: With the parameter.
    """
    PARAMETERS.check(values)
    return read_body(values, EmbeddingBody, PARAMETERS.name)


def embedding_value(body: EmbeddingBody, made: EmbedResponse) -> dict[str, Any]:
    """Return the answer: numbers, or base64 of little-endian 32-bit floats."""
    plain = body.encoding_format == "float"
    rows = [
        {"object": "embedding", "index": place, "embedding": vector if plain else _packed(vector)}
        for place, vector in enumerate(made.vectors)
    ]
    tokens = made.usage.input_tokens + made.usage.cached_tokens
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": rows, "model": body.model, "usage": usage}


def _packed(vector: list[float]) -> str:
    # OpenAI's SDK asks for base64 by itself and unpacks it with numpy as little-endian 32-bit floats
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()
