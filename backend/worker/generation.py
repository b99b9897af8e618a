"""One generation: the worker's side of a turn. One request to the provider, frames back, exactly one last frame.

Knows no socket: frames go to a `Sink`. The provider is asked once; its failure is an error frame, never answer text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import msgspec

from backend.assembly import PartsBuilder
from backend.providers import base
from backend.providers.abilities import check, needed
from backend.schema import frames
from backend.schema.content import (
    AnswerOptions,
    ChatMessage,
    ImagePart,
    Part,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from backend.schema.errors import REFUSED_UPSTREAM, TektonError
from backend.wire import encodable, in_pieces
from backend.worker.prompt import assemble
from backend.worker.provider_pool import ProviderPool
from backend.worker.spec import WorkerSpec
from backend.worker.token_timeout import TokenTimeout
from backend.worker.tools.loop import ToolLoop
from backend.worker.turn import CHARS_PER_TOKEN, Sink, WorkerTurn

if TYPE_CHECKING:
    from backend.worker.tools.toolbox import Toolbox

ITEMS_PER_STEP = 64
"""Items relayed in a row from a provider that never waits, before other tasks get the event loop."""


class Generation(WorkerTurn):
    """One answer of a model: the request goes to the provider, its stream comes back as frames."""

    def __init__(
        self, spec: WorkerSpec, providers: ProviderPool, request: frames.Request, request_id: str, sink: Sink
    ) -> None:
        super().__init__(spec.ai_id, request, request_id, sink)
        self._spec, self._providers = spec, providers
        self._kind = request.provider or providers.provider
        self._model = request.model or providers.default_model(self._kind)
        self._other = PartsBuilder()
        self._thinking: list[str] = []
        self._completed: base.Completed | None = None
        self._timeout: TokenTimeout | None = None
        self._cut_stalled = False
        self._asked = False
        self._used: list[frames.Usage] = []
        self._tools: ToolLoop | None = None
        self._toolbox: Toolbox | None = None
        self._round = PartsBuilder()
        """What the model asked for since its last results, and where that began in text and thinking."""
        self._round_text = self._round_chars = self._round_thought = 0
        self._calls = 0
        self._likely = False
        """Whether log probabilities came."""

    def give_tools(self, toolbox: Toolbox) -> None:
        """Let the model call the specialist's own tools, unless the client brings its own. To be called before `run`."""
        asked = self._request
        if (
            toolbox
            and asked.tools
            and asked.stream
            and asked.persona
            and not (asked.options and asked.options.tools)
        ):
            self._toolbox = toolbox
            self._tools = ToolLoop(
                toolbox,
                self._spec.ai_id,
                self.request_id,
                self._sink,
                self._send_phase,
            )

    def decided(self, verdict: frames.Request) -> None:
        """Apply the platform's verdict on a tool call."""
        if self._tools is not None:
            self._tools.decided(verdict)

    @property
    def _who(self) -> str:
        return f"{self._kind}:{self._model}"

    def _settle(self) -> None:
        if self._timeout is not None:
            self._timeout.stop()

    def _billed(self, failed: TektonError | None) -> frames.Usage | None:
        """Return the provider's count, else an estimate of what is billed all the same; `None` when nothing is."""
        if self._completed is not None:
            return frames.summed(self._used)
        # Refused before anything was read: nobody bills that. Broken off later, the prompt was read and is
        # billed.
        if not self._asked or (failed and failed.code in REFUSED_UPSTREAM and not self._parts):
            return frames.summed(self._used) if self._used else None
        asked = sum(len(m.content) for m in self._request.messages or []) + len(self._request.prompt)
        asked += len(self._spec.persona)
        answered = sum(map(len, self._parts[self._round_text :]))
        # -(-a // b) rounds up.
        cut = frames.Usage(-(-asked // CHARS_PER_TOKEN), -(-answered // CHARS_PER_TOKEN), estimated=True)
        return frames.summed([*self._used, cut])

    async def _answer(self) -> None:
        request: base.CompletionRequest | None = None
        while True:
            # One slot for each round: while tools run, others may ask the model.
            async with self._providers.queue(self._kind).slot(self._on_position):
                if not self._providers.is_prepared(self._kind):
                    self._send_phase("queued", detail="warming")
                provider = await self._providers.get(self._kind)
                if request is None:
                    request = self._completion_request()
                    await self._check_abilities(request)
                # A new clock for each round: while tools run, no token can come.
                self._timeout = self._new_timeout()
                self._send_phase("prefill")
                self._timeout.start()
                self._asked = True
                async with _closing(provider, request) as items:
                    await self._relay(items, self._timeout)
                self._timeout.stop()
            if self._completed is None:
                raise base.ProviderFault(f"{self._kind} ended the answer without saying so: it may be cut")
            self._used.append(self._completed.usage)
            if request.options.logprobs is not None and not self._likely:
                self._notes.append(f"{self._who} gave no log probabilities")
            calls = self._round.calls()
            if self._tools is None or not calls or self._completed.finish_reason != "tool_calls":
                return
            await self._run_tools(self._tools, request, calls)

    async def _check_abilities(self, request: base.CompletionRequest) -> None:
        """Refuse what the model cannot do; our own tools are just not offered to a model that takes none."""
        needs = needed(request)
        if not needs and self._toolbox is None:
            return
        abilities = await self._providers.abilities(self._kind, self._model)
        check(needs, abilities, self._who)
        if self._toolbox is not None:
            if abilities.tools is False:
                self._notes.append(
                    f"{self._who} takes no tools: it answered without those of {self._spec.component}"
                )
                self._tools = None
            else:
                if self._toolbox.starts:
                    self._send_phase("queued", detail="its tool servers start")
                    await self._toolbox.started()
                self._notes += self._toolbox.problems
                request.options = msgspec.structs.replace(request.options, tools=self._toolbox.specs)

    async def _run_tools(
        self, tools: ToolLoop, request: base.CompletionRequest, calls: list[ToolCall]
    ) -> None:
        """Run what the model asked for and add its words and the results to the request, for another round."""
        first = self._calls
        self._calls += len(calls)
        for number, call in enumerate(calls, first):
            # Some servers give none, and the next round's results are told apart by them.
            call.id = call.id or f"call_{number}"
        said, thought = (
            "".join(self._parts[self._round_text :]),
            "".join(self._thinking[self._round_thought :]),
        )
        parts = self._round.parts(said, thought, self._who)
        named = iter(calls)  # both in the order in which the calls began
        for part in parts:
            if isinstance(part, ToolCall):
                part.id = next(named).id
        results = await tools.run(list(enumerate(calls, first)), frames.summed(self._used))
        await self._leave_out_unseen(results)
        request.messages = [
            *request.messages,
            ChatMessage("assistant", said, parts),
            ChatMessage("user", "", list(results)),
        ]
        if self._toolbox is not None and self._toolbox.specs != request.options.tools:
            request.options = msgspec.structs.replace(request.options, tools=self._toolbox.specs)
        if tools.over:
            self._notes.append(
                f"{tools.rounds} rounds of tools are the limit: the model was asked to conclude"
            )
            request.options = msgspec.structs.replace(request.options, choice=ToolChoice("none"))
        self._completed = None
        self._round = PartsBuilder()
        self._round_text, self._round_chars = len(self._parts), self._characters
        self._round_thought = len(self._thinking)

    async def _leave_out_unseen(self, results: list[ToolResult]) -> None:
        """Say of pictures in results that the model sees none, where that is so: sent all the same, they would end the turn."""
        with_pictures = [result for result in results if any(isinstance(p, ImagePart) for p in result.parts)]
        if (
            not with_pictures
            or (await self._providers.abilities(self._kind, self._model)).images is not False
        ):
            return
        for result in with_pictures:
            count = sum(isinstance(part, ImagePart) for part in result.parts)
            said = f"({count} picture{'s' * (count != 1)} left out: {self._who} sees none)"
            result.content = f"{result.content}\n{said}" if result.content else said
            result.parts = []

    async def _relay(self, items: AsyncIterator[base.StreamItem], timeout: TokenTimeout) -> None:
        relayed = 0
        async for item in items:
            match item:
                case base.Text(content=content):
                    self._on_token(timeout)
                    self._send_text(content)
                    self._characters += len(content)
                case base.Reasoning(content=content):
                    self._on_token(timeout)
                    self._on_thought(content)
                case base.ToolPiece() | base.Signature():
                    self._on_token(timeout)
                    self._on_part(item)
                case base.Logprobs(tokens=tokens):
                    self._likely = True
                    if self._request.stream and self._request.phases:
                        self._sink.send(frames.StreamLogprobs(self.request_id, tokens))
                case base.Queued(position=position, detail=detail):
                    # Waiting for a free place is no silence of the model.
                    timeout.start()
                    self._send_phase("queued", position, detail)
                case base.Loading(detail=detail):
                    self._send_phase("prefill", detail=detail)
                case base.Completed():
                    self._completed = item
            relayed += 1
            if self._sink.full:
                await self._sink.drain()
                timeout.reset()  # the client was slow, not the provider
            elif relayed % ITEMS_PER_STEP == 0:
                await asyncio.sleep(0)

    def _on_thought(self, content: str) -> None:
        for piece in in_pieces(content):
            if self._request.phases:
                self._sink.send(frames.StreamReasoning(self.request_id, piece))
            self._thinking.append(piece)

    def _on_part(self, item: base.ToolPiece | base.Signature) -> None:
        """Pass on what is neither text nor thinking; an answer in one piece keeps it until the end."""
        name = self.request_id
        if isinstance(item, base.ToolPiece):
            texts = map(encodable, (item.id, item.name, item.arguments))  # whatever a provider let through
            frame = frames.StreamToolCall(name, self._calls + item.index, *texts)
        else:
            frame = frames.StreamSignature(name, encodable(item.signature), encodable(item.id), item.redacted)
        if self._tools is not None:
            self._keep(self._round, frame, self._round_chars, self._round_thought)
        if self._request.stream:
            if self._request.phases or isinstance(frame, frames.StreamToolCall):
                self._sink.send(frame)
        else:
            self._keep(self._other, frame, 0, 0)

    def _keep(
        self,
        kept: PartsBuilder,
        frame: frames.StreamToolCall | frames.StreamSignature,
        text: int,
        thought: int,
    ) -> None:
        """Keep a piece of an answer that began behind so many characters of text and pieces of thinking."""
        if isinstance(frame, frames.StreamToolCall):
            kept.call(frame, self._characters - text)
        else:
            kept.sign(frame, self._characters - text, "".join(self._thinking[thought:]))

    def _completion_request(self) -> base.CompletionRequest:
        prompt = assemble(self._spec.persona, self._request)
        self._notes = prompt.notes
        asked = self._request
        return base.CompletionRequest(
            system=prompt.system,
            messages=prompt.messages,
            model=self._model,
            temperature=self._spec.temperature if asked.temperature is None else asked.temperature,
            temperature_by_role=asked.temperature is None and self._spec.temperature_by_role,
            max_tokens=asked.max_tokens or self._providers.max_tokens(self._kind),
            slot=self._spec.slot,
            options=self._options(),
        )

    def _options(self) -> AnswerOptions:
        """Return how the answer is wished for; what the request leaves alone is the specialist's own."""
        options = self._request.options or AnswerOptions()
        if options.effort is None and self._spec.effort is not None:
            options = msgspec.structs.replace(options, effort=self._spec.effort)
        return options

    def _new_timeout(self) -> TokenTimeout:
        limits = self._providers.timeouts(self._kind)
        self._cut_stalled = limits.cut_stalled
        between_s = self._request.stall_after_s or self._spec.stall_after_s or limits.between_tokens
        return TokenTimeout(
            first_token_s=limits.first_token,
            between_tokens_s=between_s,
            on_late=lambda: self.cancel(
                base.ProviderUnavailable(f"no token from {self._kind} within {limits.first_token:g} s")
            ),
            on_stall=lambda: self._on_stall(between_s),
        )

    def _on_token(self, timeout: TokenTimeout) -> None:
        timeout.last = self._loop.time()
        if self._phase != "streaming":
            if self._first_token_ms is None:
                self._first_token_ms = (timeout.last - self._arrived) * 1000
                timeout.first_token()
            self._send_phase("streaming")

    def _on_stall(self, threshold_s: float) -> None:
        text = f"no token for {threshold_s:g} s"
        if self._cut_stalled:
            self.cancel(TektonError(text, code="stalled"))
        elif self._phase != "stalled":
            self._send_phase("stalled", detail=text)

    def _on_position(self, position: int) -> None:
        self._send_phase("queued", position)

    def _content(self, text: str, model: str) -> list[Part]:
        return self._other.parts(text, "".join(self._thinking), model) if self._other else []

    def _metadata(self) -> frames.StreamMetadata:
        done = self._completed
        usage = frames.summed(self._used)
        if not done:  # what its model's last call took nobody counted
            cut = -(-(self._characters - self._round_chars) // CHARS_PER_TOKEN)
            usage = frames.summed([*self._used, frames.Usage(output_tokens=cut, estimated=True)])
        finish = "cancelled" if self._ending == "cancelled" else done.finish_reason if done else "stop"
        summary = self._summary(finish, usage, done.notes if done else ())
        if done:
            summary.stop = done.stop
            summary.context_tokens = self._used[-1].total if len(self._used) > 1 else 0
        return summary


@asynccontextmanager
async def _closing(
    provider: base.Provider, request: base.CompletionRequest
) -> AsyncGenerator[AsyncIterator[base.StreamItem]]:
    """Stream one answer, and close the provider's stream before the last frame is sent.

    A client that reads the last frame may count on the upstream request being over.
    """
    items = provider.stream(request)
    try:
        yield items
    finally:
        if hasattr(items, "aclose"):
            await cast("AsyncGenerator[base.StreamItem]", items).aclose()
