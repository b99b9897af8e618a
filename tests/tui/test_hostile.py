"""Hostile text in every place that shows foreign text, through the whole console on a real terminal.

A gateway of ours sends the corpus where a specialist, a model, a log, a client or another gateway could have put it;
the console attaches to it like to any other and every screen is shown.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from backend.schema.errors import TektonError
from backend.schema.events import (
    ErrorEntry,
    GatewayCall,
    LogLines,
    PipelineEnd,
    PipelineStart,
    ServiceEvent,
    StageEvent,
    StageText,
    TeamEnd,
)
from backend.schema.frames import StreamChunk, StreamError, StreamPhase, StreamReasoning
from backend.schema.records import ErrorRecord, ServiceStatus
from bench.replay_gateway import ReplayGateway
from bench.terminal import Terminal
from tests.tui.fake_client import NOW, FakeClient, answer, live, row, snapshot, team

ATTACKS = (
    "\x1b]52;c;QQ==\x07", "\x1b[31;44m", "\x1b[2J\x1b[H", "\x9b2J", "\x9d0;OWNED\x9c", "\x1b]0;OWNED\x07",
    "\x1bPq#0\x1b\\", "\x1b_Gf=100;A\x1b\\", "\x1b^pm\x1b\\", "\x1bXsos\x1b\\", "\x90q\x9c", "\x9fG\x9c",
    "\u202e\u2066\u200f", "\x07\x08\x0b\x0c\r\x00\x7f", "\x1b[6n\x1b[c\x1b]11;?\x07", "\x1b[?1049l\x1bc",
    "[@click=app.quit]go[/]", "[bold", "[/]", "&#27;[5m", "\U000e0041\ufeff", "\x1b[8m", "\x1b[5m",
)  # fmt: skip
CORPUS = "".join(ATTACKS)
OWN = re.compile(
    r"\x1b\[[0-9;]*m|\x1b\[[0-9;]*[ABCDHJKcnt]|\x1b\[[?<>=][0-9;]*[a-zA-Z$]+|\x1b\]22;[a-z-]*\x07"
    r"|\x1b\]2;tekton[^\x00-\x1f\x7f-\x9f]*\x07|\x1b[78=>]|\r|\n"
)
"""What the console itself writes: attributes, moves, modes, queries, the pointer's shape, and its title."""
IDENT = "apollo-ai"


def evil(place: str, before: str = "") -> str:
    """Return the corpus with a mark that says where it was put, short enough for a narrow cell."""
    return f"{before}H{place}{CORPUS}"


def hostile_answers() -> dict[str, Any]:
    """Return what a hostile gateway answers to the console's calls."""
    message = {"id": 1, "author": IDENT, "role": "assistant", "content": evil("old"), "created_at": NOW, "request_id": "m1",
               "reasoning": evil("why"), "error": evil("err"), "error_code": evil("cod")}  # fmt: skip
    session = {
        "id": "s",
        "is_default": False,
        "title": evil("tit"),
        "owner": IDENT,
        "updated_at": NOW,
        "messages": 1,
    }
    stage = {"label": evil("lab"), "state": "failed", "input": evil("pin"), "output": evil("pout"), "code": "internal",
             "error": evil("perr"), "input_bytes": 1, "output_bytes": 1, "lanes": [], "elapsed_s": 1.0}  # fmt: skip
    run = {
        "request_id": "p0",
        "pipeline": evil("pip"),
        "ok": False,
        "stages": [stage],
        "input": evil("pin"),
        "started_at": NOW,
    }
    client = {"client": evil("cli"), "scope": "read", "since": NOW, "topics": [evil("top")]}
    call = {"timestamp": NOW, "client": evil("cal"), "transport": "http", "action": evil("act"), "status": 403,
            "refusal": evil("rfu")}  # fmt: skip
    model = {"name": "m", "display": evil("mod"), "size": 0, "context_window": 0}
    return FakeClient(snapshot()).answers | {
        "conversation_history": {"conversation_id": "s", "messages": [message]},
        "session_messages": {"messages": [message]},
        "specialist_logs": {"source": evil("src"), "lines": [evil("log")] * 3, "path": evil("path")},
        "list_sessions": {"sessions": [session], "count": 1},
        "list_pipelines": {"runs": [run]},
        "saved_pipelines": {"saved": [{"name": evil("sav"), "pipeline": evil("sap")}]},
        "list_errors": {"errors": [], "unacknowledged": 0},
        "get_specialist": {
            "status_row": {"name": evil("nam"), "description": evil("dsc"), "last_error": evil("ler")},
            "aliases": [evil("ali")],
            "persona": evil("pers"),
        },
        "get_preference": {"value": evil("dra")},
        "gateway_info": {
            "address": evil("adr"),
            "total_calls": 1,
            "refused_calls": 1,
            "streams": 0,
            "events": {"seq": 1},
            "clients": [client],
            "recent": [call],
            "refusals": [call],
        },
        "list_models": {"providers": [{"provider": "ollama", "ok": True, "models": [model]}]},
        "launch": TektonError(evil("ref"), code="internal"),
        "chat": TektonError(evil("cha"), code="internal"),
        "get_orchestration": {"moderation_mode": evil("set")},
    }


