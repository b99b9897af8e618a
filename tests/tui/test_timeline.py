"""The timeline's bars: what is drawn of a turn, how rows are tied, and what the keys do on the screen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.schema.events import ErrorEntry
from backend.schema.frames import Phase
from backend.schema.history import TurnPhase, TurnRecord
from backend.schema.params import ListTurns
from backend.schema.records import ErrorRecord
from backend.schema.results import TurnList
from tekton_tui.app import TektonApp
from tekton_tui.widgets.chat.chat_view import ChatView
from tekton_tui.widgets.common.line_view import LineView
from tekton_tui.widgets.fleet.drawing import width_of
from tekton_tui.widgets.timeline.bars import PHASES, Window, arranged, axis, bars, facts, legend
from tekton_tui.widgets.timeline.gantt import Gantt
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, answer, live
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
WINDOW = Window(NOW - 60, NOW, 60)


def turn(
    name: str, begun: float, ended: float | None, *phases: tuple[Phase, float], **more: object
) -> TurnRecord:
    """Return a turn; times are seconds before `NOW`."""
    record = TurnRecord(
        f"{name}-{begun}",
        f"{name}-ai",
        "s1",
        "What breaks?",
        NOW - begun,
        0.0 if ended is None else NOW - ended,
    )
    record.phases = [TurnPhase(phase, NOW - at) for phase, at in phases]
    for key, value in more.items():
        setattr(record, key, value)
    return record


def _at(phase: Phase, moment: float) -> tuple[Phase, float]:
    return phase, moment


def drawn(*turns: TurnRecord) -> str:
    return "".join(part.text for part in bars(turns, WINDOW, NOW)).replace("┊", " ")


def test_each_phase_has_a_sign_of_its_own_and_the_end_says_how_it_ended() -> None:
    whole = turn(
        "apollo", 55, 10, ("queued", 55), ("prefill", 50), ("streaming", 45), ("tool", 30), ("streaming", 27)
    )
    assert drawn(whole) == "     ╌╌╌╌╌─────━━━━━━━━━━━━━━━═══━━━━━━━━━━━━━━━━━●         "
    assert drawn(turn("a", 5, 2, ("streaming", 5), code="timeout")).rstrip().endswith("✖")
    assert drawn(turn("a", 5, 2, ("streaming", 5), code="cancelled")).rstrip().endswith("○")
    assert "◆ asks you ╌" in drawn(turn("a", 40, None, ("streaming", 40), ("waiting", 30)))
    assert drawn(turn("a", 40, None, ("streaming", 40), ("stalled", 4))).endswith("◐╌╌╌")
    assert drawn(turn("a", 300, 200, ("streaming", 300))).strip() == ""


@given(
    st.lists(
        st.tuples(
            st.floats(-100, 100),
            st.floats(0, 100),
            st.lists(st.sampled_from(list(PHASES)), min_size=1, max_size=6),
        ),
        max_size=8,
    ),
    st.integers(8, 200),
)
def test_a_row_is_always_exactly_as_wide_as_its_window(
    given_turns: list[tuple[float, float, list[Phase]]], width: int
) -> None:
    turns = [
        turn("a", begun, begun - took, *[_at(phase, begun - place) for place, phase in enumerate(phases)])
        for begun, took, phases in given_turns
    ]
    window = Window(NOW - 60, NOW, width)
    assert width_of(bars(turns, window, NOW, NOW - 30)) == width == width_of(axis(window))


def test_what_the_backend_did_not_record_is_shown_as_unknown() -> None:
    row = "".join(part.text for part in bars([], WINDOW, NOW, NOW - 30))
    assert row[:30] == "░" * 30 and "░" not in row[30:]


def test_those_of_one_run_stand_together_and_are_tied() -> None:
    turns = [
        turn("rhetor", 50, 40, group="t1"),
        turn("numa", 45, 30),
        turn("apollo", 50, 20, group="t1"),
        turn("athena", 50, 20, group="t1"),
        turn("ergon", 10, 5, group="alone"),
    ]
    order = [f"{name}-ai" for name in ("numa", "rhetor", "ergon", "athena", "apollo")]
    ties = [(ai_id.removesuffix("-ai"), tie) for ai_id, tie in arranged(turns, order)]
    assert ties == [("rhetor", "╭"), ("athena", "│"), ("apollo", "╰"), ("numa", " "), ("ergon", " ")]


def test_the_facts_of_a_turn_name_each_wait() -> None:
    whole = turn("apollo", 50, 10, ("queued", 50), ("prefill", 48), ("streaming", 45), tokens_out=350)
    assert facts(whole, NOW) == "answered 40.0 s · queued 2.0 s · prefill 3.0 s · 350 tok · 10 tok/s"


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60), (40, 10)])
async def test_the_cursor_names_a_turn_the_keys_move_time_and_enter_opens_it(
    console: Maker, size: tuple[int, int]
) -> None:
    app, client = console(live("apollo"), live("athena"))
    past = [
        turn("athena", 40, 30, ("queued", 40), ("streaming", 38), tokens_out=99, first_token_ms=210.0),
        turn("athena", 20, 15, ("streaming", 20), code="worker_lost"),
        turn("apollo", 25, 10, ("streaming", 25), tokens_out=10),
    ]
    client.answers[ListTurns] = TurnList(past, NOW - 900)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("5")
        await settle(pilot)
        gantt = app.query_one(Gantt)
        await pilot.press("g")
        first = gantt.cursor_turn
        assert first is not None and not any(len(line) > size[0] for line in screen_text(app).splitlines())
        await pilot.press("down" if first.ai_id == "apollo-ai" else "down,up".split(",")[1])
        await settle(pilot)
        assert gantt.cursor_turn == past[1] and "worker lost 5.0 s" in screen_text(app)
        await pilot.press("left_curly_bracket")
        await settle(pilot)
        assert gantt.cursor_turn == past[0]
        await pilot.press("minus")
        await settle(pilot)
        assert gantt.span_words == "5 m"
        await pilot.press("left", "left", "left", "left", "left")
        await settle(pilot)
        assert not gantt.following and gantt.cursor_turn is None
        await pilot.press("f", "plus")
        await settle(pilot)
        assert gantt.following and gantt.cursor_turn == past[0]
        await pilot.press("enter")
        await settle(pilot)
        assert [view.ai_id for view in app.query(ChatView) if view.display] == ["athena-ai"]


def notices(app: TektonApp) -> list[str]:
    return [str(notice.message) for notice in app._notifications]


async def test_the_turn_before_is_gone_to_although_it_is_not_in_view_and_where_there_is_none_that_is_said(
    console: Maker,
) -> None:
    app, client = console(live("apollo"))
    past = [
        turn("apollo", 700, 690, ("streaming", 700), tokens_out=3),
        turn("apollo", 20, 15, ("streaming", 20), tokens_out=9),
    ]
    client.answers[ListTurns] = TurnList(past, NOW - 900)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("5")
        await settle(pilot)
        gantt = app.query_one(Gantt)
        assert gantt.cursor_turn == past[1]
        await pilot.press("left_curly_bracket")
        await settle(pilot)
        assert gantt.cursor_turn == past[0] and gantt.window.holds(past[0], NOW) and not gantt.following
        assert notices(app) == []
        await pilot.press("left_curly_bracket")
        await settle(pilot)
        assert gantt.cursor_turn == past[0] and "looks further back" in notices(app)[-1]
        await pilot.press("right_curly_bracket", "right_curly_bracket")
        await settle(pilot)
        assert (
            gantt.cursor_turn == past[1] and gantt.following and "newest turn of apollo" in notices(app)[-1]
        )


@pytest.mark.parametrize(("width", "indent"), [(80, 1), (100, 14), (120, 14)])
def test_the_legend_names_every_sign_at_every_width(width: int, indent: int) -> None:
    words = "".join(part.text for part in legend(width, indent))
    assert len(words) <= width and words.endswith("○ stopped")


async def test_a_line_that_is_cut_says_so_and_is_read_to_its_end_by_the_arrows(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("5")
        client.send(*answer("r1", "apollo-ai", "s", f"Why {'so ' * 30}late?", "No idea."))
        await settle(pilot)
        cut = next(line for line in screen_text(app).splitlines() if "asked: Why" in line)
        assert cut.rstrip().rstrip("▁▂▃▄▅▆▇█▐").rstrip().endswith("…") and "late?" not in cut
        assert "2 lines" in screen_text(app)
        view = app.query_one("#timeline-lines", LineView)
        view.focus()
        view.scroll_to(x=1000, animate=False)
        await settle(pilot)
        assert "late?" in screen_text(app)


async def test_a_failure_is_told_in_words_on_the_timeline_and_in_the_ledger(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        client.send(ErrorEntry(ErrorRecord(1, "apollo-ai", "provider_auth", "no key", NOW, NOW), 1))
        for place in ("timeline", "errors"):
            app.commands.navigator.show(place)
            await settle(pilot)
            assert "provider auth" in screen_text(app) and "provider_auth" not in screen_text(app)


async def test_a_turn_that_goes_on_is_a_bar_at_once_and_ends_where_it_ended(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("5")
        client.send(*answer("r1", "apollo-ai", "s", "And now?", "Nothing.")[:3])
        await settle(pilot)
        running = app.query_one(Gantt).cursor_turn
        assert running is not None and not running.ended_at and running.phases[-1].phase == "streaming"
        client.send(*answer("r1", "apollo-ai", "s", "And now?", "Nothing.")[3:])
        await settle(pilot)
        assert running.ended_at and running.code is None and running.tokens_out == 1
