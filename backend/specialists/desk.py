"""The providers of one specialist: made when first needed, prepared off to the side, closed with it.

Knows no socket. A provider that could not be prepared is tried again only by the next prompt.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from backend.providers.base import Provider, ProviderHealth
from backend.schema.errors import TektonError
from backend.specialists.gate import Gate
from backend.specialists.spec import WorkerSpec

if TYPE_CHECKING:
    from backend.config import Settings, Timeouts

log = logging.getLogger(__name__)

DEFAULT_CONCURRENCY = 4
"""Turns at a time on a provider whose settings do not say."""
HEALTH_TIMEOUT_S = 4.0
FACTS_TIMEOUT_S = 2.5
"""Shorter than those who ask wait."""
CLOSE_TIMEOUT_S = 1.0

MakeProvider = Callable[[str], Provider]


class Desk:
    """`provider` and `model` are the specialist's own; a turn may name others."""

    def __init__(self, spec: WorkerSpec, make: MakeProvider | None = None) -> None:
        self.provider, self.model = spec.provider, spec.model
        self.problem: TektonError | None = None
        """Why the own provider could not be prepared, until it can."""
        self._spec = spec
        self._make = make or self._create
        self._settings: Settings | None = None
        self._lent: dict[str, str] = {}
        self._prepared: dict[str, Provider] = {}
        self._preparing: dict[str, asyncio.Task[Provider]] = {}
        self._gates: dict[str, Gate] = {}
        self._windows: dict[tuple[str, str], int] = {}

    def lend(self, values: Mapping[str, str]) -> None:
        """Take keys for providers this process was not started for; proxies are read from the environment alone."""
        for name, value in values.items():
            if name.upper().endswith("_PROXY"):
                os.environ[name] = value
            else:
                self._lent[name] = value

    @property
    def warming(self) -> bool:
        """Whether the own provider is being prepared."""
        return self.provider in self._preparing

    def is_prepared(self, kind: str) -> bool:
        return kind in self._prepared

    async def get(self, kind: str) -> Provider:
        """Return a prepared provider; callers that come meanwhile share one preparation.

        Raises:
            ProviderError: It cannot work as configured.
        """
        if prepared := self._prepared.get(kind):
            return prepared
        task = self._preparing.get(kind)
        if task is None:
            task = self._preparing[kind] = asyncio.create_task(self._prepare(kind), name=f"prepare {kind}")
            task.add_done_callback(lambda _: self._preparing.pop(kind, None))
        return await asyncio.shield(task)

    def gate(self, kind: str) -> Gate:
        """Return the line before a provider."""
        if kind not in self._gates:
            places = getattr(self._own_settings(kind), "max_concurrency", DEFAULT_CONCURRENCY)
            self._gates[kind] = Gate(places)
        return self._gates[kind]

    def timeouts(self, kind: str) -> Timeouts:
        """Return the time limits of a provider."""
        from backend.config import Timeouts

        return getattr(self._own_settings(kind), "timeouts", None) or Timeouts()

    def default_model(self, kind: str) -> str:
        """Return the model a turn uses that names none."""
        return self.model if kind == self.provider else getattr(self._own_settings(kind), "model", "")

    def max_tokens(self, kind: str) -> int | None:
        """Return the cap on an answer: the specialist's own, else the provider's."""
        return self._spec.max_tokens or getattr(self._own_settings(kind), "max_tokens", None)

    async def health(self) -> ProviderHealth:
        """Ask the own provider whether a chat would be tried with good hope. Never raises for its faults."""
        if self.warming:
            return ProviderHealth(False, f"warming: {self.provider} is being prepared")
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT_S):
                return await (await self.get(self.provider)).health(self.model)
        except TimeoutError:
            return ProviderHealth(False, f"{self.provider} did not answer within {HEALTH_TIMEOUT_S:g} s")
        except TektonError as error:
            return ProviderHealth(False, error.message)

    async def lacks(self, kind: str, model: str) -> str:
        """Return why a provider can be known not to have a model, empty when it has or nobody can say."""
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT_S):
                found = await (await self.get(kind)).health(model)
        except TimeoutError:
            return ""
        return found.detail if found.model_missing else ""

    async def context_window(self) -> int:
        """Return the tokens the own model takes; 0 when that cannot be known in `FACTS_TIMEOUT_S`.

        Waits for a provider that is being prepared: who asked would else leave the conversation out.
        """
        key = (self.provider, self.model)
        if key not in self._windows and (self.warming or self.is_prepared(self.provider)):
            try:
                async with asyncio.timeout(FACTS_TIMEOUT_S):
                    provider = await self.get(self.provider)
                    self._windows[key] = await provider.context_window(self.model)
            except (TektonError, TimeoutError) as error:
                log.info("context window of %s:%s is unknown: %s", *key, error)
        return self._windows.get(key, 0)

    async def aclose(self) -> None:
        """Close every provider, briefly."""
        for task in list(self._preparing.values()):
            task.cancel()
        for provider in self._prepared.values():
            try:
                await asyncio.wait_for(provider.aclose(), CLOSE_TIMEOUT_S)
            except (
                Exception
            ) as error:  # closing is a courtesy to the upstream; the specialist ends either way
                log.warning("closing %s: %s", provider.kind, error)
        self._prepared.clear()

    async def _prepare(self, kind: str) -> Provider:
        try:
            self._all_settings()
            provider = await asyncio.to_thread(self._make, kind)
            await provider.prepare()
        except TektonError as error:
            if kind == self.provider:
                self.problem = error
            raise
        except Exception as error:
            log.exception("preparing %s", kind)
            fault = TektonError(f"{kind} cannot be prepared: {error}", code="provider_unavailable")
            if kind == self.provider:
                self.problem = fault
            raise fault from error
        if kind == self.provider:
            self.problem = None
        self._prepared[kind] = provider
        return provider

    def _create(self, kind: str) -> Provider:
        from pathlib import Path

        from backend import providers
        from backend.home import Home

        environment = {**os.environ, **self._lent}
        return providers.create(kind, self._all_settings(), Home(Path(self._spec.home)), environment)

    def _all_settings(self) -> Settings:
        """Decode the settings once, in the event loop's thread: msgspec crashes when two threads meet a type first."""
        if self._settings is None:
            from backend.config import Settings

            self._settings = msgspec.json.decode(self._spec.settings, type=Settings)
        return self._settings

    def _own_settings(self, kind: str) -> object:
        return getattr(self._all_settings().providers, kind, None)
