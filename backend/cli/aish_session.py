"""What the AI shell does with a connection: ask one, ask the team, list, history, with live output."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any
from uuid import uuid4

from backend.cli import terminal
from backend.cli.exit_codes import FAILED, OK, exit_code
from backend.schema.frames import StreamChunk, StreamEnd, StreamError


class Shell:
    """One connection and how its user wants answers. `session_name` names a conversation by its title."""

    def __init__(self, client: Any, *, as_json: bool, stream: bool, session_name: str) -> None:
        self.client = client
        self.as_json, self.stream, self.session_name = as_json, stream, session_name
        self._listening: asyncio.Task[None] | None = None
        self._ends: dict[str, asyncio.Future[StreamEnd | StreamError]] = {}
        self._spoke: set[str] = set()

    async def ask(self, name: str, text: str) -> int:
        """Ask one specialist; pieces are printed as they come."""
        session = await self._session(name)
        if not self.stream:
            outcome = await self.client.call("chat", ai_id=name, content=text, session_id=session, wait=True)
            self._put({"type": "answer", **outcome} if self.as_json else outcome["content"] + "\n")
            return OK
        await self._listen()
        request_id = f"aish-{uuid4().hex[:16]}"
        end = self._ends[request_id] = asyncio.get_running_loop().create_future()
        try:
            await self.client.call(
                "chat", ai_id=name, content=text, session_id=session, request_id=request_id, wait=False
            )
            frame = await end
        except asyncio.CancelledError:
            await self.client.call("cancel", request_id=request_id)
            raise
        finally:
            self._ends.pop(request_id, None)
        if not self.as_json and (request_id in self._spoke or isinstance(frame, StreamEnd)):
            self._put("\n")
        self._spoke.discard(request_id)
        if isinstance(frame, StreamError):
            terminal.error(f"{name}: {frame.code}: {frame.message}")
            return exit_code(frame.code)
        return exit_code("cancelled") if frame.metadata.finish_reason == "cancelled" else OK

    async def ask_team(self, text: str) -> int:
        answer = await self.client.call("team_chat", content=text, wait=True)
        for response in answer["responses"]:
            name = response["socket_id"].removesuffix("-ai")
            self._put(
                {"type": "answer", **response} if self.as_json else f"{name}:\n{response['content']}\n\n"
            )
        for failure in answer["failures"]:
            terminal.error(f"{failure['socket_id']}: {failure['code']}: {failure['error']}")
        return OK if answer["responses"] else FAILED

    async def list_specialists(self) -> int:
        answer = await self.client.call("list_specialists")
        if self.as_json:
            for row in answer["specialists"]:
                self._put(row)
            return OK
        rows = [(row["name"], row["state"], row["title"]) for row in answer["specialists"]]
        print(terminal.table(("NAME", "STATE", "TITLE"), rows, state_column=1))
        return OK

    async def history(self, name: str) -> int:
        answer = await self.client.call("conversation_history", specialist_id=name, limit=50)
        for message in answer["messages"]:
            if self.as_json:
                self._put(message)
            else:
                clock = time.strftime("%H:%M", time.localtime(message["created_at"]))
                self._put(f"{message['author'].removesuffix('-ai')} {clock}: {message['content']}\n")
        return OK

    async def names(self) -> list[str]:
        answer = await self.client.call("list_specialists")
        return [row["name"] for row in answer["specialists"]]

    async def _session(self, name: str) -> str | None:
        """Return the named conversation with a specialist, begun if there is none; `None` is the default one."""
        if not self.session_name:
            return None
        found = await self.client.call("list_sessions", owner=name, limit=1000)
        for session in found["sessions"]:
            if session["title"] == self.session_name:
                return session["id"]
        return (await self.client.call("create_session", owner=name, title=self.session_name))["id"]

    async def _listen(self) -> None:
        if self._listening is None:
            await self.client.subscribe(["chat"])
            self._listening = asyncio.create_task(self._hear())

    async def _hear(self) -> None:
        async for batch in self.client.events():
            for _, event in batch:
                request_id = getattr(event, "request_id", "")
                if request_id not in self._ends:
                    continue
                match event:
                    case StreamChunk():
                        self._spoke.add(request_id)
                        self._put(
                            {"type": "chunk", "content": event.content} if self.as_json else event.content
                        )
                    case StreamEnd() | StreamError():
                        if self.as_json:
                            self._put({"type": "end" if isinstance(event, StreamEnd) else "error"})
                        if not self._ends[request_id].done():
                            self._ends[request_id].set_result(event)
                    case _:
                        pass

    def _put(self, value: Any) -> None:
        """Write a piece at once: a JSON line, or text neutralised for a terminal."""
        if self.as_json:
            sys.stdout.write(json.dumps(value) + "\n")
        else:
            sys.stdout.write(terminal.shown(value))
        sys.stdout.flush()


__all__ = ["Shell"]
