"""One question to an agent: its side of a turn. What the agent does goes out as frames; exactly one of them is the last.

An agent is asked once. Whatever it asks back is decided by the platform; with the end of the turn every such question is
answered, as void.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from backend import log as jsonlog
from backend.acp import messages as acp
from backend.acp.messages import chosen_answer, once
from backend.acp.peer import PeerClosed, RpcFailure
from backend.schema.errors import TektonError
from backend.schema.frames import (
    ChatResponse,
    DirectTurn,
    ErrorReply,
    FinishReason,
    Phase,
    Request,
    StreamChunk,
    StreamEnd,
    StreamError,
    StreamMetadata,
    StreamPhase,
    StreamReasoning,
    StreamStart,
    StreamToolCall,
    StreamToolResult,
    StreamToolUse,
    Usage,
)
from backend.schema.tools import AskOption
from backend.text import safe_line
from backend.wire import in_pieces
from backend.worker.agent.agent import Agent
from backend.worker.agent.conversations import Conversation
from backend.worker.agent.prompt import blocks_of
from backend.worker.agent.tool_calls import Changes, ToolRun, bounded
from backend.worker.generation import CHARS_PER_TOKEN, Sink
from backend.worker.tools.loop import shortened

log = logging.getLogger(__name__)

GATHER_S = 0.03
"""How long pieces of text are gathered to one: agents send a piece for each token."""
CANCEL_S = 1.7
"""How long the agent may take to confirm a cancel; the platform waits 2 s."""
SILENT_S = 0.1
"""How long the platform may take before the turn shows that it waits for a person."""
MAX_TOOLS = 1_000
"""Calls of tools that are followed in one turn."""
MAX_RESULT_BYTES = 32 * 1024
MAX_OPTIONS = 12
MAX_CHARS = 8 * 1024 * 1024
"""Characters of an answer; an agent that writes more is stopped."""
_STOPS: dict[str, tuple[FinishReason, str]] = {
    "end_turn": ("stop", ""),
    "max_tokens": ("length", ""),
    "max_turn_requests": ("length", "the agent ended its turn at its own limit of requests"),
    "refusal": ("refusal", ""),
    "cancelled": ("other", "the agent ended its turn itself, as agents do where a permission was refused"),
}


class AgentTurn:
    """Await `run` once, in a task of its own. `decides`: the platform is there to decide what the agent asks."""

    def __init__(self, agent: Agent, request: Request, request_id: str, sink: Sink, *, decides: bool) -> None:
        self.request_id = request_id
        self.changes = Changes()
        self._agent, self._request, self._sink, self._decides = agent, request, sink, decides
        self._loop = asyncio.get_running_loop()
        self._arrived = self._loop.time()
        self._task: asyncio.Task[None] | None = None
        self._ended, self._cancel = asyncio.Event(), asyncio.Event()
        self._ending: FinishReason | TektonError | None = None
        self._conversation: Conversation | None = None
        self._phase: Phase | None = None
        self._detail = ""
        self._gathered: list[str] = []
        self._gathering: asyncio.TimerHandle | None = None
        self._parts: list[str] = []
        self._characters = 0
        self._first_token_ms: float | None = None
        self._notes: list[str] = []
        self._runs: dict[str, ToolRun] = {}
        self._verdicts: dict[int, asyncio.Future[Request]] = {}
        self._asks = 0
        """Questions of the agent's that are numbered behind every call of a tool."""
        self._stop_reason = ""
        self._usage: acp.TokenUse | None = None
        self._cost: float | None = None
        self._currency = "USD"
        self._asked = self._answered = False
        self._alive = self._arrived
        self._clock: asyncio.TimerHandle | None = None

    # as the worker sees a turn

    async def run(self) -> None:
        """Ask and send every frame, the last one included. Raises nothing but `CancelledError` from outside."""
        self._task = asyncio.current_task()
        jsonlog.request_id.set(self.request_id)
        if self._request.stream:
            self._sink.send(StreamStart(self.request_id, self._agent.ai_id))
        try:
            if not self._request.prompt.strip() and not self._request.parts:
                raise TektonError("the content is empty: send text to answer", code="invalid_request")
            if self._ending is None:
                async with self._agent.slots:
                    await self._converse()
        except asyncio.CancelledError:
            if self._ending is None:
                raise
        except TektonError as error:
            self._ending = self._ending if isinstance(self._ending, TektonError) else error
        except PeerClosed as closed:
            self._ending = self._ending or TektonError(str(closed), code="worker_lost")
        except RpcFailure as failure:
            self._ending = self._ending or self._agent.refusal(failure)
        except Exception as error:
            log.exception("turn %s", self.request_id)
            self._ending = TektonError(f"{self._agent.ai_id} failed: {type(error).__name__}: {error}")
        finally:
            self._settle()
        self._finish()

    def _settle(self) -> None:
        """Close what the turn leaves open: questions, calls of tools, text that was gathered, timers."""
        self._void_asks()
        self._flush()
        for run in self._runs.values():
            if run.announced and not run.closed:
                self._close_run(run, "the turn ended before this was done", is_error=True)
        if self._clock is not None:
            self._clock.cancel()
        self._ended.set()

    def cancel(self, reason: FinishReason | TektonError = "cancelled") -> None:
        """End early for `reason`: the agent is told, and has to confirm. Safe to call twice."""
        if self._ending is not None:
            return
        self._ending = reason
        self._cancel.set()
        if not self._asked and self._task is not None and not self._task.done():
            self._task.cancel()

    def decided(self, verdict: Request) -> None:
        """Take the platform's word on a question of the agent's; one for no question changes nothing."""
        waiting = self._verdicts.get(verdict.index)
        if waiting is not None and not waiting.done():
            waiting.set_result(verdict)

    async def wait_cancelled(self) -> bool:
        """Wait for the end and return whether a cancel brought it about."""
        await self._ended.wait()
        return self._ending == "cancelled"

    def used(self, name: str, client: str) -> DirectTurn:
        """Return what this turn used, or why it failed: as `name`, which `client` asked for."""
        failed = self._ending if isinstance(self._ending, TektonError) else None
        return DirectTurn(
            request_id=name,
            ai_id=self._agent.ai_id,
            client=client,
            model=self._agent.model,
            at=time.time(),
            total_time=round(self._loop.time() - self._arrived, 4),
            usage=self._used() if self._asked else None,
            code=failed.code if failed else None,
            error=failed.message if failed else "",
            evidence=failed.evidence if failed else "",
        )

    # asking

    async def _converse(self) -> None:
        self._set_phase("queued", "opening the conversation")
        conversation, note = await self._agent.conversation(self._request.session)
        if note:
            self._notes.append(note)
        async with conversation.lock:
            self._conversation, conversation.turn = conversation, self
            try:
                blocks, notes = blocks_of(
                    self._request,
                    "" if conversation.begun else self._agent.spec.persona,
                    self._agent.takes,
                )
                self._notes += notes
                await self._prompt(conversation, acp.Prompt(conversation.agent_id, blocks))
            finally:
                conversation.turn, conversation.used_at = None, time.monotonic()
                if not conversation.name:
                    self._agent.forget(conversation)

    async def _prompt(self, conversation: Conversation, prompt: acp.Prompt) -> None:
        self._asked = conversation.begun = True
        self._set_phase("prefill")
        self._tick()
        asking = asyncio.create_task(self._agent.ask(prompt, self._on_answer))
        cancelled = asyncio.create_task(self._cancel.wait())
        try:
            await asyncio.wait([asking, cancelled], return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                self._agent.tell_cancel(conversation)
                self._void_asks()
                await asyncio.wait([asking], timeout=CANCEL_S)
            if not asking.done():
                conversation.broken = "the agent did not confirm a cancel in it"
                text = f"the agent did not confirm the cancel within {CANCEL_S:g} s: it may still be at work"
                self._ending = TektonError(
                    f"{text}; `tekton restart {self._agent.spec.component}` ends it", code="timeout"
                )
                raise self._ending
            answer = asking.result()
            self._stop_reason, self._usage = answer.stop_reason, answer.usage
        finally:
            asking.cancel()
            cancelled.cancel()

    def _on_answer(self) -> None:
        self._answered = True
        self._void_asks()

    # what the agent says meanwhile

    def on_update(self, update: acp.Update) -> None:
        """Take an update of this turn's conversation; what comes behind the agent's answer is no part of it."""
        if self._answered:
            return
        self._alive = self._loop.time()
        match update.session_update:
            case "agent_message_chunk":
                self._on_block(update.block)
            case "agent_thought_chunk":
                block = update.block
                self._set_phase("streaming", "thinking")
                if block is not None and block.text and self._request.phases:
                    self._flush()
                    self._sink.send(StreamReasoning(self.request_id, block.text))
            case "tool_call":
                self._set_apart(update.tool_call_id)
                self.on_tool(update.tool)
            case "tool_call_update":
                self.on_tool(update.tool)
            case "usage_update":
                self._on_cost(update)
            case _:
                pass  # the plan, modes, commands and options are the conversation's, which takes them

    def _on_block(self, block: acp.Block | None) -> None:
        if block is None:
            return
        text = (
            block.text
            if block.type == "text"
            else f"[{block.type}: {safe_line(block.name or block.uri or block.mime_type or '')}]"
        )
        if not text:
            return
        if self._first_token_ms is None:
            self._first_token_ms = (self._loop.time() - self._arrived) * 1000
        self._set_phase("streaming")
        self._characters += len(text)
        if self._characters > MAX_CHARS:
            self.cancel(TektonError(f"the agent wrote more than {MAX_CHARS:,} characters", code="too_large"))
            return
        self._gathered.append(text)
        if self._gathering is None:
            self._gathering = self._loop.call_later(0 if not self._parts else GATHER_S, self._flush)

    def _flush(self) -> None:
        """Send the text that was gathered."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        if self._gathered:
            text = "".join(self._gathered)
            self._gathered.clear()
            for piece in in_pieces(text):
                if self._request.stream:
                    self._sink.send(StreamChunk(self.request_id, piece, len(self._parts)))
                self._parts.append(piece)

    @property
    def full(self) -> bool:
        """Whether whoever reads this turn is slower than the agent."""
        return self._sink.full

    async def drain(self) -> None:
        """Wait until the reader has caught up."""
        await self._sink.drain()
        self._alive = self._loop.time()

    def _on_cost(self, update: acp.Update) -> None:
        conversation = self._conversation
        if update.cost is not None and conversation is not None:
            self._cost = (self._cost or 0.0) + max(0.0, update.cost.amount - conversation.spent)
            self._currency = update.cost.currency if len(update.cost.currency) == 3 else "USD"
            conversation.spent = update.cost.amount

    def on_tool(self, update: acp.ToolUpdate) -> ToolRun | None:
        """Take a call of a tool, or what of it changed."""
        run = self._runs.get(update.tool_call_id)
        if run is None:
            if len(self._runs) >= MAX_TOOLS:
                return None
            run = self._runs[update.tool_call_id] = ToolRun(len(self._runs), update.tool_call_id)
        if run.closed:
            return run
        run.merge(update)
        if run.status == "in_progress":
            run.began = run.began or self._loop.time()
            self._announce(run)
            self._set_phase("tool", run.shown)
        elif run.ended:
            self._announce(run)
            if run.status == "completed":
                self.changes.add(run)
                self._agent.changed(self.changes.files())
            self._close_run(run, run.result(), is_error=run.status == "failed")
            self._set_phase("prefill")
        return run

    def _set_apart(self, call_id: str) -> None:
        """Keep a call that has ended under another key: the agent begins one anew under its id, which is not the same."""
        run = self._runs.get(call_id)
        if run is not None and run.closed:
            self._runs[f"{call_id}\0{run.index}"] = self._runs.pop(call_id)

    def _announce(self, run: ToolRun) -> None:
        if run.announced:
            return
        run.announced = True
        self._flush()
        self._sink_part(
            StreamToolCall(self.request_id, run.index, run.id[:200], run.kind or "other", run.arguments())
        )

    def _close_run(self, run: ToolRun, text: str, *, is_error: bool) -> None:
        run.closed = True
        took_ms = (self._loop.time() - run.began) * 1000 if run.began else 0.0
        self._flush()
        self._sink_part(
            StreamToolResult(
                self.request_id,
                run.index,
                run.name,
                shortened(text, MAX_RESULT_BYTES),
                is_error,
                len(text.encode()),
                took_ms,
            )
        )

    def _sink_part(self, frame: StreamToolCall | StreamToolResult) -> None:
        if self._request.stream and self._request.phases:
            self._sink.send(frame)

    # what the agent asks

    async def permission(self, asked: acp.RequestPermission) -> acp.Permission:
        """Put a request for permission to the platform and return its answer in the agent's terms."""
        if self._answered:
            return acp.Permission(acp.Outcome("cancelled"))
        self._set_apart(asked.tool_call.tool_call_id)
        run = self.on_tool(asked.tool_call)
        if run is None or not self._decides:
            return chosen_answer(once(asked.options, "reject"))
        self._announce(run)
        options = [
            AskOption(one.option_id[:200], safe_line(one.name)[:200], one.kind)
            for one in asked.options[:MAX_OPTIONS]
        ]
        verdict = await self.verdict(run.index, run.name, run.arguments(), run.shown, options, run.diff())
        if verdict is None:
            return acp.Permission(acp.Outcome("cancelled"))
        if verdict.option:
            return acp.Permission(acp.Outcome("selected", verdict.option))
        chosen = once(asked.options, "allow" if verdict.allow else "reject")
        if verdict.allow and chosen is None:
            self._notes.append(
                "the agent offers no way to allow this once: one of its own options has to be chosen"
            )
        return chosen_answer(chosen)

    async def verdict(
        self,
        index: int | None,
        tool: str,
        arguments: str,
        shown: str,
        options: list[AskOption],
        diff: str = "",
    ) -> Request | None:
        """Return the platform's word on what the agent wants; `None` once the turn is over."""
        if self._ending is not None or self._answered or self._ended.is_set() or not self._decides:
            return None
        if index is None or index in self._verdicts:
            self._asks += 1
            index = MAX_TOOLS + self._asks
        waiting = self._verdicts[index] = self._loop.create_future()
        self._sink.send(
            StreamToolUse(
                self.request_id, self._agent.ai_id, index, tool, arguments, None, options, bounded(diff)
            )
        )
        try:
            await asyncio.wait([waiting], timeout=SILENT_S)
            if not waiting.done():
                self._set_phase("waiting", shown)
            return await waiting
        except asyncio.CancelledError:
            if waiting.cancelled():
                return None
            raise
        finally:
            del self._verdicts[index]
            self._alive = self._loop.time()
            if self._phase == "waiting" and not self._verdicts:
                self._set_phase("prefill")

    def _void_asks(self) -> None:
        for waiting in self._verdicts.values():
            waiting.cancel()

    # phases and the end

    def _set_phase(self, phase: Phase, detail: str = "") -> None:
        if (phase, detail) == (self._phase, self._detail) or self._ended.is_set():
            return
        self._phase, self._detail = phase, detail
        if self._request.stream and self._request.phases:
            self._sink.send(StreamPhase(self.request_id, self._agent.ai_id, phase, detail=detail))

    def _tick(self) -> None:
        """See whether the agent has been silent for too long; while a person is waited for nobody is late."""
        limit_s = self._request.stall_after_s or self._agent.stall_after_s(self._phase == "tool")
        left_s = self._alive + limit_s - self._loop.time()
        if left_s <= 0:
            if self._phase not in ("waiting", "stalled"):
                what = f" in {self._detail}" if self._phase == "tool" else ""
                self._set_phase("stalled", f"nothing from the agent for {limit_s:g} s{what}")
            left_s = limit_s
        self._clock = self._loop.call_later(max(left_s, 0.05), self._tick)

    def _finish(self) -> None:
        ending, spec = self._ending, self._agent.spec
        if isinstance(ending, TektonError):
            log.info("turn %s: %s: %s", self.request_id, ending.code, ending)
            text = ending.message
            if self._request.stream:
                self._sink.send(
                    StreamError(
                        self.request_id, spec.ai_id, ending.code, text, text, ending.evidence, ending.detail
                    )
                )
                return
            reply: Any = ErrorReply(
                spec.ai_id, ending.code, text, text, evidence=ending.evidence, detail=ending.detail
            )
        elif self._request.stream:
            self._sink.send(StreamEnd(self.request_id, self._metadata()))
            return
        else:
            done = self._metadata()
            reply = ChatResponse(done.ai_id, "".join(self._parts), done.model, done.usage, done.finish_reason)
        if self._request.request_id is not None:
            reply.request_id = self._request.request_id
        self._sink.send(reply)

    def _metadata(self) -> StreamMetadata:
        finish, note = _STOPS.get(
            self._stop_reason,
            ("other", f"the agent ended its turn with {safe_line(self._stop_reason)[:80]!r}"),
        )
        if self._ending == "cancelled":
            finish, note = "cancelled", ""
        elif not self._parts and not self._runs and not note:
            note = "the agent ended its turn without a word"
        usage, took_s = self._used(), self._loop.time() - self._arrived
        log.info("turn %s: %s, %d tokens in %.2f s", self.request_id, finish, usage.output_tokens, took_s)
        return StreamMetadata(
            total_chunks=len(self._parts),
            total_tokens=usage.output_tokens,
            total_time=round(took_s, 4),
            ai_id=self._agent.ai_id,
            model=self._agent.model,
            finish_reason=finish,
            usage=usage,
            first_token_ms=None if self._first_token_ms is None else round(self._first_token_ms, 2),
            notes=[*self._notes, *([note] if note else [])],
            changes=self.changes.diff(self._agent.agent_spec.cwd) if self.changes else "",
            cost=self._cost,
            currency=self._currency,
        )

    def _used(self) -> Usage:
        """Return the tokens as the agent counted them, else about how many they were."""
        used = self._usage
        if used is None:
            return Usage(
                -(-len(self._request.prompt) // CHARS_PER_TOKEN),
                -(-self._characters // CHARS_PER_TOKEN),
                estimated=True,
            )
        written, thought = used.cached_write_tokens or 0, used.thought_tokens or 0
        return Usage(
            input_tokens=used.input_tokens + written,
            output_tokens=used.output_tokens + thought,
            cached_tokens=used.cached_read_tokens or 0,
            reasoning_tokens=thought,
            written_tokens=written,
        )
