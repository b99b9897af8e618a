"""What the AI shell does over one connection: ask one or the team, run pipelines, list, history; answers as they come."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import msgspec

from backend.cli import terminal
from backend.cli.event_listener import CallEvent, Listener
from backend.cli.exit_codes import OK, exit_code
from backend.cli.pipeline import PipelineCall
from backend.cli.streams import Output, Pieces, within_cap
from backend.client import Client
from backend.client.attachments import attach_files
from backend.schema.content import AnswerOptions, Effort, TextPart
from backend.schema.errors import InvalidRequest, TektonError
from backend.schema.events import Snapshot
from backend.schema.frames import StreamChunk, StreamEnd
from backend.schema.orchestration import Mode
from backend.schema.params import (
    Chat,
    CreateSession,
    Discuss,
    GetHistory,
    ListSessions,
    ListSpecialists,
    Startable,
    TeamChat,
)
from backend.schema.records import TurnOutcome
from backend.schema.results import TeamResult
from backend.schema.states import SpecialistState

PLAIN_NAME = re.compile(r"@?[\w.-]+")
"""A specialist's name; anything else in its place is a stage of the pipeline language, such as `apollo[timeout=3]`."""
HISTORY = 50


class Shell:
    """One connection and how its user wants answers. `session_name` names a conversation by its title."""

    def __init__(self, client: Client, out: Output, *, session_name: str = "") -> None:
        self.client, self.out, self.session_name = client, out, session_name
        self.listener = Listener(client)

    async def ask(
        self, name: str, text: str, *, attached: Sequence[str] = (), effort: Effort | None = None
    ) -> int:
        """Ask one specialist; pieces are printed as they come. A cancelled call cancels the turn.

        `attached` are the paths of files that go along.
        """
        if not PLAIN_NAME.fullmatch(name):
            if attached or effort:
                raise InvalidRequest("--attach and --effort go to one specialist by name")
            return await self.pipeline(name, text)
        files = attach_files(attached)
        request_id = f"aish-{uuid4().hex[:16]}"
        question = Chat(
            ai_id=name,
            content=within_cap(text),
            session_id=await self._session(name) or "",
            request_id=request_id,
            parts=[TextPart(within_cap(text)), *files] if files else None,
            options=AnswerOptions(effort=effort) if effort else None,
        )
        pieces = Pieces(self.out)

        def handle(event: CallEvent) -> None:
            if isinstance(event, StreamChunk):
                pieces.give(event.content)
            elif isinstance(event, Snapshot):
                pieces.close()

        try:
            outcome = await self.listener.call(question, request_id, "chat", handle)
            pieces.complete(outcome.content)
        except TektonError as error:
            return self._failed(name, error, pieces)
        return self._answered(outcome)

    async def pipeline(self, source: str, given: str) -> int:
        """Run one pipeline of the grammar, its files read and written here."""
        call = PipelineCall(self.listener, self.out)
        return await call.run(source, given, session_id=await self._session("team") or "")

    async def ask_team(
        self,
        text: str,
        *,
        target_ids: list[str] | None = None,
        mode: Mode | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Ask the team; each answer is printed under its member's name as soon as it is complete."""
        request_id = f"team-{uuid4().hex[:16]}"
        question = TeamChat(
            content=within_cap(text),
            session_id=await self._session("team") or "",
            request_id=request_id,
            target_ids=target_ids,
            mode=mode,
            timeout_s=timeout_s,
        )
        return await self._team_turn(question, request_id)

    async def discuss(self, team_request_id: str) -> int:
        """Let the members of a team turn discuss their answers for one more round."""
        request_id = f"team-{uuid4().hex[:16]}"
        return await self._team_turn(
            Discuss(team_request_id=team_request_id, request_id=request_id), request_id
        )

    async def _team_turn(self, params: Startable[TeamResult], request_id: str) -> int:
        """Run a team action: an answer is printed when its member ends, the rest when all have ended."""
        parts: dict[str, list[str]] = {}
        given: set[str] = set()
        missed = False

        def handle(event: CallEvent) -> None:
            nonlocal missed
            match event:
                case Snapshot():
                    missed = True  # answers are printed from the result now, which is complete
                case StreamChunk():
                    parts.setdefault(event.request_id, []).append(event.content)
                case StreamEnd() if (
                    not missed and self.out.stream and event.metadata.finish_reason != "cancelled"
                ):
                    given.add(event.metadata.ai_id)
                    self._answer(event.metadata.ai_id, "".join(parts.pop(event.request_id, [])))
                case _:
                    pass

        return self._team_ended(await self.listener.call(params, request_id, "chat", handle), given)

    async def list_specialists(self) -> int:
        """Print all specialists with their states."""
        found = (await self.client.call(ListSpecialists())).specialists
        if self.out.as_json:
            for row in found:
                self.out.line(row)
            return OK
        rows = [(row.name, row.state, row.title) for row in found]
        terminal.print_table(("NAME", "STATE", "TITLE"), rows, state_column=1)
        return OK

    async def history(self, name: str) -> int:
        """Print a conversation: the named one, else the specialist's default one."""
        session = await self._session(name, create=False) or ""
        history = await self.client.call(
            GetHistory(specialist_id=name, conversation_id=session, limit=HISTORY)
        )
        for message in history.messages:
            if self.out.as_json:
                self.out.row("message", **msgspec.to_builtins(message))
                continue
            clock = time.strftime("%H:%M", time.localtime(message.created_at))
            text = message.content or f"({message.error_code}: {message.error})"
            self.out.text(f"{message.author.removesuffix('-ai')} {clock}: {text}\n")
        return OK

    async def states(self) -> dict[str, SpecialistState]:
        """Return the state of every specialist by its name."""
        return {row.name: row.state for row in (await self.client.call(ListSpecialists())).specialists}

    def _answered(self, outcome: TurnOutcome) -> int:
        """End the answer: with its line, the complete text where pieces were held back, or its row.

        How an answer ended that is not whole is said on stderr, and what else should be known of it.
        """
        # one object a line, so that a program reads answers of several calls with one loop
        if self.out.as_json:
            facts: dict[str, Any] = msgspec.to_builtins(outcome)
            self.out.row("answer", ai_id=outcome.ai_id, content=facts.pop("content"), metadata=facts)
        else:
            self.out.text("\n" if self.out.stream else f"{outcome.content}\n")
            whole = outcome.finish_reason in (None, "stop")
            if not whole or outcome.notes:
                words = outcome.notes or ["the answer was cut at its token limit"]
                terminal.error(f"{outcome.ai_id.removesuffix('-ai')}: {'; '.join(words)}")
        return OK

    def _failed(self, name: str, error: TektonError, pieces: Pieces) -> int:
        """Print what had come, end its line, and report on stderr what went wrong."""
        pieces.complete(str(error.detail.get("partial") or ""))
        if pieces.begun and not self.out.as_json:
            self.out.text("\n")
        return self.out.failed(name, error.code, error.message, evidence=error.evidence)

    def _answer(self, ai_id: str, text: str) -> None:
        if self.out.as_json:
            self.out.row("answer", ai_id=ai_id, content=text)
        else:
            self.out.text(f"{ai_id.removesuffix('-ai')}:\n{text}\n\n")

    def _team_ended(self, result: TeamResult, given: set[str]) -> int:
        for response in result.responses:
            if response.socket_id not in given:
                self._answer(response.socket_id, response.content)
        for kind, text in (("synthesis", result.synthesis), ("consensus", result.consensus)):
            if text:
                self._answer(kind, text)
        codes = [
            self.out.failed(failure.socket_id.removesuffix("-ai"), failure.code, failure.error)
            for failure in result.failures
        ]
        if self.out.as_json:
            self.out.row("team", request_id=result.request_id, elapsed_time=result.elapsed_time)
        # a hint for a person: a script would have to filter it out
        elif sys.stdout.isatty() and len(result.responses) > 1:
            print(f"one more round: tekton team --discuss {result.request_id}", file=sys.stderr)
        return OK if result.responses else codes[0] if codes else exit_code("not_running")

    async def _session(self, owner: str, *, create: bool = True) -> str | None:
        """Return the id of the named conversation with an owner, a new one if there is none; `None` is the default one."""
        if not self.session_name:
            return None
        from backend.memory.values import TITLE_CHARS, one_line

        found = await self.client.call(ListSessions(owner=owner, limit=1000))
        title = one_line(self.session_name, TITLE_CHARS)  # as it is kept
        for session in found.sessions:
            if session.title == title:
                return session.id
        if not create:
            raise TektonError(
                f"{owner} has no conversation named {self.session_name!r}; `tekton sessions` lists them",
                code="unknown_session",
            )
        return (await self.client.call(CreateSession(owner=owner, title=self.session_name))).id
