"""Models and providers: what each offers now, who uses which, and fetching a model on request.

Provider clients made here live for one question; turns use the workers' own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from backend.catalog import Catalog
from backend.config import AUTO, Settings, find_provider, is_provider, provider_kinds, providers
from backend.home import Home
from backend.orchestration.request_names import FETCH, RequestNames, taken
from backend.orchestration.turns.turn import new_request_id
from backend.providers import create, opened
from backend.providers.base import ModelInfo
from backend.providers.choice import (
    default_model,
    display_name,
    named,
    read_choice,
    settings_with,
    write_choice,
)
from backend.providers.discovery import PATIENT_TIMEOUT_S, Found, best, choice_of, look_around
from backend.providers.keys import check_key
from backend.schema.errors import TektonError
from backend.schema.events import ProviderChanged
from backend.schema.params import InvalidRequest
from backend.schema.records import LaunchResult, ModelCandidate, ProviderChoice
from backend.schema.results import Model, ProviderModels, PullResult
from backend.specialists.supervisor import Supervisor
from backend.suggest import meant
from backend.tasks import end_tasks

log = logging.getLogger(__name__)

LISTING_TIMEOUT_S = 8.0
OFFER_EVERY_S = 15.0
"""Time between two looks for something better than the stand-in: a handful of refused connections of this machine."""


class ModelService:
    """Answer questions about models, and change who uses which."""

    def __init__(
        self,
        home: Home,
        settings: Settings,
        environment: Mapping[str, str],
        catalog: Catalog,
        fleet: Supervisor,
        choice: ProviderChoice,
        publish: Callable[[ProviderChanged], object],
        names: RequestNames,
    ) -> None:
        self._names = names
        names.register(FETCH, lambda request_id: request_id in self.pulls)
        self._home, self._settings, self._environment = home, settings, environment
        self._catalog, self._fleet = catalog, fleet
        self.choice = choice
        """What answers for specialists that name no provider of their own."""
        self.offer: ModelCandidate | None = None
        """A model that came up since and would be better; taken only by hand."""
        self._publish = publish
        self._watching: asyncio.Task[None] | None = None
        self.pulls: dict[str, asyncio.Task[None]] = {}
        """Models being fetched, by the request id of the call."""

    async def listing(self, provider: str = "") -> list[ProviderModels]:
        """Return each provider with `ok`, `detail` and its models; one that does not answer says why."""
        kinds = [self.known(provider)] if provider else [info.kind for info in providers() if info.listed]
        return list(await asyncio.gather(*(self._list(kind) for kind in kinds)))

    async def look(self) -> Found:
        """Look at what this machine and its environment offer, for somebody who waits for it."""
        found = await look_around(self._settings, self._home, self._environment, timeout_s=PATIENT_TIMEOUT_S)
        self._offer_better(found.candidates)
        return found

    def watch(self) -> None:
        """Look now and then for something better than what was found at the start, and offer it."""
        if self._settings.providers.default == AUTO:
            self._watching = asyncio.create_task(self._watch(), name="models")

    async def close(self) -> None:
        """Stop looking."""
        await end_tasks(self._watching)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(OFFER_EVERY_S)
            if not self._may_offer():
                continue
            try:
                found = await look_around(self._settings, self._home, self._environment)
                self._offer_better(found.candidates)
            except Exception:  # one look that fails must not end all looking
                log.exception("looking for models")

    def _may_offer(self) -> bool:
        automatic = self._settings.providers.default == AUTO and read_choice(self._home) is None
        return automatic and self.choice.stand_in

    def _offer_better(self, candidates: list[ModelCandidate]) -> None:
        """Offer what would be taken at a start, where the stand-in answers because nothing better was there then."""
        offer = best(candidates) if self._may_offer() else None
        if offer is not None and offer.stand_in:
            offer = None
        if offer != self.offer:
            self.offer = offer
            self._publish(ProviderChanged(self.choice, time.time(), offer))

    async def use(self, provider: str, model: str = "", address: str = "") -> ProviderChoice:
        """Take a provider and model for the platform from now on and keep that choice; `auto` forgets it.

        `address` is of the server that is meant, where several offer the same.

        Raises:
            InvalidRequest: There is no such provider, or it has no model of this name, or none answers at the address.
        """
        if provider == AUTO:
            if model or address:
                raise InvalidRequest(
                    "provider: auto takes the best there is: name neither a model nor an address"
                )
            write_choice(self._home, None)
            choice = choice_of((await self.look()).candidates)
        else:
            choice = await self._chosen(self.known(provider), model, address.rstrip("/"))
            write_choice(self._home, choice)
        self._settings = settings_with(self._settings, choice)
        self._fleet.use(choice, self._settings)
        self.choice, self.offer = choice, None
        self._publish(ProviderChanged(choice, time.time()))
        return choice

    async def _chosen(self, provider: str, model: str, address: str) -> ProviderChoice:
        seen = [one for one in (await self.look()).candidates if one.provider == provider]
        offered = [one for one in seen if one.usable]
        if address:
            known = dict.fromkeys(one.address for one in offered if one.address)
            if address not in known:
                raise InvalidRequest(
                    f"address: no model of {provider} answers at {address}; known are {', '.join(known) or 'none'}"
                )
            offered = [one for one in offered if one.address == address]
        wanted = [
            one for one in offered if not model or model in (one.model, one.model.removesuffix(":latest"))
        ]
        if provider == "ollama" and not offered:
            why = seen[0].why if seen else "Ollama not found"
            raise InvalidRequest(
                f"provider: {why}: start it with a model, then say this again; nothing was changed"
            )
        if not wanted and provider in ("ollama", "embedded") and model:
            has = ", ".join(one.model for one in offered) or "none"
            raise InvalidRequest(f"model: {provider} has no {model!r}; it has {has}")
        if not wanted:
            check_key(provider, self._settings, self._home, self._environment)
        name = wanted[0].model if wanted else model or default_model(provider, self._settings)
        if not name:
            raise InvalidRequest(f"model: no model is named for {provider}: give one")
        if address and not wanted:
            has = ", ".join(one.model for one in offered)
            raise InvalidRequest(f"model: the server at {address} has no {model!r}; it has {has}")
        choice = named(provider, name, "chosen by you")
        if wanted and provider == "openai" and not wanted[0].paid:
            choice.address = wanted[0].address
            if len({one.address for one in seen if one.usable and one.model == name}) > 1:
                choice.reason += f", at {choice.address}"
        choice.stand_in = bool(wanted and wanted[0].stand_in)
        return choice

    async def assign(self, ai_id: str, provider: str | None, model: str | None) -> LaunchResult:
        """Change provider or model of a specialist; its failure is its result."""
        component = self._catalog.get(ai_id)
        try:
            if provider:
                self.known(provider)
            has = default_model("embedded", self._settings)
            kind = provider or self._fleet.status(component.id).provider
            if kind == "embedded" and model not in (None, has):
                raise InvalidRequest(f"model: embedded has no {model!r}; it has {has}")
            await self._fleet.set_model(component.id, provider, model)
        except TektonError as error:
            return LaunchResult(component.id, False, message=error.message, code=error.code)
        status = self._fleet.status(component.id)
        return LaunchResult(
            component.id,
            True,
            state=status.state,
            pid=status.pid,
            port=status.port,
            message=status.model_display,
        )

    async def assign_all(self, ids: list[str], provider: str | None, model: str | None) -> list[LaunchResult]:
        """Change provider or model of specialists; a result for each, which says when it cannot answer now."""
        results = [await self.assign(name, provider, model) for name in ids]
        problems = await self._fleet.model_problems([result.id for result in results if result.ok])
        for result in results:
            if problem := problems.get(result.id):
                result.message = f"{result.message}, but cannot answer now: {problem}"
                result.code = "provider_unavailable"
        return results

    async def pull(
        self, provider: str, model: str, *, request_id: str = "", report: Callable[[str], None] | None = None
    ) -> PullResult:
        """Have a provider fetch a model; its progress is a service of the platform while it lasts, and reported.

        A caller that is cancelled ends the fetching.

        Raises:
            TektonError: The provider cannot fetch models, or failed to; `cancelled`; `conflict` for an id in use.
        """
        client: Any = create(self.known(provider), self._settings, self._home, self._environment)
        if not hasattr(client, "pull"):
            raise InvalidRequest(f"{provider} has no way to fetch a model; ollama and embedded have")
        request_id = request_id or new_request_id()
        if request_id in self.pulls:
            raise taken(request_id, FETCH)
        self._names.check(request_id, FETCH)
        fetching = self.pulls[request_id] = asyncio.create_task(self._fetch(client, model, report))
        try:
            await asyncio.wait([fetching])
            if fetching.cancelled():
                raise TektonError(f"fetching {model} was cancelled", code="cancelled")
            fetching.result()
        finally:
            fetching.cancel()
            del self.pulls[request_id]
        return PullResult(model, provider, True)

    async def cancel_pull(self, request_id: str) -> int:
        """End the fetching of a model and wait until its connection is closed; the answer is 0 pieces of text."""
        fetching = self.pulls[request_id]
        fetching.cancel()
        await asyncio.wait([fetching])
        return 0

    async def _fetch(self, client: Any, model: str, report: Callable[[str], None] | None) -> None:
        name, title = f"pull {model}", f"fetching {model}"
        try:
            async for progress in client.pull(model):
                self._fleet.show_service(name, title, progress.detail)
                if report is not None:
                    report(progress.detail)
        except TektonError as error:
            self._fleet.show_service(name, title, error.message, ended="failed")
            raise
        except asyncio.CancelledError:
            self._fleet.show_service(name, title, "cancelled", ended="failed")
            raise
        finally:
            await client.aclose()
        self._fleet.show_service(name, title, "done", ended="done")
        if client.kind == "embedded":
            self._fleet.weights_came()

    async def _list(self, kind: str) -> ProviderModels:
        row = ProviderModels(kind, True, "", [])
        try:
            async with opened(
                kind, self._settings, self._home, self._environment, within_s=LISTING_TIMEOUT_S
            ) as client:
                row.models = [_named(kind, info) for info in await client.models()]
        except TektonError as error:
            row.ok, row.detail, row.code = False, error.message, error.code
        except TimeoutError:
            row.ok, row.detail, row.code = False, f"no answer within {LISTING_TIMEOUT_S:g} s", "timeout"
        return row

    def known(self, provider: str) -> str:
        """Return the name of a provider.

        Raises:
            InvalidRequest: There is none of this name.
            ConfigError: The package that brings it is broken.
        """
        if provider != AUTO and not is_provider(provider):
            known = (AUTO, *provider_kinds())
            raise InvalidRequest(f"there is no provider {provider!r}: {meant(provider, known)}")
        if provider != AUTO:
            find_provider(provider)
        return provider


def _named(kind: str, info: ModelInfo) -> Model:
    display = info.display or display_name(kind, info.name)
    return Model(info.name, display, info.size, info.context_window, info.detail, info.abilities)
