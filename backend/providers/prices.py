"""What a turn cost: a dated table of list prices, the operator's own prices first. No price is no price, never zero."""

from __future__ import annotations

import tomllib
from importlib import resources

import msgspec
from msgspec import Struct

from backend.config import Price, Settings
from backend.schema.frames import Usage

MILLION = 1_000_000
CACHED_SHARE = 0.1
"""What a cached input token costs of a fresh one."""


class _Free(Struct):
    providers: list[str] = []


class _File(Struct, forbid_unknown_fields=True):
    dated: str
    models: dict[str, Price]
    free: _Free


class PriceTable:
    """Prices by model. `dated` says of which day the shipped ones are."""

    def __init__(self, settings: Settings) -> None:
        text = resources.files("backend.providers").joinpath("prices.toml").read_text(encoding="utf-8")
        file = msgspec.convert(tomllib.loads(text), _File)
        self.dated = file.dated
        self._free = set(file.free.providers)
        self._prices = {**file.models, **settings.prices}

    def cost(self, provider: str, model: str, usage: Usage) -> tuple[float, str] | None:
        """Return cost and currency of a turn; `None` where no price is known."""
        price = self.price(model)
        if price is None:
            return (0.0, "USD") if provider in self._free else None
        tokens_in = usage.input_tokens + usage.cached_tokens * CACHED_SHARE
        return (tokens_in * price.input + usage.output_tokens * price.output) / MILLION, price.currency

    def price(self, model: str) -> Price | None:
        """Return a model's price by its own name or the longest pattern that fits."""
        if model in self._prices:
            return self._prices[model]
        fitting = [key for key in self._prices if key.endswith("*") and model.startswith(key[:-1])]
        return self._prices[max(fitting, key=len)] if fitting else None
