"""Actions on pipelines: run, inspect, run again from a stage, keep under a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from backend.orchestration.action import NoParams, RequestId, action

if TYPE_CHECKING:
    from backend.orchestration.platform import Platform


class PipelineParams(Struct):
    """`run_id` with `from_stage` runs an earlier pipeline again from that stage, 1 being the first.

    `saved` runs the pipeline kept under that name.
    """

    pipeline: str = ""
    input: str = ""
    session_id: str = ""
    request_id: RequestId = ""
    run_id: RequestId = ""
    from_stage: int = 0
    wait: bool = True
    saved: str = ""


class RunsParams(Struct):
    """`run_id` asks for that run alone."""

    limit: int = 50
    run_id: RequestId = ""


class SaveParams(Struct):
    """`replace` lets go of another pipeline saved under this name."""

    name: str
    pipeline: str
    replace: bool = False


class NameParams(Struct):
    name: str


@action(
    "pipeline",
    scope="chat",
    routes=(("POST", "/api/v1/pipelines"),),
    mcp="RunPipeline",
    cli="tekton pipe",
    console="pipes",
)
async def pipeline(platform: Platform, params: PipelineParams) -> Any:
    """Run a pipeline such as `apollo | athena`; waits for its output unless `wait` is false."""
    return await platform.pipelines.run(params)


@action(
    "list_pipelines",
    scope="read",
    routes=(("GET", "/api/v1/pipelines"),),
    mcp="ListPipelineRuns",
    cli="tekton call list_pipelines",
    console="pipes.history",
)
async def list_pipelines(platform: Platform, params: RunsParams) -> Any:
    """List recent pipeline runs with their stages, newest first."""
    if params.run_id:
        return {"runs": [await platform.pipelines.get(params.run_id)]}
    return {"runs": await platform.pipelines.history(params.limit)}


@action(
    "saved_pipelines",
    scope="read",
    routes=(("GET", "/api/v1/saved-pipelines"),),
    mcp="ListSavedPipelines",
    cli="tekton pipe --saved",
    console="pipes.saved",
)
async def saved_pipelines(platform: Platform, params: NoParams) -> Any:
    """List the pipelines kept under a name; RunPipeline with `saved` runs one."""
    return {"saved": await platform.pipelines.saved.all()}


@action(
    "save_pipeline",
    scope="chat",
    routes=(("POST", "/api/v1/saved-pipelines"),),
    mcp="SavePipeline",
    cli="tekton pipe --save",
    console="pipes.save",
)
async def save_pipeline(platform: Platform, params: SaveParams) -> Any:
    """Keep a pipeline under a name; `conflict` when the name is another's, unless `replace` is true."""
    return await platform.pipelines.saved.save(params.name, params.pipeline, replace=params.replace)


@action(
    "remove_pipeline",
    scope="chat",
    routes=(("DELETE", "/api/v1/saved-pipelines/{name}"),),
    mcp="RemoveSavedPipeline",
    cli="tekton pipe --remove",
    console="pipes.remove",
)
async def remove_pipeline(platform: Platform, params: NameParams) -> Any:
    """Forget a saved pipeline and return what it was."""
    return await platform.pipelines.saved.remove(params.name)
