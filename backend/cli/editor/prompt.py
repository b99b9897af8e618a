"""One prompt of an editor: the turn it is for the platform, and what comes of it for the editor.

What waits for a person's word is put to the editor as well as to every console: the first answer counts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol
from uuid import uuid4

from msgspec import Struct

from backend.acp import messages as acp
from backend.acp.peer import Peer
from backend.cli.editor import updates
from backend.client import Client
from backend.schema import events, frames
from backend.schema.content import Part, TextPart
from backend.schema.errors import TektonError
from backend.schema.params import AnswerAsk, Cancel, Chat, RunPipeline, TeamChat
from backend.schema.records import RunRecord, TurnOutcome
from backend.schema.results import TeamResult
from backend.schema.tools import Ask

LAST_EVENTS_S = 2.0
"""How long the last events of a turn whose result is there are waited for, in seconds."""
OPTIONS = {"allow_once": "Allow", "allow_always": "Always allow", "reject_once": "Deny"}


class Target(Struct, frozen=True):
    """Who answers the editor: a specialist's `name`, the `team`, or a pipeline, whose text is `pipeline`.

    `owner` owns the conversations. A pipeline has none: each prompt is a run of its own, which knows no earlier ones.
    """

    kind: Literal["specialist", "team", "pipeline"]
    name: str
    owner: str
    pipeline: str = ""


class Editor(Protocol):
    """What a prompt has of the agent it belongs to."""

    client: Client
    peer: Peer

    def update(self, session_id: str, update: Struct) -> None:
        """Send the editor an update of a session."""
        ...

    def soon(self, work: Callable[[], Any]) -> asyncio.Task[None]:
        """Run something in the background; what the platform or the editor refuses is logged."""
        ...


class Prompt:
    """One prompt under way: what comes of it goes to the editor."""

    def __init__(self, editor: Editor, session_id: str, target: Target) -> None:
        self._editor, self.session_id, self._target = editor, session_id, target
        self.request_id = f"acp-{uuid4().hex[:16]}"
        self.asks: dict[str, asyncio.Task[None]] = {}
        self._cancelled = self._begun = False
        self._over = asyncio.Event()
        self._said = ""
        self._members: dict[str, str] = {}
        """Of a team: each member by the request id of its turn."""
        self._texts: dict[str, list[str]] = {}
        self._announced_members: set[str] = set()
        self._plan: dict[str, str] = {}
        self._calls: dict[tuple[str, int], updates.Call] = {}
        self._stages: list[str] = []

    async def run(self, text: str, pictures: Sequence[Part]) -> acp.Prompted:
        """Ask, and return how the turn ended."""
        try:
            match await self._call(text, pictures):
                case TeamResult() as result:
                    return self._team_ended(result)
                case RunRecord() as run:
                    return self._pipeline_ended(run)
                case TurnOutcome() as outcome:
                    return self._ended(outcome)
        except TektonError as error:
            if self._cancelled and error.code == "cancelled":
                return acp.Prompted("cancelled")
            raise

    async def _call(self, text: str, pictures: Sequence[Part]) -> TurnOutcome | TeamResult | RunRecord:
        """Call the platform; its result is behind the events of the turn, which are waited for."""
        client, session_id, request_id = self._editor.client, self.session_id, self.request_id
        try:
            match self._target.kind:
                case "team":
                    return await client.call(
                        TeamChat(content=text, session_id=session_id, request_id=request_id)
                    )
                case "pipeline":
                    pipeline = self._target.pipeline
                    return await client.call(
                        RunPipeline(pipeline=pipeline, input=text, request_id=request_id)
                    )
                case "specialist":
                    asked = Chat(self._target.name, text, session_id=session_id, request_id=request_id)
                    asked.parts = [TextPart(text), *pictures] if pictures else None
                    return await client.call(asked)
        finally:
            if self._begun and client.state == "attached":
                # the answer came on one way and the last words of the stream on another: they may still be under way
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LAST_EVENTS_S):
                        await self._over.wait()

    def cancel(self) -> None:
        """End the turn; the prompt's own answer says so."""
        if not self._cancelled:
            self._cancelled = True
            self._editor.soon(lambda: self._editor.client.call(Cancel(target=self.request_id)))

    def lost(self, reason: str) -> None:
        """Show that the backend is lost; the prompt fails by itself when it does not come back."""
        self._update(
            updates.chunk("agent_thought_chunk", f"The connection to the backend is lost: {reason}. ")
        )

    def close(self) -> None:
        for task in self.asks.values():
            task.cancel()

    # what goes on

    def take(self, event: Any) -> None:
        """Show the editor an event of this prompt."""
        self._begun = True
        self._show(event)
        is_end = isinstance(
            event, frames.StreamEnd | frames.StreamError | events.TeamEnd | events.PipelineEnd
        )
        if is_end and event.request_id == self.request_id:
            self._over.set()

    def _show(self, event: Any) -> None:
        match event:
            case frames.StreamReasoning() if self._target.kind == "specialist":
                self._update(updates.chunk("agent_thought_chunk", event.content))
            case frames.StreamChunk() if event.request_id == self.request_id:
                self._say(event.content)
            case frames.StreamChunk():
                self._texts.setdefault(event.request_id, []).append(event.content)
            case (
                frames.StreamToolCall() | frames.StreamToolResult() | events.AskOpened() | events.AskClosed()
            ):
                self._take_tool(event)
            case events.TeamStart():
                self._members = {name: member for member, name in event.lanes.items()}
                self._show_plan(dict.fromkeys(event.lanes, "in_progress"))
            case frames.StreamEnd() | frames.StreamError() if self._target.kind == "team":
                self._on_member(event)
            case events.PipelineStart():
                self._stages = event.stages
                self._show_plan({f"{n}. {stage}": "pending" for n, stage in enumerate(event.stages, 1)})
            case events.StageEvent():
                self._on_stage(event)
            case events.StageText():
                self._say(event.content)
            case _:
                pass

    def _say(self, text: str) -> None:
        if text:
            self._said += text
            self._update(updates.chunk("agent_message_chunk", text))

    def _update(self, update: Struct) -> None:
        self._editor.update(self.session_id, update)

    def _show_plan(self, changes: dict[str, str]) -> None:
        self._plan |= changes
        self._update(updates.Plan([updates.Step(name, status) for name, status in self._plan.items()]))

    def _on_stage(self, event: events.StageEvent) -> None:
        if 0 <= event.stage < len(self._stages) and event.state not in ("waiting", "not run"):
            status = "in_progress" if event.state == "running" else "completed"
            self._show_plan({f"{event.stage + 1}. {self._stages[event.stage]}": status})

    def _on_member(self, event: frames.StreamEnd | frames.StreamError) -> None:
        member = self._members.get(event.request_id)
        if member is None or member in self._announced_members:
            return
        self._announced_members.add(member)
        failed = f"failed: {event.message}" if isinstance(event, frames.StreamError) else ""
        self._say(updates.member_said(member, "".join(self._texts.pop(event.request_id, [])), failed))
        self._show_plan({member: "completed"})

    # tools

    def _take_tool(
        self, event: frames.StreamToolCall | frames.StreamToolResult | events.AskOpened | events.AskClosed
    ) -> None:
        match event:
            case frames.StreamToolCall():
                self._on_call(event)
            case frames.StreamToolResult():
                self._on_result(event)
            case events.AskOpened(ask):
                self.asks[ask.id] = self._editor.soon(lambda: self._ask(ask))
            case events.AskClosed() if task := self.asks.pop(event.id, None):
                task.cancel()
            case events.AskClosed():
                pass

    def _on_call(self, event: frames.StreamToolCall) -> None:
        key = (event.request_id, event.index)
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = updates.Call(f"{event.request_id}#{event.index}", event.name)
            self._update(updates.tool_update(call, "tool_call", "pending"))
            call.announced = True
        call.arguments += event.arguments

    def _on_result(self, event: frames.StreamToolResult) -> None:
        call = self._calls.setdefault(
            (event.request_id, event.index), updates.Call(f"{event.request_id}#{event.index}", event.tool)
        )
        call.ended = True
        status = "failed" if event.is_error else "completed"
        self._update(
            updates.tool_update(
                call, "tool_call_update" if call.announced else "tool_call", status, event.content
            )
        )

    async def _ask(self, ask: Ask) -> None:
        """Put a question about a tool to the editor, and its answer to the platform."""
        call = self._call_of(ask)
        options = [
            acp.PermissionOption(kind, f"{words} ({ask.always})" if kind == "allow_always" else words, kind)
            for kind, words in OPTIONS.items()
            if kind != "allow_always" or ask.always
        ]
        # an agent's options may have the very ids of ours
        own = {f"its-own/{one.id}": one for one in ask.options}
        options += [acp.PermissionOption(name, one.name, one.kind) for name, one in own.items()]
        given_to = updates.arguments_of(ask.arguments)
        diff = [acp.ToolContent("content", acp.Block("text", ask.diff))] if ask.diff else None
        shown = acp.ToolUpdate(call.id, ask.tool, updates.kind_of(ask), "pending", diff, raw_input=given_to)
        request = acp.RequestPermission(self.session_id, shown, options)
        given = (await self._editor.peer.call(acp.REQUEST_PERMISSION, request, acp.Permission)).outcome
        if given.outcome != "selected" and self._cancelled:
            return  # the turn ends, and its asks with it
        chosen = given.option_id or "" if given.outcome == "selected" else ""
        kind = own[chosen].kind if chosen in own else chosen
        answer = AnswerAsk(id=ask.id, answer="allow" if kind.startswith("allow") else "deny")
        answer.always = ask.always if chosen == "allow_always" else ""
        answer.option = own[chosen].id if chosen in own else ""
        await self._editor.client.call(answer)

    def _call_of(self, ask: Ask) -> updates.Call:
        for (request_id, _), call in reversed(self._calls.items()):
            same = request_id == ask.request_id and call.tool == ask.tool and call.arguments == ask.arguments
            if same and not call.ended:
                return call
        return updates.Call(ask.id, ask.tool, ask.arguments)

    # how it ended

    def _ended(self, outcome: TurnOutcome) -> acp.Prompted:
        self._say_rest(outcome.content)
        if outcome.code:
            if outcome.code == "cancelled":
                return acp.Prompted("cancelled")
            raise TektonError(outcome.error, code=outcome.code)
        for note in outcome.notes:
            self._say(f"\n\n_{note}_")
        reason = updates.STOPS.get(outcome.finish_reason or "stop", "end_turn")
        return acp.Prompted(reason, updates.usage_of(outcome.usage) if outcome.usage else None)

    def _team_ended(self, result: TeamResult) -> acp.Prompted:
        given: Iterable[tuple[str, str, str]] = [
            *((answer.socket_id, answer.content, "") for answer in result.responses),
            *((one.socket_id, one.partial, f"failed: {one.error}") for one in result.failures),
        ]
        for member, text, failed in given:
            if member not in self._announced_members:
                self._announced_members.add(member)
                self._say(updates.member_said(member, text, failed))
        if joint := result.synthesis or result.consensus:
            self._say(updates.member_said("together", joint))
        if self._cancelled:
            return acp.Prompted("cancelled")
        if not result.responses:
            code = result.failures[0].code if result.failures else "not_running"
            raise TektonError("no member of the team answered", code=code)
        return acp.Prompted("end_turn")

    def _pipeline_ended(self, run: RunRecord) -> acp.Prompted:
        if not run.ok:
            if self._cancelled or run.code == "cancelled":
                return acp.Prompted("cancelled")
            text = f"stage {run.failed_stage}: {run.error}" if run.failed_stage else run.error
            raise TektonError(text, code=run.code or "internal")
        self._say_rest(run.output)
        return acp.Prompted("end_turn")

    def _say_rest(self, whole: str) -> None:
        """Send what of a finished answer has not come as events."""
        # what was shown cannot be taken back: an answer that begins otherwise is left as it was shown
        if whole.startswith(self._said):
            self._say(whole[len(self._said) :])