def hostile_events() -> list[Any]:
    """Return events with the corpus in every text they carry; one turn streams it split at every character."""
    record = ErrorRecord(1, evil("cod"), evil("whe"), evil("mes"), NOW, NOW, 2, evil("evi"))
    begun = answer("r1", IDENT, "s", evil("ask"))
    lane = answer("t1/apollo-ai", IDENT, "s-team", "q", *evil("lan"), group="t1")
    other = answer("t1/ergon-ai", "ergon-ai", "s-team", "q", evil("lax"), group="t1")
    split = [StreamChunk("r1", character, index) for index, character in enumerate(evil("new"))]
    thought = [StreamReasoning("r1", character) for character in evil("thi")]
    return [
        *begun[:2], StreamPhase("r1", IDENT, "queued", detail=evil("pha")), *thought, *split,
        StreamError("r1", IDENT, "internal", evil("fai"), evil("fai")),
        team("t1", evil("tea"), "apollo", "ergon"), *lane, *other, TeamEnd("t1", 1, 0, 0, 1.0, evil("syn"), evil("con")),
        ErrorEntry(record, 1),
        LogLines(evil("sou"), [evil("lin")], NOW),
        GatewayCall(NOW, evil("who"), "http", evil("act"), 403, 1.0, evil("refu")),
        ServiceEvent(ServiceStatus(evil("ser"), evil("ser"), "ready", detail=evil("det"), cause=evil("cau")), NOW),
        PipelineStart("p1", evil("pipe"), [evil("stg")], NOW), StageEvent("p1", 0, "failed", evil("lab"), error=evil("serr")),
        StageText("p1", 0, evil("stx")), PipelineEnd("p1", False, evil("out"), 1.0, 0, "internal", evil("pend")),
    ]  # fmt: skip


@asynccontextmanager
async def hostile_console(tmp_path: Path) -> AsyncIterator[tuple[Terminal, ReplayGateway]]:
    """Show a console on a terminal of its own, attached to a hostile gateway."""
    (tmp_path / "token").write_text("x" * 48)
    named = [
        live("apollo", model=evil("mdl"), model_display=evil("mdl"), title=evil("rol"), description=evil("des"), cause=evil("lst")),
        row("ergon", state="exited", exit_code=3, since=NOW, cause=evil("dea"), title=evil("rol2")),
    ]  # fmt: skip
    rows = [msgspec.structs.replace(one, name=evil("nam", one.name)) for one in named]
    first = snapshot(*rows, services=[ServiceStatus(evil("svc"), evil("svc"), "ready", detail=evil("sdt"))])
    async with ReplayGateway(first, hostile_answers()) as gateway:
        command = [
            sys.executable,
            "-m",
            "tekton_tui",
            "--home",
            str(tmp_path / "home"),
            "--connect",
            gateway.url,
        ]
        with Terminal([*command, "--token-file", str(tmp_path / "token")], columns=180, rows=50) as terminal:
            await asyncio.to_thread(terminal.until, "apollo")
            yield terminal, gateway


