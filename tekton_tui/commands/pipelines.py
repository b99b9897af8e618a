"""Commands on pipelines. Choosing a saved one is the navigator's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from backend.schema.params import RunPipeline
from tekton_tui.runtime.controller import Controller, new_request_id


class PipelineCommands:
    """Starts pipelines; their stages and texts come as events."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def run(
        self,
        text: str,
        given: str = "",
        *,
        run_id: str = "",
        from_stage: int = 0,
        on_refused: Callable[[str], None] | None = None,
    ) -> None:
        """Run a pipeline on an input, or an earlier run (`run_id`) anew from a stage counted from 1.

        `on_refused` gets the pipeline's text back if the backend refuses it.
        """
        self._controller.start(
            RunPipeline(text, given, run_id=run_id, from_stage=from_stage, request_id=new_request_id()),
            otherwise=on_refused and partial(on_refused, text),
        )
