"""What the AI shell does with a connection: ask one, ask the team, run pipelines, list, history; answers live."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import Any
from uuid import uuid4

from backend.cli import terminal
from backend.cli.exit_codes import OK, exit_code
from backend.cli.inputs import within_cap
from backend.cli.listening import Heard, Listener, first_of
from backend.cli.output import Output, Pieces
from backend.cli.pipe_files import PipelineCall
from backend.client import Client
from backend.schema.errors import TektonError
from backend.schema.events import Snapshot
from backend.schema.frames import StreamChunk, StreamEnd

PLAIN_NAME = re.compile(r"@?[\w.-]+")
"""A specialist's name; anything else in its place is a stage of the pipeline language, such as `apollo[timeout=3]`."""
HISTORY = 50


class Shell:
    """One connection and how its user wants answers. `session_name` names a conversation by its title."""

    def __init__(self, client: Client, out: Output, *, session_name: str = "") -> None:
        self.client, self.out, self.session_name = client, out, session_name
        self.listener = Listener(client)

    async def ask(self, name: str, text: str) -> int:
        """Ask one specialist; pieces are printed as they come. A cancelled call cancels the turn."""
        if not PLAIN_NAME.fullmatch(name):
            return await self.pipeline(name, text)
        session = await self._session(name)
        request_id = f"aish-{uuid4().hex[:16]}"
        pieces = Pieces(self.out)

        def hear(event: Heard) -> None:
            if isinstance(event, StreamChunk):
                pieces.give(event.content)
            elif isinstance(event, Snapshot):
                pieces.close()

        async with self.listener.hearing("chat", request_id, hear) as failure:
            call = asyncio.ensure_future(
                self.client.call(
                    "chat",
                    ai_id=name,
                    content=within_cap(text),
                    session_id=session,
                    request_id=request_id,
                    wait=True,
                )
            )
            try:
                outcome = await first_of(call, failure)
                pieces.complete(outcome["content"])
            except TektonError as error:
                return self._failed(name, error, pieces)
            except (asyncio.CancelledError, OSError):
                call.cancel()
                await self._cancel(request_id)
                raise
        return self._answered(outcome)

    async def pipeline(self, source: str, given: str) -> int:
        """Run one pipeline of the grammar, its files read and written here."""
        return await PipelineCall(self.client, self.listener, self.out).run(
            source, given, session_id=await self._session("team")
        )

    async def ask_team(self, text: str, **params: Any) -> int:
        """Ask the team; each answer is printed whole, as soon as it is, under its member's name."""
        session = await self._session("team")
        return await self._together("team_chat", content=within_cap(text), session_id=session, **params)

    async def discuss(self, team_request_id: str) -> int:
        """Have the members of a team turn discuss their answers for one more round."""
        return await self._together("discuss", team_request_id=team_request_id)

    async def _together(self, action: str, **params: Any) -> int:
        """Run a team action: each answer is printed when its lane ends, the rest when all have ended."""
        request_id = f"team-{uuid4().hex[:16]}"
        parts: dict[str, list[str]] = {}
        given: set[str] = set()
        missed = False

        def hear(event: Heard) -> None:
            nonlocal missed
            match event:
                case Snapshot():
                    missed = True  # from now on answers are given from the result, which is whole
                case StreamChunk():
                    parts.setdefault(event.request_id, []).append(event.content)
                case StreamEnd() if (
                    not missed and self.out.stream and event.metadata.finish_reason != "cancelled"
                ):
                    given.add(event.metadata.ai_id)
                    self._lane(event.metadata.ai_id, "".join(parts.pop(event.request_id, [])))
                case _:
                    pass

        async with self.listener.hearing("chat", request_id, hear) as failure:
            call = asyncio.ensure_future(self.client.call(action, request_id=request_id, wait=True, **params))
            try:
                answer = await first_of(call, failure)
            except (asyncio.CancelledError, OSError):
                await self._cancel(request_id)
                call.cancel()
                raise
        return self._team_ended(answer, given)

    async def list_specialists(self) -> int:
        answer = await self.client.call("list_specialists")
        if self.out.as_json:
            for row in answer["specialists"]:
                self.out.line(row)
            return OK
        rows = [(row["name"], row["state"], row["title"]) for row in answer["specialists"]]
        print(terminal.table(("NAME", "STATE", "TITLE"), rows, state_column=1))
        return OK

    async def history(self, name: str) -> int:
        """Print a conversation: the named one, else the specialist's default one."""
        answer = await self.client.call(
            "conversation_history",
            specialist_id=name,
            conversation_id=await self._session(name, begin=False),
            limit=HISTORY,
        )
        for message in answer["messages"]:
            if self.out.as_json:
                self.out.row("message", **message)
                continue
            clock = time.strftime("%H:%M", time.localtime(message["created_at"]))
            text = message["content"] or f"({message.get('error_code')}: {message.get('error')})"
            self.out.text(f"{message['author'].removesuffix('-ai')} {clock}: {text}\n")
        return OK

    async def states(self) -> dict[str, str]:
        """Return the state of every specialist by its name."""
        answer = await self.client.call("list_specialists")
        return {row["name"]: row["state"] for row in answer["specialists"]}

    def _answered(self, outcome: dict[str, Any]) -> int:
        """End the answer: its line, the whole where pieces were held back, or its row."""
        content = outcome.pop("content")
        if self.out.as_json:
            self.out.row("answer", ai_id=outcome["ai_id"], content=content, metadata=outcome)
        else:
            self.out.text("\n" if self.out.stream else f"{content}\n")
        return OK

    def _failed(self, name: str, error: TektonError, pieces: Pieces) -> int:
        """Give what had come, end its line, and say on stderr what went wrong."""
        pieces.complete(str(error.detail.get("partial") or ""))
        if pieces.begun and not self.out.as_json:
            self.out.text("\n")
        return self.out.failed(name, error.code, error.message, evidence=error.evidence)

    def _lane(self, ai_id: str, text: str) -> None:
        if self.out.as_json:
            self.out.row("answer", ai_id=ai_id, content=text)
        else:
            self.out.text(f"{ai_id.removesuffix('-ai')}:\n{text}\n\n")

    def _team_ended(self, answer: Any, given: set[str]) -> int:
        for response in answer["responses"]:
            if response["socket_id"] not in given:
                self._lane(response["socket_id"], response["content"])
        for kind in ("synthesis", "consensus"):
            if answer[kind]:
                self._lane(kind, answer[kind])
        codes = [
            self.out.failed(failure["socket_id"].removesuffix("-ai"), failure["code"], failure["error"])
            for failure in answer["failures"]
        ]
        if self.out.as_json:
            self.out.row("team", request_id=answer["request_id"], elapsed_time=answer["elapsed_time"])
        elif sys.stdout.isatty() and len(answer["responses"]) > 1:
            print(f"one more round: tekton team --discuss {answer['request_id']}", file=sys.stderr)
        return OK if answer["responses"] else codes[0] if codes else exit_code("not_running")

    async def _cancel(self, request_id: str) -> None:
        """End a turn at the specialist, too. What cannot be ended any more has ended."""
        try:
            await self.client.call("cancel", request_id=request_id)
        except TektonError as error:
            if error.code != "not_found":
                self.out.failed("", error.code, error.message)

    async def _session(self, owner: str, *, begin: bool = True) -> str | None:
        """Return the id of the named conversation with an owner, begun if there is none; `None` is the default one."""
        if not self.session_name:
            return None
        found = await self.client.call("list_sessions", owner=owner, limit=1000)
        for session in found["sessions"]:
            if session["title"] == self.session_name:
                return session["id"]
        if not begin:
            raise TektonError(
                f"{owner} has no conversation named {self.session_name!r}; `tekton sessions` lists them",
                code="unknown_session",
            )
        return (await self.client.call("create_session", owner=owner, title=self.session_name))["id"]


__all__ = ["Shell"]
