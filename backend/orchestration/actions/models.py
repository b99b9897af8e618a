"""Actions on models: what there is, who uses which, fetching one, what was spent."""

from __future__ import annotations

from backend.catalog import Catalog
from backend.config import Settings
from backend.events import EventStream
from backend.orchestration.action import action
from backend.orchestration.actions.fleet import resolve
from backend.orchestration.models import ModelService
from backend.orchestration.turns.budgets import Budgets
from backend.schema.events import CallProgress
from backend.schema.params import GetUsage, ListCandidates, ListModels, PullModel, SetModel, UseModel
from backend.schema.records import ProviderChoice
from backend.schema.results import CandidateList, ProviderList, PullResult, SetModelResult, UsageReport


@action(
    scope="read",
    routes=(("GET", "/api/v1/models"),),
    mcp="ListModels",
    cli="tekton models",
    console="models",
)
async def list_models(params: ListModels, *, models: ModelService) -> ProviderList:
    """List providers, whether they answer, and the models each offers now."""
    return ProviderList(await models.listing(params.provider))


@action(
    scope="read",
    routes=(("GET", "/api/v1/models/candidates"),),
    mcp="ListModelCandidates",
    cli="tekton models found",
)
async def list_candidates(params: ListCandidates, *, models: ModelService) -> CandidateList:
    """Look at what could answer on this machine, the best first, and say what does."""
    found = await models.look()
    return CandidateList(found.candidates, models.choice, found.looked)


@action(
    scope="control",
    where="leader",
    routes=(("POST", "/api/v1/models/use"),),
    mcp="UseModel",
    cli="tekton models use",
)
async def use_model(params: UseModel, *, models: ModelService) -> ProviderChoice:
    """Take a provider and model for all specialists that have none of their own, from their next launch on."""
    return await models.use(params.provider, params.model, params.address)


@action(
    scope="control",
    where="leader",
    routes=(("POST", "/api/v1/fleet/model"),),
    mcp="SetSpecialistModel",
    cli="tekton models set",
    console="fleet.model",
)
async def set_model(
    params: SetModel, *, catalog: Catalog, models: ModelService, settings: Settings
) -> SetModelResult:
    """Change provider or model of specialists, running or not; a result for each."""
    ids = resolve(params.ids, catalog=catalog, settings=settings)
    return SetModelResult(await models.assign_all(ids, params.provider, params.model))


@action(
    scope="control",
    routes=(("POST", "/api/v1/models/pull"),),
    mcp="PullModel",
    cli="tekton models pull",
    console="models.fetch",
)
async def pull_model(params: PullModel, *, events: EventStream, models: ModelService) -> PullResult:
    """Have a provider fetch a model, its progress shown as a service; ends when it is there."""

    def report(text: str) -> None:
        if params.request_id:
            events.publish("gateway", CallProgress(params.request_id, text), key=params.request_id)

    return await models.pull(params.provider, params.model, request_id=params.request_id, report=report)


@action(
    scope="read",
    routes=(("GET", "/api/v1/usage"),),
    mcp="GetUsage",
    cli="tekton usage",
)
async def usage(params: GetUsage, *, budgets: Budgets) -> UsageReport:
    """Report tokens and cost of today by specialist, with budgets."""
    return await budgets.report()
