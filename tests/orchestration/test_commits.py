"""A backend killed after any commit: what the next one finds agrees, each question with how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from backend.home import Home
from backend.memory.sqlite.database import SqliteDatabase
from backend.orchestration.platform import Platform
from backend.schema.frames import StreamChunk
from tests.orchestration.running import SLOW, Watcher, do, running, start

TEAM = ("apollo-ai", "athena-ai", "numa-ai")
TEAMS = ("team", "busy", "queued", "dropped")


class Copies:
    """The database as a kill would leave it after each commit that changed messages or open turns."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._seen = folder, ""
        self.homes: list[Path] = []
        commit = SqliteDatabase.write

        async def write(database: SqliteDatabase, work: Any) -> Any:
            result = await commit(database, work)
            self._keep(database.path)
            return result

        monkeypatch.setattr(SqliteDatabase, "write", write)

    def _keep(self, path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as source:
            state = repr(
                [
                    source.execute("SELECT count(*), max(id) FROM messages").fetchall(),
                    source.execute("SELECT request_id, waiting FROM open_turns ORDER BY 1").fetchall(),
                ]
            )
            if state == self._seen:
                return
            self._seen = state
            home = Home(self._folder / f"copy-{len(self.homes)}").prepare()
            target = home.state / path.name
            with contextlib.closing(sqlite3.connect(target)) as copy:
                source.backup(copy)
            self.homes.append(home.root)


async def run_everything(platform: Platform) -> None:
    """Ask, wait in a queue, change and withdraw what waits, cancel, and a pipeline; a team of whom one does not run, too."""
    watcher = Watcher(platform, "chat")
    try:
        await do(platform, "chat", ai_id="apollo", content="plain", request_id="plain")
        session = (await do(platform, "create_session", owner="apollo")).id
        for name, content in (("slow", SLOW), ("waits", "first words"), ("withdrawn", "never mind")):
            await do(
                platform,
                "chat",
                ai_id="apollo",
                content=content,
                request_id=name,
                session_id=session,
                wait=False,
            )
        await do(platform, "edit_turn", target="waits", content="other words")
        await do(platform, "cancel", target="withdrawn")
        await watcher.until(StreamChunk, request_id="slow")
        await do(platform, "cancel", target="slow")
        await do(
            platform, "chat", ai_id="apollo", content="other words", request_id="waits", session_id=session
        )
        await do(platform, "team_chat", content="all of you", request_id="team", target_ids=list(TEAM))
        for name, content in (("busy", SLOW), ("queued", "you too"), ("dropped", "never mind")):
            await do(
                platform, "team_chat", content=content, request_id=name, target_ids=list(TEAM), wait=False
            )
        await do(platform, "cancel", target="dropped")
        await do(platform, "cancel", target="busy")
        await do(platform, "team_chat", content="you too", request_id="queued", target_ids=list(TEAM))
        await do(platform, "pipeline", pipeline="apollo | athena", input="in turn", request_id="piped")
    finally:
        watcher.close()


async def test_after_a_kill_at_any_commit_every_question_is_kept_with_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path / "home", "apollo", "athena") as platform:
        with monkeypatch.context() as patched:
            copies = Copies(tmp_path, patched)
            await run_everything(platform)
    assert len(copies.homes) > 15
    open_at_once, waited = 0, set[str]()
    for root in copies.homes:
        before = await _left_open(root)
        open_at_once = max(open_at_once, len(before))
        waited |= {name for name, waiting in before.items() if waiting is not None}
        again = await start(root)
        try:
            assert await again.memory.turns.unfinished() == []
            rows = [
                row
                for session in (await again.memory.sessions.find(limit=100)).sessions
                for row in await again.memory.messages.read(session.id, limit=200)
            ]
            asked = {row.request_id: row.content for row in rows if row.role == "user"}
            ends = {row.request_id: row for row in rows if row.role == "assistant"}
            for request_id in asked:
                members = [f"{request_id}/{ai_id}" for ai_id in TEAM]
                expected = members if request_id in TEAMS else [request_id]
                assert all(name in ends for name in expected), (root.name, request_id, sorted(ends))
            assert len(ends) == sum(row.role == "assistant" for row in rows), "an answer is there once"
            assert asked.get("waits") in (None, "first words", "other words")
            for request_id, waiting in before.items():
                group, _, member = request_id.partition("/")
                if group in TEAMS and member in TEAM:  # what its members say stands with their question
                    assert group in asked and ends[request_id].lane == group, (root.name, request_id)
                never = ends[request_id].error == "the backend ended before this question was asked"
                assert never == (waiting is not None), (root.name, request_id)
        finally:
            await again.close(stop_fleet=False)
    assert open_at_once >= len(TEAM), "no copy was made in the middle of things"
    assert waited >= {"waits", *(f"queued/{ai_id}" for ai_id in TEAM)}, "nor while questions waited"


async def _left_open(root: Path) -> dict[str, str | None]:
    def read() -> dict[str, str | None]:
        with contextlib.closing(sqlite3.connect(Home(root).state / "engram.sqlite3")) as connection:
            return dict(connection.execute("SELECT request_id, waiting FROM open_turns").fetchall())

    return await asyncio.to_thread(read)
