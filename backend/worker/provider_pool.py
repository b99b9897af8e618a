"""The providers of one specialist: made when first needed, prepared in a task of their own, closed with the worker.

Knows no socket. A provider that could not be prepared is prepared again only when the next prompt needs it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from backend.deadlines import loop_timeout
from backend.providers.base import Provider, ProviderHealth
from backend.schema.content import Abilities
from backend.schema.errors import TektonError
from backend.worker.admission_queue import AdmissionQueue
from backend.worker.spec import WorkerSpec

if TYPE_CHECKING:
    from backend.config import ProviderSettings, Settings, Timeouts

log = logging.getLogger(__name__)

HEALTH_TIMEOUT_S = 4.0
WINDOW_TIMEOUT_S = 2.5
"""Shorter than the time-out of those who ask for the context window."""
LEAST_TIMEOUT_S = 0.1
CLOSE_TIMEOUT_S = 1.0

ProviderFactory = Callable[[str], Provider]
"""Makes the provider of a kind, such as `"ollama"`, without preparing it."""


class ProviderPool:
    """`provider` and `model` are the specialist's own; a request may name others."""

    def __init__(self, spec: WorkerSpec, make: ProviderFactory | None = None) -> None:
        self.provider, self.model = spec.provider, spec.model
        self.problem: TektonError | None = None
        """Why the own provider could not be prepared; `None` again once it could."""
        self._spec = spec
        self._make = make or self._create
        self._settings: Settings | None = None
        self._own: dict[str, ProviderSettings] = {}
        self._keys: dict[str, str] = {}
        self._prepared: dict[str, Provider] = {}
        self._preparing: dict[str, asyncio.Task[Provider]] = {}
        self._queues: dict[str, AdmissionQueue] = {}
        self._windows: dict[tuple[str, str], int] = {}
        self._abilities: dict[tuple[str, str], Abilities] = {}

    def add_keys(self, values: Mapping[str, str]) -> None:
        """Add variables for providers this process was not started for: API keys and proxies, by variable name.

        Proxies go into the process environment, the only place where HTTP clients look for them. Keys do not, so
        that nothing this process starts inherits them.
        """
        for name, value in values.items():
            if name.upper().endswith("_PROXY"):
                # Tool servers get a chosen environment of their own, so a proxy set here reaches HTTP clients
                # alone.
                os.environ[name] = value
            else:
                self._keys[name] = value

    @property
    def warming(self) -> bool:
        """Whether the own provider is being prepared."""
        return self.provider in self._preparing

    def is_prepared(self, kind: str) -> bool:
        """Return whether `get` would return without waiting."""
        return kind in self._prepared

    async def get(self, kind: str) -> Provider:
        """Return a prepared provider; concurrent callers share one preparation.

        Raises:
            ProviderError: It cannot work as configured.
        """
        if prepared := self._prepared.get(kind):
            return prepared
        task = self._preparing.get(kind)
        if task is None:
            task = self._preparing[kind] = asyncio.create_task(self._prepare(kind), name=f"prepare {kind}")
            task.add_done_callback(lambda _: self._preparing.pop(kind, None))
        # One caller that gives up must not end the preparation for the others.
        return await asyncio.shield(task)

    def queue(self, kind: str) -> AdmissionQueue:
        """Return the queue in front of a provider."""
        if kind not in self._queues:
            self._queues[kind] = AdmissionQueue(self._own_settings(kind).max_concurrency)
        return self._queues[kind]

    def timeouts(self, kind: str) -> Timeouts:
        """Return the time limits of a provider, in seconds."""
        return self._own_settings(kind).timeouts

    def default_model(self, kind: str) -> str:
        """Return the model for requests that name none."""
        if kind == self.provider:
            return self.model
        from backend.providers.choice import default_model

        return default_model(kind, self._all_settings())

    def max_tokens(self, kind: str) -> int | None:
        """Return the cap on an answer: the specialist's own, else the provider's."""
        return self._spec.max_tokens or self._own_settings(kind).max_tokens

    async def health(self) -> ProviderHealth:
        """Return whether the own provider can be expected to answer a chat. Its failures are results, not exceptions."""
        if self.warming:
            return self._still_warming()
        try:
            async with loop_timeout(HEALTH_TIMEOUT_S):
                return await (await self.get(self.provider)).health(self.model)
        except TimeoutError:
            if self.warming:  # begun by this very question: nobody was asked yet
                return self._still_warming()
            return ProviderHealth(False, f"{self.provider} did not answer within {HEALTH_TIMEOUT_S:g} s")
        except TektonError as error:
            return ProviderHealth(False, error.message)

    def _still_warming(self) -> ProviderHealth:
        return ProviderHealth(False, f"warming: {self.provider} is being prepared")

    async def missing_model(self, kind: str, model: str) -> str:
        """Return why a provider certainly lacks a model; empty when it has it, or when that cannot be known."""
        try:
            async with loop_timeout(HEALTH_TIMEOUT_S):
                found = await (await self.get(kind)).health(model)
        except TimeoutError:
            return ""
        return found.detail if found.model_missing else ""

    async def context_window(self, kind: str, model: str) -> int:
        """Return how many tokens a model takes; 0 when that is not known within `WINDOW_TIMEOUT_S`.

        Waits for a provider that is being prepared, and prepares one that is named for this turn: the backend would
        otherwise leave the conversation out of the prompt.
        """
        key = (kind, model)
        ready = kind != self.provider or self.warming or self.is_prepared(kind)
        if key not in self._windows and ready:
            try:
                async with loop_timeout(WINDOW_TIMEOUT_S):
                    provider = await self.get(kind)
                    self._windows[key] = await provider.context_window(model)
            except (TektonError, TimeoutError) as error:
                log.info("context window of %s:%s is unknown: %s", *key, error)
        return self._windows.get(key, 0)

    async def abilities(self, kind: str, model: str, within_s: float = WINDOW_TIMEOUT_S) -> Abilities:
        """Return what a model takes beside text, asked once; unknown while that is not said within so many seconds.

        A provider of somebody else's that was written before there were abilities takes text alone.
        """
        key = (kind, model)
        if key not in self._abilities:
            provider = await self.get(kind)
            if not hasattr(provider, "abilities"):
                return Abilities(False, False, False, False, False, False)
            try:
                async with loop_timeout(max(within_s, LEAST_TIMEOUT_S)):
                    self._abilities[key] = await provider.abilities(model)
            except TimeoutError:
                return Abilities()
        return self._abilities[key]

    async def aclose(self) -> None:
        """Close every provider, waiting at most `CLOSE_TIMEOUT_S` for each."""
        for task in list(self._preparing.values()):
            task.cancel()
        for provider in self._prepared.values():
            try:
                await asyncio.wait_for(provider.aclose(), CLOSE_TIMEOUT_S)
            except Exception as error:
                # The process ends either way, and the operating system closes what is left.
                log.warning("closing %s: %s", provider.kind, error)
        self._prepared.clear()

    async def _prepare(self, kind: str) -> Provider:
        try:
            self._all_settings()
            await asyncio.to_thread(_import, kind)
            self._own_settings(kind)
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

        environment = {**os.environ, **self._keys}
        return providers.create(kind, self._all_settings(), Home(Path(self._spec.home)), environment)

    def _all_settings(self) -> Settings:
        """Decode the settings once, in the event loop's thread: msgspec crashes when two threads first use a type."""
        if self._settings is None:
            from backend.config import Settings

            self._settings = msgspec.json.decode(self._spec.settings, type=Settings)
        return self._settings

    def _own_settings(self, kind: str) -> ProviderSettings:
        """Return a provider's table of the settings; for a kind that nobody declares, what every provider has."""
        if kind not in self._own:
            from backend.config import ProviderSettings, usable_provider

            info = usable_provider(kind)
            self._own[kind] = info.own(self._all_settings()) if info else ProviderSettings()
        return self._own[kind]


def _import(kind: str) -> None:
    """Import a provider's module, which may be somebody else's and slow."""
    from backend.config import usable_provider

    usable_provider(kind)
