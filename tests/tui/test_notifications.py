"""Bell, title and desktop notification on a real terminal: once for each cause, as set, and the old title back at the end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from backend.schema.attention import AttentionItem
from backend.schema.events import AttentionChanged, SpecialistEvent
from backend.schema.frames import StreamEnd, StreamMetadata, StreamPhase, Usage
from bench.replay_gateway import ReplayGateway
from bench.terminal import Terminal
from tests.tui.fake_client import NOW, answer, answer_of, live, row, snapshot, usual_answers

BELL = b"\x07"
BLUR, FOCUS = "\x1b[O", "\x1b[I"


@asynccontextmanager
async def console(
    tmp_path: Path, settings: str = "", *, clusters: bool = False
) -> AsyncIterator[tuple[Terminal, ReplayGateway]]:
    """Show a console with these `[console]` settings on a terminal of its own (see `Screen` for `clusters`)."""
    (tmp_path / "home").mkdir(exist_ok=True)
    (tmp_path / "home" / "config.toml").write_text(f"[console]\n{settings}")
    (tmp_path / "token").write_text("x" * 48)
    (tmp_path / "token").chmod(0o600)
    first = snapshot(live("apollo"), live("athena"))
    async with ReplayGateway(first, partial(answer_of, usual_answers())) as gateway:
        command = [
            sys.executable,
            "-m",
            "tekton_tui",
            "--home",
            str(tmp_path / "home"),
            "--connect",
            gateway.url,
        ]
        command += ["--token-file", str(tmp_path / "token")]
        with Terminal(command, columns=120, rows=40, clusters=clusters) as terminal:
            await asyncio.to_thread(terminal.until, "2 ready")
            yield terminal, gateway


async def written(terminal: Terminal, mark: str) -> None:
    await asyncio.to_thread(terminal.until_bytes, mark.encode(), 20.0)


def bells(terminal: Terminal) -> int:
    """Return how often it rang: a BEL that does not end a title or a notification."""
    return sum(part.rpartition(b"\x1b]")[1] == b"" for part in bytes(terminal.written).split(BELL)[:-1])


def died() -> Any:
    return SpecialistEvent(row("athena", state="killed", signal=9, since=NOW, cause="killed by SIGKILL"), NOW)


def ended(total_s: float) -> StreamEnd:
    return StreamEnd("r1", StreamMetadata(1, 1, total_s, "apollo-ai", "m", "stop", Usage(1, 1), 10.0))


async def test_the_title_counts_who_is_ready_waits_and_failed_and_is_put_back_at_the_end(
    tmp_path: Path,
) -> None:
    async with console(tmp_path) as (terminal, gateway):
        place = gateway.url.partition("//")[2]
        await written(terminal, "\x1b[22;2t\x1b]2;tekton")
        await written(terminal, f"\x1b]2;tekton {place} · 2 ready\x07")
        await gateway.send(*answer("r1", "apollo-ai", "s", "q", "one")[:-1])
        await written(terminal, "· 1 waiting\x07")
        item = AttentionItem("down:athena-ai", "down", "athena-ai", NOW, "killed", "killed by SIGKILL")
        await gateway.send(ended(1.0), died(), AttentionChanged([item], []))
        await written(terminal, f"\x1b]2;tekton {place} · 1 ready · 1 killed\x07")
        stalled = AttentionItem(
            "stalled:apollo-ai", "stalled", "apollo-ai", NOW, "stalled", "no token for 15 s"
        )
        await gateway.send(AttentionChanged([stalled], []))
        await written(terminal, f"\x1b]2;◆1 tekton {place} · 1 ready · 1 killed\x07")
        terminal.send("\x11")
        await asyncio.to_thread(leave, terminal)
        assert terminal.process.returncode == 0
        drawn = bytes(terminal.written)
        assert drawn.count(b"\x1b[22;2t") == drawn.count(b"\x1b[23;2t") == 1


def leave(terminal: Terminal) -> None:
    """Choose `Leave running` in the quit dialog: the first button; Cancel has the focus."""
    terminal.until("Leave running")
    for key in ("\x1b[D", "\x1b[D", "\r"):
        terminal.pump_for(0.6)  # a question hears nothing at first
        terminal.send(key)
    terminal.wait()


async def test_a_crash_rings_once_and_tells_the_desktop_only_while_nobody_looks(tmp_path: Path) -> None:
    async with console(tmp_path) as (terminal, gateway):
        await gateway.send(died(), died())
        await asyncio.to_thread(terminal.until, "athena killed: killed by SIGKILL")
        assert bells(terminal) == 1 and b"\x1b]9;" not in terminal.written
        await gateway.send(SpecialistEvent(live("athena"), NOW))
        terminal.send(BLUR)
        await asyncio.to_thread(terminal.pump_for, 0.5)
        await gateway.send(died())
        await written(terminal, "\x1b]9;tekton: athena killed: killed by SIGKILL\x07")
        assert bells(terminal) == 2


async def test_a_stall_is_told_once_and_a_long_answer_only_while_nobody_looks(tmp_path: Path) -> None:
    async with console(tmp_path) as (terminal, gateway):
        terminal.send(BLUR)
        await asyncio.to_thread(terminal.pump_for, 0.5)
        stalled = StreamPhase("r1", "apollo-ai", "stalled")
        await gateway.send(*answer("r1", "apollo-ai", "s", "q", "one")[:-1], stalled, stalled, ended(60.0))
        await written(terminal, "\x1b]9;tekton: apollo is stalled\x07")
        await written(terminal, "\x1b]9;tekton: apollo has answered\x07")
        assert bytes(terminal.written).count(b"is stalled\x07") == 1


async def test_bell_notification_and_title_can_be_turned_off(tmp_path: Path) -> None:
    async with console(tmp_path, "bell = false\nnotify = false\ntitle = false\n") as (terminal, gateway):
        terminal.send(BLUR)
        await gateway.send(died())
        await asyncio.to_thread(terminal.until, "athena killed")
        assert (
            bells(terminal) == 0 and b"\x1b]9;" not in terminal.written and b"\x1b]2;" not in terminal.written
        )
