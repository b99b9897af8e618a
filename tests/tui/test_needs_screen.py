"""What waits for the operator: the queue on the screen, the way through it by `e`, and what is said to the backend."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from textual.widgets import ContentSwitcher

from backend.schema.attention import AttentionItem
from backend.schema.events import AttentionChanged
from backend.schema.params import AcknowledgeAttention, GetLogs, ListMessages, MarkSeen, SnoozeAttention
from backend.schema.results import AttentionList, LogText, MessageList
from tekton_tui.app import TektonApp
from tekton_tui.runtime.notifications import desktop_notice
from tests.tui.conftest import settle, until
from tests.tui.fake_client import NOW, FakeClient, live, message, row
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
pytestmark = pytest.mark.usefixtures("still")
DOWN = AttentionItem("down:ergon-ai", "down", "ergon-ai", NOW - 60, "exited 3", "No module named 'tools'")
STALLED = AttentionItem("stalled:rhetor-ai", "stalled", "rhetor-ai", NOW - 12, "stalled", "no token for 12 s")
ERROR = AttentionItem(
    "error:4", "error", "gateway", NOW - 240, "provider rate limited", "over its budget", 3, errors=[4]
)
DONE = AttentionItem(
    "done:r1", "done", "athena-ai", NOW - 60, "answered", "The March date cannot hold.", 1, "r1", "s1"
)
QUEUE = [DOWN, STALLED, ERROR, DONE]


async def test_the_queue_is_shown_most_urgent_first_with_counts_and_a_badge(console: Maker) -> None:
    app, client = console(live("athena"))
    client.first.attention = list(reversed(QUEUE))
    for size in ((80, 24), (120, 40)):
        async with app.run_test(size=size) as pilot:
            await settle(pilot)
            assert "◆ 1 needs you" in screen_text(app).splitlines()[0], "the stalled one; what failed is red"
            assert "Chat 1" in screen_text(app).splitlines()[1]
            assert "Needs you 1 ✖2" in screen_text(app).splitlines()[1]
            assert app._notifier._words().startswith("◆1 tekton")  # pyright: ignore[reportPrivateUsage]
            await pilot.press("4")
            await settle(pilot)
            text = screen_text(app).split("\n", 2)[2]
            assert "1 waits for you  2 failed  1 finished unseen" in text
            places = [text.index(word) for word in ("ergon", "rhetor", "gateway", "athena")]
            assert places == sorted(places)
            assert "provider rate limited ×3" in text
        app, client = console(live("athena"))
        client.first.attention = list(reversed(QUEUE))


async def test_what_is_done_with_an_item_is_told_to_the_backend_and_its_answer_is_shown(
    console: Maker,
) -> None:
    app, client = console(live("athena"))
    client.first.attention = QUEUE
    client.answers[AcknowledgeAttention] = AttentionList(QUEUE[1:])
    client.answers[SnoozeAttention] = AttentionList(QUEUE[2:])
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("4")
        await settle(pilot)
        await pilot.press("a")
        await settle(pilot)
        assert client.called(AcknowledgeAttention) == [AcknowledgeAttention(["down:ergon-ai"])]
        assert "ergon" not in screen_text(app)
        await pilot.press("Z", "enter")
        await settle(pilot)
        assert client.called(SnoozeAttention) == [SnoozeAttention(["stalled:rhetor-ai"], 600.0)]
        assert app.stores.attention.open() == QUEUE[2:]


async def test_another_consoles_doing_is_seen_here_and_the_cursor_keeps_its_item(console: Maker) -> None:
    app, client = console(live("athena"))
    client.first.attention = QUEUE
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("4", "down", "down")
        await settle(pilot)
        client.send(AttentionChanged([], ["down:ergon-ai"]))
        await settle(pilot)
        assert "gateway · provider rate limited" in screen_text(app)
        client.send(AttentionChanged([], [item.id for item in QUEUE]))
        await settle(pilot)
        assert "Nothing waits for you." in screen_text(app)


async def test_e_goes_to_the_next_from_any_place_and_a_seen_answer_is_told(console: Maker) -> None:
    app, client = console(live("athena"))
    client.first.attention = QUEUE
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("e")
        await settle(pilot)
        assert "ergon · exited 3" in screen_text(app)
        await pilot.press("E")
        await settle(pilot, 12)
        assert client.called(MarkSeen) == [MarkSeen(who=["athena-ai"])]
        assert app.stores.attention.items == {}


async def test_an_answer_that_comes_on_the_screen_has_been_seen(console: Maker) -> None:
    app, client = console(live("athena"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat("athena-ai")
        await settle(pilot, 12)
        client.send(AttentionChanged([DONE], []))
        await settle(pilot)
        assert client.called(MarkSeen) == [MarkSeen(who=["athena-ai"])]


async def test_the_tabs_hold_what_is_put_away_and_all_errors(console: Maker) -> None:
    app, client = console(live("athena"))
    client.first.attention = [
        AttentionItem(
            "error:9", "error", "host", NOW - 5, "memory low", "little is left", snoozed_until=NOW + 60
        )
    ]
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("4")
        await settle(pilot)
        assert "Nothing waits for you." in screen_text(app) and "Snoozed 1" in screen_text(app)
        await pilot.press("right_square_bracket")
        await settle(pilot)
        assert "little is left" in screen_text(app)
        await pilot.press("right_square_bracket")
        await settle(pilot)
        assert "No errors" in screen_text(app)


@pytest.mark.parametrize(
    ("environ", "sequence"),
    [
        ({"TERM": "xterm-256color"}, "\x1b]9;tekton: ergon is down\x07"),
        ({"TERM": "xterm-kitty"}, "\x1b]99;;tekton: ergon is down\x1b\\"),
        ({"TERM": "foot"}, "\x1b]777;notify;tekton;ergon is down\x1b\\"),
        ({"TERM": "xterm-256color", "VTE_VERSION": "7600"}, "\x1b]777;notify;tekton;ergon is down\x1b\\"),
        ({"TERM": "tmux-256color"}, ""),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/x"}, ""),
    ],
)
def test_a_notice_is_written_as_the_terminal_takes_it(environ: dict[str, str], sequence: str) -> None:
    assert desktop_notice("ergon is down", environ) == sequence


async def test_ages_are_by_the_gateway_s_clock_wherever_this_machine_s_stands(
    console: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page reads the same on a machine whose clock is three hours off, either way."""
    pages: dict[float, list[str]] = {}
    for ahead_s in (0.0, 10_800.0, -10_800.0):
        monkeypatch.setattr(time, "time", lambda ahead_s=ahead_s: NOW - ahead_s)
        app, client = console(
            live("athena"),
            live("rhetor", state="busy", phase="prefill", phase_since=NOW - 12),
            row("ergon", state="exited", exit_code=3, since=NOW - 60),
        )
        client.first.attention, client.ahead_s = QUEUE, ahead_s
        shown = pages.setdefault(ahead_s, [])
        async with app.run_test(size=(120, 40)) as pilot:
            panes = app.query_one("#panes", ContentSwitcher)
            for key, place in (("1", "fleet"), ("4", "needs"), ("5", "timeline"), ("6", "system")):
                await pilot.press(key)
                await until(pilot, lambda panes=panes, place=place: panes.current == place)
                await settle(pilot)
                shown.append(screen_text(app))
    assert "prefill 12 s" in pages[0.0][0] and "12 s" in pages[0.0][1]
    assert pages[10_800.0] == pages[0.0] == pages[-10_800.0]


