"""Actions on pipelines: run, inspect, run again from a stage, keep under a name."""

from __future__ import annotations

from backend.orchestration.action import action
from backend.orchestration.pipelines.manager import PipelineManager
from backend.schema.params import ListPipelines, ListSavedPipelines, RemovePipeline, RunPipeline, SavePipeline
from backend.schema.records import RunRecord, SavedPipeline
from backend.schema.results import PipelineRuns, SavedPipelineList, Started


@action(
    scope="chat",
    routes=(("POST", "/api/v1/pipelines"),),
    mcp="RunPipeline",
    cli="tekton pipe",
    console="pipes",
)
async def pipeline(params: RunPipeline, *, pipelines: PipelineManager) -> RunRecord | Started:
    """Run a pipeline such as `apollo | athena`; waits for its output unless `wait` is false."""
    return await pipelines.run(params)


@action(
    scope="read",
    routes=(("GET", "/api/v1/pipelines"),),
    mcp="ListPipelineRuns",
    cli="tekton call list_pipelines",
    console="pipes.history",
)
async def list_pipelines(params: ListPipelines, *, pipelines: PipelineManager) -> PipelineRuns:
    """List recent pipeline runs with their stages, newest first."""
    if params.run_id:
        return PipelineRuns([await pipelines.get(params.run_id)])
    return PipelineRuns(await pipelines.history(params.limit))


@action(
    scope="read",
    routes=(("GET", "/api/v1/saved-pipelines"),),
    mcp="ListSavedPipelines",
    cli="tekton pipe --saved",
    console="pipes.saved",
)
async def saved_pipelines(params: ListSavedPipelines, *, pipelines: PipelineManager) -> SavedPipelineList:
    """List the pipelines kept under a name; RunPipeline with `saved` runs one."""
    return SavedPipelineList(await pipelines.saved.all())


@action(
    scope="chat",
    routes=(("POST", "/api/v1/saved-pipelines"),),
    mcp="SavePipeline",
    cli="tekton pipe --save",
    console="pipes.save",
)
async def save_pipeline(params: SavePipeline, *, pipelines: PipelineManager) -> SavedPipeline:
    """Keep a pipeline under a name; `conflict` when the name is another's, unless `replace` is true."""
    return await pipelines.saved.save(params.name, params.pipeline, replace=params.replace)


@action(
    scope="chat",
    routes=(("DELETE", "/api/v1/saved-pipelines/{name}"),),
    mcp="RemoveSavedPipeline",
    cli="tekton pipe --remove",
    console="pipes.remove",
)
async def remove_pipeline(params: RemovePipeline, *, pipelines: PipelineManager) -> SavedPipeline:
    """Forget a saved pipeline and return what it was."""
    return await pipelines.saved.remove(params.name)
