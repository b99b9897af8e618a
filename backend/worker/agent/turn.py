"""One question to an agent: its side of a turn. What the agent does goes out as frames; exactly one of them is the last.

An agent is asked once. Whatever it asks back is decided by the platform; with the end of the turn every such question is
answered, as void.
"""

from __future__ import annotations

import asyncio
import time

from backend.acp import messages as acp
from backend.acp.peer import PeerClosed, RpcFailure
from backend.schema import frames
from backend.schema.errors import TektonError
from backend.schema.tools import AskOption
from backend.text import safe_line
from backend.wire import in_pieces
from backend.worker.agent.agent import Agent
from backend.worker.agent.conversations import Conversation, Question
from backend.worker.agent.prompt import blocks_of
from backend.worker.agent.tool_calls import Changes, ToolRun, bounded
from backend.worker.tools.loop import shortened
from backend.worker.turn import CHARS_PER_TOKEN, Sink, WorkerTurn

GATHER_S = 0.03
"""How long pieces of text are gathered to one: agents send a piece for each token."""
CANCEL_S = 1.7
"""How long the agent may take to confirm a cancel; the platform waits 2 s."""
SILENT_S = 0.1
"""How long the platform may take before the turn shows that it waits for a person."""
MAX_TOOLS = 1_000
"""Tool calls that are followed in one turn."""
MAX_RESULT_BYTES = 32 * 1024
MAX_OPTIONS = 12
MAX_CHARS = 8 * 1024 * 1024
"""Characters of an answer and its thoughts; an agent that writes more is stopped."""
_STOPS: dict[str, tuple[frames.FinishReason, str]] = {
    "end_turn": ("stop", ""),
    "max_tokens": ("length", ""),
    "max_turn_requests": ("length", "the agent ended its turn at its own limit of requests"),
    "refusal": ("refusal", ""),
    "cancelled": ("other", "the agent ended its turn itself, as agents do where a permission was refused"),
}


