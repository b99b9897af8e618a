"""Actions on pipelines: run, inspect, run again from a stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from backend.orchestration.action import RequestId, action

if TYPE_CHECKING:
    from backend.orchestration.platform import Platform


class PipelineParams(Struct):
    """`run_id` with `from_stage` runs an earlier pipeline again from that stage, 1 being the first."""

    pipeline: str = ""
    input: str = ""
    session_id: str = ""
    request_id: RequestId = ""
    run_id: RequestId = ""
    from_stage: int = 0
    wait: bool = True


class RunsParams(Struct):
    """`run_id` asks for that run alone."""

    limit: int = 50
    run_id: RequestId = ""


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
