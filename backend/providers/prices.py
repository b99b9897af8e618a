"""What a turn cost: a dated table of list prices, the operator's own prices first. No price is no price, never zero."""

from __future__ import annotations

import re
import tomllib
from importlib import resources

import msgspec
from msgspec import Struct

from backend.config import Price, Settings, usable_provider
from backend.schema.frames import Usage

MILLION = 1_000_000
CACHED_SHARE, WRITTEN_SHARE = 0.1, 1.25
"""What an input token read from, or written to, the prompt cache costs of a fresh one, where no price says."""
_DAY = re.compile(r"-\d{8}$")


class _Long(Price, frozen=True, kw_only=True):
    """The price of a whole turn whose prompt has more than `above` tokens."""

    above: int


class _File(Struct, forbid_unknown_fields=True):
    dated: str
    models: dict[str, Price]
    long_prompts: dict[str, _Long]


class PriceTable:
    """Prices by model. `dated` says of which day the shipped ones are."""

    def __init__(self, settings: Settings) -> None:
        text = resources.files("backend.providers").joinpath("prices.toml").read_text(encoding="utf-8")
        file = msgspec.convert(tomllib.loads(text), _File)
        self.dated = file.dated
        self._own, self._shipped, self._long = settings.prices, file.models, file.long_prompts

    def cost(self, provider: str, model: str, usage: Usage) -> tuple[float, str] | None:
        """Return cost and currency of a turn; `None` where no price is known."""
        price = self.price(model)
        if price is None:
            info = usable_provider(provider)
            return (0.0, "USD") if info is not None and info.free else None
        if self._found(self._own, model) is None:
            long = self._found(self._long, model)
            if isinstance(long, _Long) and usage.input_tokens + usage.cached_tokens > long.above:
                price = long
        cached = price.input * CACHED_SHARE if price.cached is None else price.cached
        written = price.input * WRITTEN_SHARE if price.written is None else price.written
        fresh = usage.input_tokens - usage.written_tokens
        cost = (
            fresh * price.input
            + usage.written_tokens * written
            + usage.cached_tokens * cached
            + usage.output_tokens * price.output
        )
        return cost / MILLION, price.currency

    @property
    def currencies(self) -> set[str]:
        """The currencies any model is priced in."""
        return {price.currency for table in (self._own, self._shipped) for price in table.values()}

    def price(self, model: str) -> Price | None:
        """Return a model's price, the operator's first.

        A name fits itself, itself with a day behind (`…-20251001`), and the longest key with a `*` at its end.
        """
        return self._found(self._own, model) or self._found(self._shipped, model)

    @staticmethod
    def _found(table: dict[str, Price] | dict[str, _Long], model: str) -> Price | None:
        for name in (model, _DAY.sub("", model)):
            if name in table:
                return table[name]
        fitting = [key for key in table if key.endswith("*") and model.startswith(key[:-1])]
        return table[max(fitting, key=len)] if fitting else None