class AgentTurn(WorkerTurn):
    """One question to the agent. `decides`: the platform is there to decide what the agent asks."""

    def __init__(
        self, agent: Agent, request: frames.Request, request_id: str, sink: Sink, *, decides: bool
    ) -> None:
        super().__init__(agent.ai_id, request, request_id, sink)
        self.changes = Changes()
        self._agent, self._decides = agent, decides
        self._cancel = asyncio.Event()
        self._conversation: Conversation | None = None
        self._gathered: list[str] = []
        self._thinks = False
        """Whether what is gathered is thought."""
        self._gathering: asyncio.TimerHandle | None = None
        self._runs: dict[str, ToolRun] = {}
        self._verdicts: dict[int, asyncio.Future[frames.Request]] = {}
        self._asks = 0
        """Questions of the agent's that are numbered behind every tool call."""
        self._stop_reason = ""
        self._usage: acp.TokenUse | None = None
        self._cost: float | None = None
        self._currency = "USD"
        self._asked = self._answered = False
        self._alive = self._arrived
        self._clock: asyncio.TimerHandle | None = None

    # as the worker sees a turn

    @property
    def _who(self) -> str:
        return self._agent.model

    async def _answer(self) -> None:
        try:
            async with self._agent.slots:
                await self._converse()
        except PeerClosed as closed:
            raise TektonError(str(closed), code="worker_lost") from closed
        except RpcFailure as failure:
            raise self._agent.refusal(failure) from failure

    def _settle(self) -> None:
        """Close what the turn leaves open: questions, tool calls, text that was gathered, timers."""
        self._void_asks()
        self._flush()
        for run in self._runs.values():
            if run.announced and not run.closed:
                self._close_run(run, "the turn ended before this was done", is_error=True)
        if self._clock is not None:
            self._clock.cancel()

    def _stop(self) -> None:
        """Have a cancel sent to the agent, which has to confirm it; before it was asked there is nothing to cancel."""
        self._cancel.set()
        if not self._asked:
            super()._stop()

    def decided(self, verdict: frames.Request) -> None:
        """Apply the platform's verdict on a question of the agent's; one for no question changes nothing."""
        waiting = self._verdicts.get(verdict.index)
        if waiting is not None and not waiting.done():
            waiting.set_result(verdict)

    # asking

    async def _converse(self) -> None:
        self._send_phase("queued", detail="opening the conversation")
        conversation, note = await self._agent.conversation(self._request.session)
        if note:
            self._notes.append(note)
        # The protocol takes one prompt at a time in a conversation; another turn of the same session waits
        # here.
        async with conversation.lock:
            self._conversation, conversation.turn = conversation, self
            try:
                asked = self._request
                effort = (asked.options and asked.options.effort) or self._agent.spec.effort or ""
                if why := await self._agent.set_effort(conversation, effort):
                    self._notes.append(why)
                # nothing stands before a command: agents know one by its place
                is_command = self._agent.is_command(asked.prompt)
                persona = "" if conversation.begun or is_command else self._agent.spec.persona
                blocks, notes = blocks_of(asked, persona, self._agent.takes)
                self._notes += notes
                conversation.begun = conversation.begun or not is_command
                await self._prompt(conversation, acp.Prompt(conversation.agent_id, blocks))
            finally:
                # What the agent says from here on belongs to no turn, and is dropped instead of landing in the
                # next one.
                conversation.turn, conversation.used_at = None, time.monotonic()
                if not conversation.name:
                    self._agent.forget(conversation)

    async def _prompt(self, conversation: Conversation, prompt: acp.Prompt) -> None:
        self._asked = True
        self._send_phase("prefill")
        self._tick()
        asking = asyncio.create_task(self._agent.ask(prompt, self._on_answer))
        cancelled = asyncio.create_task(self._cancel.wait())
        try:
            # Not `wait_for`: a cancel must leave the question open, as the agent confirms it by that very
            # answer.
            await asyncio.wait([asking, cancelled], return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                self._agent.send_cancel(conversation)
                self._void_asks()
                await asyncio.wait([asking], timeout=CANCEL_S)
            if not asking.done():
                # Not used again: a late answer to the cancelled question would be taken for the next one's.
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
                self._send_phase("streaming", detail="thinking")
                if (block := update.block) is not None and block.text:
                    self._gather(block.text, thought=True)
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
        self._send_phase("streaming")
        self._gather(text, thought=False)

    def _gather(self, text: str, *, thought: bool) -> None:
        """Keep text or thought for a moment: what comes meanwhile goes out with it."""
        self._characters += len(text)
        if self._characters > MAX_CHARS:
            self.cancel(TektonError(f"the agent wrote more than {MAX_CHARS:,} characters", code="too_large"))
            return
        if thought != self._thinks:
            self._flush()
            self._thinks = thought
        self._gathered.append(text)
        if self._gathering is None:
            # The first piece goes out at once: it is what the first-token latency is measured by.
            is_first = self._characters == len(text)
            self._gathering = self._loop.call_later(0 if is_first else GATHER_S, self._flush)

    def _flush(self) -> None:
        """Send the text or thought that was gathered."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        if not self._gathered:
            return
        text = "".join(self._gathered)
        self._gathered.clear()
        if not self._thinks:
            self._send_text(text)
        elif self._request.phases:
            for piece in in_pieces(text):
                self._sink.send(frames.StreamReasoning(self.request_id, piece))

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
            # An agent reports what the whole conversation has cost.
            self._cost = (self._cost or 0.0) + max(0.0, update.cost.amount - conversation.spent)
            self._currency = update.cost.currency if len(update.cost.currency) == 3 else "USD"
            conversation.spent = update.cost.amount

    def on_tool(self, update: acp.ToolUpdate) -> ToolRun | None:
        """Take a tool call, or what of it changed."""
        run = self._runs.get(update.tool_call_id)
        if run is None:
            # Beyond the bound they run unseen; an agent that counts wildly must not fill our memory.
            if len(self._runs) >= MAX_TOOLS:
                return None
            run = self._runs[update.tool_call_id] = ToolRun(len(self._runs), update.tool_call_id)
        if run.closed:
            return run
        run.merge(update)
        if run.status == "in_progress":
            run.began = run.began or self._loop.time()
            self._announce(run)
            self._send_phase("tool", detail=run.shown)
        elif run.ended:
            self._announce(run)
            if run.status == "completed":
                self.changes.add(run)
                self._agent.changed(self.changes.files())
            self._close_run(run, run.result(), is_error=run.status == "failed")
            self._send_phase("prefill")
        return run

    def _set_apart(self, call_id: str) -> None:
        """Keep a call that has ended under another key: the agent begins one anew under its id, which is not the same."""
        run = self._runs.get(call_id)
        if run is not None and run.closed:
            # NUL cannot be in an id, so no agent can name the set-aside one.
            self._runs[f"{call_id}\0{run.index}"] = self._runs.pop(call_id)

    def _announce(self, run: ToolRun) -> None:
        if run.announced:
            return
        run.announced = True
        self._flush()
        self._sink_part(
            frames.StreamToolCall(
                self.request_id, run.index, run.id[:200], run.kind or "other", run.arguments()
            )
        )

    def _close_run(self, run: ToolRun, text: str, *, is_error: bool) -> None:
        run.closed = True
        took_ms = (self._loop.time() - run.began) * 1000 if run.began else 0.0
        self._flush()
        self._sink_part(
            frames.StreamToolResult(
                self.request_id,
                run.index,
                run.name,
                shortened(text, MAX_RESULT_BYTES),
                is_error,
                len(text.encode()),
                took_ms,
            )
        )

    def _sink_part(self, frame: frames.StreamToolCall | frames.StreamToolResult) -> None:
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
            return _chosen(_once(asked.options, "reject"))
        self._announce(run)
        options = [
            AskOption(one.option_id[:200], safe_line(one.name)[:200], one.kind)
            for one in asked.options[:MAX_OPTIONS]
        ]
        question = Question(run.name, run.arguments(), run.shown, options, run.diff(), run.index)
        verdict = await self.verdict(question)
        if verdict is None:
            return acp.Permission(acp.Outcome("cancelled"))
        if verdict.option:
            return acp.Permission(acp.Outcome("selected", verdict.option))
        chosen = _once(asked.options, "allow" if verdict.allow else "reject")
        if verdict.allow and chosen is None:
            self._notes.append(
                "the agent offers no way to allow this once: one of its own options has to be chosen"
            )
        return _chosen(chosen)

    async def verdict(self, asked: Question) -> frames.Request | None:
        """Return the platform's verdict on what the agent wants; `None` once the turn is over."""
        if self._ending is not None or self._answered or self._ended.is_set() or not self._decides:
            return None
        index = asked.call
        if index is None or index in self._verdicts:
            self._asks += 1
            # Behind every tool call's number: two questions about one call each need a verdict of their own.
            index = MAX_TOOLS + self._asks
        waiting = self._verdicts[index] = self._loop.create_future()
        self._sink.send(
            frames.StreamToolUse(
                self.request_id,
                self._ai_id,
                index,
                asked.tool,
                asked.arguments,
                None,
                asked.options,
                bounded(asked.diff),
                asked.form,
            )
        )
        try:
            await asyncio.wait([waiting], timeout=SILENT_S)
            if not waiting.done():
                self._send_phase("waiting", detail=asked.shown)
            return await waiting
        except asyncio.CancelledError:
            # The question was voided (the turn is over); anything else is this task being cancelled itself.
            if waiting.cancelled():
                return None
            raise
        finally:
            del self._verdicts[index]
            self._alive = self._loop.time()
            if self._phase == "waiting" and not self._verdicts:
                self._send_phase("prefill")

    def _void_asks(self) -> None:
        for waiting in self._verdicts.values():
            waiting.cancel()

    # phases and the end

    def _tick(self) -> None:
        """See whether the agent has been silent for too long; while a person is waited for nobody is late."""
        limit_s = self._request.stall_after_s or self._agent.stall_after_s(self._phase == "tool")
        left_s = self._alive + limit_s - self._loop.time()
        if left_s <= 0:
            if self._phase not in ("waiting", "stalled"):
                what = f" in {self._detail}" if self._phase == "tool" else ""
                self._send_phase("stalled", detail=f"nothing from the agent for {limit_s:g} s{what}")
            left_s = limit_s
        self._clock = self._loop.call_later(max(left_s, 0.05), self._tick)

    def _metadata(self) -> frames.StreamMetadata:
        finish, note = _STOPS.get(
            self._stop_reason,
            ("other", f"the agent ended its turn with {safe_line(self._stop_reason)[:80]!r}"),
        )
        if self._ending == "cancelled":
            finish, note = "cancelled", ""
        elif not self._parts and not self._runs and not note:
            note = "the agent ended its turn without a word"
        summary = self._summary(finish, self._tokens(), [note] if note else [])
        if self.changes:
            summary.changes = self.changes.diff(self._agent.agent_spec.cwd)
        summary.cost, summary.currency = self._cost, self._currency
        return summary

    def _billed(self, failed: TektonError | None) -> frames.Usage | None:
        return self._tokens() if self._asked else None

    def _tokens(self) -> frames.Usage:
        """Return the tokens as the agent counted them, else an estimate; a count of zero is not taken for one."""
        used = self._usage
        if used is None or (not used.input_tokens and not used.output_tokens):
            return frames.Usage(
                -(-len(self._request.prompt) // CHARS_PER_TOKEN),
                -(-self._characters // CHARS_PER_TOKEN),
                estimated=True,
            )
        written, thought = used.cached_write_tokens or 0, used.thought_tokens or 0
        return frames.Usage(
            input_tokens=used.input_tokens + written,
            output_tokens=used.output_tokens + thought,
            cached_tokens=used.cached_read_tokens or 0,
            reasoning_tokens=thought,
            written_tokens=written,
        )


def _once(options: list[acp.PermissionOption], word: str) -> acp.PermissionOption | None:
    """Return the option that allows or rejects once, as `word` says; for a refusal any that rejects."""
    found = next((one for one in options if one.kind == f"{word}_once"), None)
    if found is not None or word == "allow":
        return found
    return next((one for one in options if one.kind.startswith(word)), None)


def _chosen(option: acp.PermissionOption | None) -> acp.Permission:
    """Return the answer that chooses an option; without one it is `cancelled`."""
    if option is None:
        return acp.Permission(acp.Outcome("cancelled"))
    return acp.Permission(acp.Outcome("selected", option.option_id))
