"""Actions on models: what there is, who uses which, fetching one, what was spent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from backend.orchestration.action import NoParams, RequestId, action
from backend.orchestration.actions.fleet import Names, resolve
from backend.schema.events import CallProgress

if TYPE_CHECKING:
    from backend.orchestration.platform import Platform


class ModelsParams(Struct):
    provider: str = ""


class SetModelParams(Struct):
    """Unset provider or model: the one configured."""

    ids: Names
    provider: str | None = None
    model: str | None = None


class PullParams(Struct):
    model: str
    provider: str = "ollama"
    request_id: RequestId = ""


@action(
    "list_models",
    scope="read",
    routes=(("GET", "/api/v1/models"),),
    mcp="ListModels",
    cli="tekton models",
    console="models",
)
async def list_models(platform: Platform, params: ModelsParams) -> Any:
    """List providers, whether they answer, and the models each offers now."""
    return {"providers": await platform.models.listing(params.provider)}


@action(
    "set_model",
    scope="control",
    where="leader",
    routes=(("POST", "/api/v1/fleet/model"),),
    mcp="SetSpecialistModel",
    cli="tekton models set",
    console="fleet.model",
    aliases={"id": "ids", "specialist_id": "ids"},
)
async def set_model(platform: Platform, params: SetModelParams) -> Any:
    """Change provider or model of specialists, running or not; a result for each."""
    ids = resolve(platform, params.ids)
    return {"results": [await platform.models.assign(ai_id, params.provider, params.model) for ai_id in ids]}


@action(
    "pull_model",
    scope="control",
    routes=(("POST", "/api/v1/models/pull"),),
    mcp="PullModel",
    cli="tekton models pull",
    console="models.fetch",
)
async def pull_model(platform: Platform, params: PullParams) -> Any:
    """Have a provider fetch a model, its progress shown as a service; ends when it is there."""

    def tell(text: str) -> None:
        if params.request_id:
            platform.events.publish("gateway", CallProgress(params.request_id, text), key=params.request_id)

    return await platform.models.pull(params.provider, params.model, request_id=params.request_id, tell=tell)


@action(
    "usage",
    scope="read",
    routes=(("GET", "/api/v1/usage"),),
    mcp="GetUsage",
    cli="tekton usage",
)
async def usage(platform: Platform, params: NoParams) -> Any:
    """Report tokens and cost of today by specialist, with budgets."""
    return await platform.budgets.report()