KEYS = (
    ("", "new"), ("\x1b", ""), ("\x1b", ""), ("1", "mdl"), ("d", "pers"), ("\x1b", ""), ("l", "log"), ("\x1b", ""),
    ("m", "mod"), ("\x1b", ""), ("s", "ref"), ("5", "ask"), ("w", "lin"), ("6", "mes"), ("7", "adr"), ("8", "tit"), ("4", "pip"),
    ("\x0f", "sav"), ("\x1b", ""), ("\x1b", ""), ("3", ""), ("\x1b", "lan"), ("L", "lan"), ("L", "lax"), ("z", "lan"), ("z", "lax"),
    (" ", ""), ("\x1b[C", ""), (" ", ""), ("=", "lax"), ("\x1b", ""), ("\x10", ""), ("\x1b", ""), ("1", "mdl"), ("\x1b[B", ""),
    ("X", "nam"), ("\x1b", ""), ("\x11", "nam"), ("\x1b", ""), ("2", "old"), ("@ap", "nam"), ("\x1b", ""), ("6", "mes"),
)  # fmt: skip
"""Keys in turn, and a place to be waited for after each."""
PLACES = set(
    "mdl dea svc dsc ler pers log mod ref ask fai tea sou who ser pipe lin refu mes whe evi adr cli act tit old new pip nam sav lan lax".split()
)
"""Where the corpus has to be seen, by its mark, for the test to mean anything."""


async def test_no_control_byte_of_foreign_text_reaches_the_terminal_from_any_screen(tmp_path: Path) -> None:
    async with hostile_console(tmp_path) as (terminal, gateway):
        shown: set[str] = set()
        terminal.send("2")
        await asyncio.to_thread(terminal.until, "Hold")
        await gateway.send(*hostile_events())
        for keys, place in KEYS:
            terminal.send(keys)
            await asyncio.to_thread(terminal.until, f"H{place}␛" if place else "")
            await asyncio.to_thread(settle, terminal)
            shown |= set(re.findall("H([a-z]{3,4})\u241b", terminal.screen()))
        assert not PLACES - shown, f"{PLACES - shown} not seen\n{terminal.screen()}"
        await asyncio.to_thread(click_links, terminal)
        text = terminal.written.decode("utf-8")
        assert "Traceback" not in text and terminal.process.poll() is None, terminal.screen()
        check(text)


def click_links(terminal: Terminal) -> None:
    """Click with the mouse on every place where the markup of the corpus would be a link."""
    spots = [
        (place, line.index("go[/]"))
        for place, line in enumerate(terminal.screen().splitlines())
        if "go[/]" in line
    ]
    assert spots, terminal.screen()
    for place, column in spots:
        for kind in "Mm":
            terminal.send(f"\x1b[<0;{column + 1};{place + 1}{kind}")
        settle(terminal)


def settle(terminal: Terminal) -> None:
    """Take output until none came for a while."""
    for _ in range(40):
        if not terminal.pump_for(0.35):
            return


def check(text: str) -> None:
    """See that nothing of the corpus acts in what was written."""
    assert not re.search("[\x80-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f]", text)
    assert not re.search("\x1b\\[(31;44|[58])m", text), "a colour of the text's own was written"
    assert "OWNED\x07" not in text and "52;c;" not in text.replace("␛]52;c;", "")
    rest = OWN.sub("", text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", rest), re.findall(
        ".{30}[\x00-\x08\x0b-\x1f\x7f].{30}", rest
    )[:5]
