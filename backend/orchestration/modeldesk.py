"""Models and providers: what each offers now, who uses which, and fetching a model on request.

Provider clients made here live for one question; turns use the workers' own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast, get_args

from backend.catalog import Catalog
from backend.config import ProviderKind, Settings
from backend.home import Home
from backend.orchestration.action import InvalidRequest
from backend.orchestration.turn import new_request_id
from backend.providers import create, display_name
from backend.providers.base import ModelInfo, ProviderError
from backend.schema.errors import TektonError
from backend.schema.records import LaunchResult
from backend.specialists.supervisor import Supervisor

LISTED: tuple[str, ...] = ("ollama", "anthropic", "openai", "embedded")
LISTING_TIMEOUT_S = 8.0


class ModelDesk:
    """Answer questions about models, and change who uses which."""

    def __init__(
        self,
        home: Home,
        settings: Settings,
        environment: Mapping[str, str],
        catalog: Catalog,
        fleet: Supervisor,
    ) -> None:
        self._home, self._settings, self._environment = home, settings, environment
        self._catalog, self._fleet = catalog, fleet
        self.pulls: dict[str, asyncio.Task[None]] = {}
        """Models being fetched, by the request id of the call."""

    async def listing(self, provider: str = "") -> list[dict[str, Any]]:
        """Return each provider with `ok`, `detail` and its models; one that does not answer says why."""
        kinds = [self.known(provider)] if provider else LISTED
        return list(await asyncio.gather(*(self._list(kind) for kind in kinds)))

    async def assign(self, ai_id: str, provider: str | None, model: str | None) -> LaunchResult:
        """Change provider or model of a specialist; its failure is its result."""
        component = self._catalog.get(ai_id)
        try:
            if provider:
                self.known(provider)
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

    async def pull(
        self, provider: str, model: str, *, request_id: str = "", tell: Callable[[str], None] | None = None
    ) -> dict[str, Any]:
        """Have a provider fetch a model; its progress is a service of the platform while it lasts, and told.

        A caller that is cancelled ends the fetching.

        Raises:
            TektonError: The provider cannot fetch models, or failed to; `cancelled`; `conflict` for an id in use.
        """
        client: Any = create(self.known(provider), self._settings, self._home, self._environment)
        if not hasattr(client, "pull"):
            raise InvalidRequest(f"{provider} has no way to fetch a model; ollama does")
        request_id = request_id or new_request_id()
        if request_id in self.pulls:
            raise TektonError(f"request_id {request_id!r} already fetches a model", code="conflict")
        fetching = self.pulls[request_id] = asyncio.create_task(self._fetch(client, model, tell))
        try:
            await asyncio.wait([fetching])
            if fetching.cancelled():
                raise TektonError(f"fetching {model} was cancelled", code="cancelled")
            fetching.result()
        finally:
            fetching.cancel()
            del self.pulls[request_id]
        return {"model": model, "provider": provider, "pulled": True}

    async def cancel_pull(self, request_id: str) -> int:
        """End the fetching of a model and wait until its connection is closed; the answer is 0 pieces of text."""
        fetching = self.pulls[request_id]
        fetching.cancel()
        await asyncio.wait([fetching])
        return 0

    async def _fetch(self, client: Any, model: str, tell: Callable[[str], None] | None) -> None:
        name, title = f"pull {model}", f"fetching {model}"
        try:
            await client.prepare()
            async for progress in client.pull(model):
                self._fleet.service_note(name, title, progress.detail)
                if tell is not None:
                    tell(progress.detail)
        except TektonError as error:
            self._fleet.service_note(name, title, error.message, ended="failed")
            raise
        except asyncio.CancelledError:
            self._fleet.service_note(name, title, "cancelled", ended="failed")
            raise
        finally:
            await client.aclose()
        self._fleet.service_note(name, title, "done", ended="done")

    async def _list(self, kind: str) -> dict[str, Any]:
        client = create(kind, self._settings, self._home, self._environment)
        row: dict[str, Any] = {"provider": kind, "ok": True, "detail": "", "models": []}
        try:
            async with asyncio.timeout(LISTING_TIMEOUT_S):
                await client.prepare()
                row["models"] = [_named(kind, info) for info in await client.models()]
        except ProviderError as error:
            row |= {"ok": False, "detail": error.message, "code": error.code}
        except TimeoutError:
            row |= {"ok": False, "detail": f"no answer within {LISTING_TIMEOUT_S:g} s", "code": "timeout"}
        finally:
            await client.aclose()
        return row

    def known(self, provider: str) -> str:
        """Return the name of a provider.

        Raises:
            InvalidRequest: There is none of this name.
        """
        kinds = cast(tuple[str, ...], get_args(ProviderKind))
        if provider not in kinds:
            raise InvalidRequest(f"there is no provider {provider!r}; known: {', '.join(kinds)}")
        return provider


def _named(kind: str, info: ModelInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "display": info.display or display_name(kind, info.name),
        "size": info.size,
        "context_window": info.context_window,
        "detail": info.detail,
    }
