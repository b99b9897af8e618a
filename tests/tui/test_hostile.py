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
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from backend.schema.attention import AttentionItem
from backend.schema.errors import TektonError
from backend.schema.events import (
    AskOpened,
    AttentionChanged,
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
from backend.schema.params import (
    Chat,
    GetGateway,
    GetHistory,
    GetLogs,
    GetPreference,
    GetSession,
    GetSpecialist,
    Launch,
    ListMessages,
    ListModels,
    ListPipelines,
    ListSavedPipelines,
    ListSessions,
    MarkSeen,
)
from backend.schema.records import ErrorRecord, RunRecord, SavedPipeline, ServiceStatus, StageRecord
from backend.schema.results import (
    AttentionList,
    GatewayClient,
    History,
    LogText,
    MessageList,
    Model,
    PipelineRuns,
    Preference,
    ProviderList,
    ProviderModels,
    SavedPipelineList,
    SessionList,
)
from backend.schema.tools import Ask
from bench.replay_gateway import ReplayGateway
from bench.terminal import Terminal
from tests.tui.fake_client import (
    GATEWAY,
    NOW,
    Answers,
    answer,
    answer_of,
    detail,
    live,
    message,
    row,
    session,
    snapshot,
    team,
    usual_answers,
)

ATTACKS = (
    "\x1b]52;c;QQ==\x07", "\x1b[31;44m", "\x1b[2J\x1b[H", "\x9b2J", "\x9d0;OWNED\x9c", "\x1b]0;OWNED\x07",
    "\x1bPq#0\x1b\\", "\x1b_Gf=100;A\x1b\\", "\x1b^pm\x1b\\", "\x1bXsos\x1b\\", "\x90q\x9c", "\x9fG\x9c",
    "\u202e\u2066\u200f", "\x07\x08\x0b\x0c\r\x00\x7f", "\x1b[6n\x1b[c\x1b]11;?\x07", "\x1b[?1049l\x1bc",
    "[@click=app.quit]go[/]", "[bold", "[/]", "&#27;[5m", "\U000e0041\ufeff", "\x1b[8m", "\x1b[5m",
)  # fmt: skip
CORPUS = "".join(ATTACKS)
OWN = re.compile(
    r"\x1b\[[0-9;]*m|\x1b\[[0-9;]*[ABCDHJKcnt]|\x1b\[[?<>=][0-9;]*[a-zA-Z$]+|\x1b\]22;[a-z-]*\x07"
    r"|\x1b\]2;(?:◆\d+ )?tekton[^\x00-\x1f\x7f-\x9f]*\x07|\x1b[78=>]|\r|\n"
)
"""What the console itself writes: attributes, moves, modes, queries, the pointer's shape, and its title."""
IDENT = "apollo-ai"
QUIET_S = 0.15
FAR = NOW + 10 * 365 * 86_400


def evil(place: str, before: str = "") -> str:
    """Return the corpus with a mark that says where it was put, short enough for a narrow cell."""
    return f"{before}H{place}{CORPUS}"


def hostile_answers() -> Answers:
    """Return what a hostile gateway answers to the console's calls."""
    old = message(1, IDENT, evil("old"), request_id="m1", reasoning=evil("why"), error=evil("err"))
    stage = StageRecord(
        evil("lab"), "failed", evil("pin"), evil("pout"), code="internal", error=evil("perr"), elapsed_s=1.0
    )
    run = RunRecord("p0", evil("pip"), [stage], NOW, input=evil("pin"))
    client = GatewayClient(evil("cli"), "", "read", NOW, [evil("top")])
    call = GatewayCall(NOW, evil("cal"), "http", evil("act"), 403, refusal=evil("rfu"))
    status = replace(row("apollo"), name=evil("nam"), description=evil("dsc"), last_error=evil("ler"))
    return usual_answers() | {
        GetHistory: History(IDENT, "s", [old]),
        ListMessages: MessageList([old]),
        GetLogs: lambda params: LogText(params.id, evil("path"), [evil("log")] * 3),
        GetSession: session("s", title=evil("tit"), messages=1),
        ListSessions: SessionList(1, [session("s", title=evil("tit"), messages=1)]),
        ListPipelines: PipelineRuns([run]),
        ListSavedPipelines: SavedPipelineList([SavedPipeline(evil("sav"), evil("sap"))]),
        GetSpecialist: detail(status, evil("pers"), [evil("ali")]),
        GetPreference: Preference("k", evil("dra")),
        GetGateway: replace(GATEWAY, address=evil("adr"), clients=[client], recent=[call], refusals=[call]),
        ListModels: ProviderList([ProviderModels("ollama", True, "", [Model("m", evil("mod"), 0, 0, "")])]),
        MarkSeen: lambda params: AttentionList(what_waits()),
        Launch: TektonError(evil("ref"), code="internal"),
        Chat: TektonError(evil("cha"), code="internal"),
    }


def what_waits() -> list[AttentionItem]:
    names = (("down", "ergon-ai"), ("stalled", IDENT), ("error", evil("nwh")), ("done", IDENT))
    open_ = [
        AttentionItem(f"{kind}:1", kind, who, NOW, evil("sho"), evil("wai"), errors=[1])
        for kind, who in names
    ]
    later = AttentionItem("error:2", "error", "gateway", NOW, evil("sno"), evil("snw"), snoozed_until=FAR)
    return [*open_, later]


def hostile_events() -> list[Any]:
    """Return events with the corpus in every text they carry; one turn streams it split at every character."""
    record = ErrorRecord(1, evil("cod"), evil("whe"), evil("mes"), NOW, NOW, 2, evil("evi"))
    begun = answer("r1", IDENT, "s", evil("ask"))
    lane = answer("t1/apollo-ai", IDENT, "s-team", "q", *evil("lan"), group="t1")
    other = answer("t1/ergon-ai", "ergon-ai", "s-team", "q", evil("lax"), group="t1")
    asked = Ask(
        "k1", IDENT, "r1", "s", evil("too"), evil("arg"), NOW, FAR, evil("alw"), evil("que"), evil("rea")
    )
    split = [StreamChunk("r1", character, index) for index, character in enumerate(evil("new"))]
    thought = [StreamReasoning("r1", character) for character in evil("thi")]
    return [
        *begun[:2], StreamPhase("r1", IDENT, "queued", detail=evil("pha")), *thought, *split,
        StreamError("r1", IDENT, "internal", evil("fai"), evil("fai")),
        team("t1", evil("tea"), "apollo", "ergon"), *lane, *other, TeamEnd("t1", 1, 0, 0, 1.0, evil("syn"), evil("con")),
        ErrorEntry(record, 1),
        LogLines(evil("sou"), [evil("lin")], NOW), LogLines(IDENT, [evil("own")], NOW),
        AttentionChanged(what_waits(), []), AskOpened(asked),
        GatewayCall(NOW, evil("who"), "http", evil("act"), 403, 1.0, evil("refu")),
        ServiceEvent(ServiceStatus(evil("ser"), evil("ser"), "ready", detail=evil("det"), cause=evil("cau")), NOW),
        PipelineStart("p1", evil("pipe"), [evil("stg")], NOW), StageEvent("p1", 0, "failed", evil("lab"), error=evil("serr")),
        StageText("p1", 0, evil("stx")), PipelineEnd("p1", False, evil("out"), 1.0, 0, "internal", evil("pend")),
    ]  # fmt: skip


@asynccontextmanager
async def hostile_console(tmp_path: Path) -> AsyncIterator[tuple[Terminal, ReplayGateway]]:
    """Show a console on a terminal of its own, attached to a hostile gateway."""
    (tmp_path / "token").write_text("x" * 48)
    (tmp_path / "token").chmod(0o600)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text("[console]\nbell = false\n")
    named = [
        live("apollo", model=evil("mdl"), model_display=evil("mdl"), title=evil("rol"), description=evil("des"), cause=evil("lst")),
        row("ergon", state="exited", exit_code=3, since=NOW, cause=evil("dea"), title=evil("rol2")),
    ]  # fmt: skip
    rows = [replace(one, name=evil("nam", one.name)) for one in named]
    first = snapshot(*rows, services=[ServiceStatus(evil("svc"), evil("svc"), "ready", detail=evil("sdt"))])
    first.attention = what_waits()  # whoever is told anew what there is finds the same
    async with ReplayGateway(first, partial(answer_of, hostile_answers())) as gateway:
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


ESC = "\x1b[27u"
"""The key as terminals that name their keys send it: a lone ESC is waited for, and would take the next key along."""
GRACE = (("", ""),) * 5
"""A question takes no key in its first moments."""
WALK = (
    ("", "new"), (ESC, "thi"), ("1", "mdl"),
    # Fleet: the tabs of its detail, its dialogs and overlays
    ("]", ""), ("]", ""), ("]", ""), ("\x1b[B", ""), ("]", "des"), ("]", ""), ("]", ""), ("l", "log"), (ESC, ""),
    ("m", "mod"), *GRACE, (ESC, ""), ("s", "ref"), ("X", ""), *GRACE, (ESC, ""), (":detail apollo-ai\r", "pers"), (ESC, ""),
    # what waits, with its tabs, and the question of an agent
    ("4", "sho"), ("]", "sno"), ("]", "mes"), (":errors\r", "evi"), ("e", "too"), *GRACE, (ESC, ""), (ESC, ""),
    # Timeline, System, conversations, pipelines
    ("5", "ask"), ("K", "sou"), ("\t", ""), ("w", "lin"), (":gateway\r", "adr"), ("]", ""), (":sessions\r", "tit"), (ESC, ""), ("\x0f", "tit"), *GRACE, (ESC, ""),
    (":pipes\r", "pip"), ("\x0f", "sav"), *GRACE, (ESC, ""), (ESC, ""),
    # Team Chat: list, cards, one alone, two compared
    ("3", ""), (ESC, "lan"), ("L", "lan"), ("L", "lax"), ("z", "lan"), ("z", "lax"), (" ", ""), ("\x1b[C", ""), (" ", ""),
    ("=", "lax"), (ESC, ""),
    # over everything: palette, menu of names, quitting, what completes a name
    ("\x10", "rol"), (ESC, ""), ("\x11", "nam"), *GRACE, (ESC, ""), ("1", "mdl"), (":chat ap", "nam"), (ESC, ""), ("?", ""), (ESC, ""),
    ("2", "old"), ("@ap", "nam"), (ESC, ""), (ESC, ""), (":errors\r", "mes"),
)  # fmt: skip
"""Keys in turn, and the mark of what has to be seen after each: every place, its tabs, dialogs and overlays."""
PLACES = set(
    "mdl dea des ler log mod ref pers ask fai tea sou who ser pipe lin refu sho wai nwh sno too arg mes whe evi"
    " adr cli act tit old new thi err why pip sap nam rol sav lan lax".split()
)
"""Where the corpus has to be seen, by its mark, for the test to mean anything."""


async def test_no_control_byte_of_foreign_text_reaches_the_terminal_from_any_place(tmp_path: Path) -> None:
    async with hostile_console(tmp_path) as (terminal, gateway):
        shown: set[str] = set()
        terminal.send("2")
        await asyncio.to_thread(terminal.until, "Hold")
        # what is read a second time knows nothing of the turn below: this gateway stores none
        await asyncio.to_thread(settle, terminal, 1.0)
        await gateway.send(*hostile_events())
        for keys, place in WALK:
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


def settle(terminal: Terminal, quiet_s: float = QUIET_S) -> None:
    """Take output until none came for a while."""
    for _ in range(100):
        if not terminal.pump(quiet_s):
            return


def check(text: str) -> None:
    """See that nothing of the corpus acts in what was written."""
    raw = re.search("[\x80-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f]", text)
    assert raw is None, repr(text[raw.start() - 200 : raw.end()])
    assert not re.search("\x1b\\[(31;44|[58])m", text), "a colour of the text's own was written"
    assert "OWNED\x07" not in text and "52;c;" not in text.replace("␛]52;c;", "")
    rest = OWN.sub("", text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", rest), re.findall(
        ".{30}[\x00-\x08\x0b-\x1f\x7f].{30}", rest
    )[:5]
