"""Server-sent events of bulk runs and pipelines: items as they finish, stages as they change.

A client that disconnects ends what it asked for. Only encodes what orchestration publishes.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

from backend.events import Subscription
from backend.gateway.context import Gateway
from backend.gateway.sse import frame, own_events, refused
from backend.orchestration.turns.manager import new_request_id
from backend.schema.errors import TektonError
from backend.schema.events import PipelineEnd
from backend.schema.frames import StreamChunk, StreamEnd, StreamError
from backend.schema.params import RunBulk, RunPipeline
from backend.schema.records import RunRecord


async def bulk_stream(gateway: Gateway, params: RunBulk) -> AsyncGenerator[bytes]:
    """Start a bulk run and return its frames: an `item` for each result as it is there, then `complete`.

    Raises:
        TektonError: The items cannot be run at all; nothing was started.
    """
    gateway.platform.bulks.check(params.requests, params.request_id)
    return _bulk_frames(gateway, params)


async def _bulk_frames(gateway: Gateway, params: RunBulk) -> AsyncGenerator[bytes]:
    platform = gateway.platform
    request_id = params.request_id or new_request_id()
    began, good, failed, summed = time.monotonic(), 0, 0, 0.0
    results = platform.bulks.run(
        params.requests,
        max_concurrency=params.max_concurrency or platform.orchestration.current.max_concurrent_specialists,
        timeout_s=params.timeout_s,
        request_id=request_id,
    )
    try:
        yield frame({"type": "start", "request_id": request_id, "count": len(params.requests)})
        async for result in results:
            good, failed = good + result.ok, failed + (not result.ok)
            summed += result.outcome.total_time
            item = {"index": result.index, "ok": result.ok, "outcome": result.outcome}
            yield frame({"type": "item", "request_id": request_id, **item})
        times = {"wall_time": time.monotonic() - began, "sum_of_times": summed}
        yield frame({"type": "complete", "request_id": request_id, "ok": good, "failed": failed, **times})
    except TektonError as error:  # another of this id was quicker
        yield refused(error)
    finally:
        await results.aclose()


async def pipeline_stream(gateway: Gateway, params: RunPipeline) -> AsyncGenerator[bytes]:
    """Start a pipeline and return its frames: `pipeline_start`, `stage`, `stage_text`, at last `pipeline_end`.

    Raises:
        TektonError: The text is no pipeline, or a name is unknown; nothing was started.
    """
    params.request_id = params.request_id or new_request_id()
    params.wait = False
    # before the pipeline begins, so that no event of it is missed
    subscription = gateway.platform.events.subscribe()
    subscription.follow(params.request_id)
    try:
        known = await gateway.platform.pipelines.known(params.request_id)
        await gateway.platform.pipelines.run(params)
    except BaseException:
        subscription.close()
        raise
    return _pipeline_frames(gateway, params.request_id, subscription, known)


async def _pipeline_frames(
    gateway: Gateway, request_id: str, subscription: Subscription, known: RunRecord | None
) -> AsyncGenerator[bytes]:
    """Yield the frames of a run; those of a `known` one begin with what it did so far."""
    ended = False
    try:
        if known is not None:
            early = gateway.platform.pipelines.so_far(known)
            yield b"".join(frame(event) for event in early)
            if isinstance(early[-1], PipelineEnd):
                return
        async for events in own_events(subscription):
            told = [event for event in events if not isinstance(event, StreamChunk | StreamEnd | StreamError)]
            if told:
                yield b"".join(frame(event) for event in told)
            ended = any(isinstance(event, PipelineEnd) for event in told)
            if ended:
                return
    except TektonError as error:
        yield refused(error)
    finally:
        subscription.close()
        if not ended and known is None:
            gateway.platform.pipelines.cancel_soon(request_id)