LOG = [
    "2026-11-17 23:59:58,004 INFO backend.worker: ready",
    "2026-11-18 11:05:00,120 ERROR backend.worker: it fell over",
    "Traceback of 2026-11-18 11:05:00,120",
    "ModuleNotFoundError: tools",
]


async def test_the_card_shows_what_tells_more_of_an_item_and_nothing_of_another_one(console: Maker) -> None:
    app, client = console(live("athena"), row("ergon", state="exited", exit_code=3, since=NOW - 60))
    client.first.attention = [DOWN, DONE]
    client.answers[GetLogs] = LogText("ergon-ai", "", LOG)
    said = [
        message(1, "you", "Is the date right?", request_id="r1"),
        message(
            2,
            "athena-ai",
            "The March date cannot hold.\n\nThree tasks need the same two people.",
            request_id="r1",
        ),
        message(3, "you", "And then?", request_id="r2"),
    ]
    client.answers[ListMessages] = MessageList(said)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("4")
        await until(pilot, lambda: "ModuleNotFoundError: tools" in screen_text(app))
        rows = [row.strip("│┃ ") for row in screen_text(app).splitlines()]
        at = rows.index("its log")
        assert rows[at + 1 : at + 4] == [
            "17 Nov 23:59:58 INFO backend.worker: ready",
            "11:05:00 ERROR backend.worker: it fell over",
            "Traceback of 2026-11-18 11:05:00,120",
        ]
        await pilot.press("down")
        await until(pilot, lambda: "Three tasks need the same two people." in screen_text(app))
        text = screen_text(app)
        assert "Is the date right?" in text and "And then?" not in text and "Traceback" not in text
        client.hang.add(GetLogs)
        await pilot.press("up")
        await until(pilot, lambda: "Three tasks" not in screen_text(app))
