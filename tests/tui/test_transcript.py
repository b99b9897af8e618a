"""The transcript on a screen: what streams is seen, what is read stays, and nothing hostile gets out."""

from __future__ import annotations

from typing import cast

import pytest
from textual.app import App, ComposeResult
from textual.containers import Horizontal
from textual.geometry import Region
from textual.widgets import ContentSwitcher

from tekton_tui.runtime.frame_scheduler import FrameScheduler, frame_scheduler
from tekton_tui.transcript import Ending, Entry, Look, Transcript
from tekton_tui.transcript.entry import Kind
from tests.tui.transcript_app import ANSWER, HOSTILE, conversation, number_at_top, screen_text, shown


async def test_a_conversation_is_shown_with_its_speakers() -> None:
    async with shown(size=(60, 24)) as (_app, view, _pilot):
        view.load(
            [
                Entry("q", "you", "user", "Why?", colour="you"),
                Entry("a", "apollo", "answer", ANSWER, footer="9 tok"),
            ]
        )
        view.frame()
        assert screen_text(view)[:15] == [
            "▎ you",
            "▎ Why?",
            "",
            "▎ apollo",
            "▎ The queue breaks.",
            "▎",
            "▎   python",
            "▎   def drain(self):",
            "▎       return 1",
            "▎",
            "▎ See drain.",
            "▎ 9 tok",
            "",
            "",
            "",
        ]


async def test_a_stream_is_followed_to_its_last_token() -> None:
    async with shown() as (app, view, _pilot):
        view.load(conversation(20))
        view.begin(Entry("s", "apollo", "answer", ""))
        for number in range(100):
            view.append_text("s", f"word{number} ")
            view.frame()
            assert f"word{number}" in " ".join(screen_text(view)[-3:])
        view.finish("s", Ending("100 tok"))
        view.frame()
        assert screen_text(view)[-1].endswith("100 tok")
        assert view.text_of("s") == "".join(f"word{number} " for number in range(100))
        assert app.frame_scheduler is frame_scheduler(cast(App[object], app))


async def test_a_failed_stream_keeps_its_text_and_says_why() -> None:
    async with shown() as (_app, view, _pilot):
        view.begin(Entry("s", "apollo", "answer", ""))
        view.append_text("s", "Half an ans")
        view.finish("s", Ending(code="worker_lost", error="the process died"))
        view.append_text("s", "too late")
        view.frame()
        assert screen_text(view)[1:5] == ["▎ Half an ans", "▎", "▎ ✖ worker_lost", "▎ the process died"]


async def test_a_turn_that_waits_says_what_for() -> None:
    async with shown() as (_app, view, _pilot):
        view.begin(Entry("s", "apollo", "answer", ""))
        view.set_phase("s", "prefill 4.1 s")
        view.frame()
        assert screen_text(view)[1] == "▎ prefill 4.1 s▍"
        view.append_text("s", "Hello")
        view.frame()
        assert screen_text(view)[1] == "▎ Hello▍"


async def test_reading_is_not_disturbed_and_news_are_counted() -> None:
    async with shown() as (_app, view, pilot):
        view.load(conversation(40))
        view.frame()
        await pilot.press("pageup", "pageup")
        before = screen_text(view)
        assert not view.following
        view.begin(Entry("s", "apollo", "answer", ""))
        for _ in range(30):
            view.append_text("s", "more words here\n\n")
            view.frame()
        assert screen_text(view)[:-1] == before[:-1]
        assert screen_text(view)[-1].endswith("1 new ↓")
        assert view.unread == 1
        await pilot.press("G")
        assert view.following and view.unread == 0
        assert "more words here" in "".join(screen_text(view)[-4:])


async def test_a_click_on_the_badge_goes_to_the_tail() -> None:
    async with shown() as (_app, view, pilot):
        view.load(conversation(40))
        view.frame()
        await pilot.press("pageup")
        view.append_entry(Entry("n", "numa", "answer", "newest"))
        view.frame()
        await pilot.click(view, offset=(view.size.width - 4, view.size.height - 1))
        assert view.following
        assert screen_text(view)[-1] == "▎ newest"


async def test_wheel_to_the_end_follows_again() -> None:
    async with shown() as (_app, view, pilot):
        view.load(conversation(40))
        view.frame()
        await pilot.press("pageup")
        assert not view.following
        for _ in range(3):
            await pilot.press("pagedown")
        assert view.following


@pytest.mark.parametrize("kind", ["answer", "user", "error", "note"])
async def test_hostile_text_split_at_every_byte_stays_text(kind: Kind) -> None:
    async with shown(size=(70, 20)) as (app, view, pilot):
        for cut in range(0, len(HOSTILE), 3):
            view.load(
                [
                    Entry(
                        "e",
                        HOSTILE,
                        kind,
                        HOSTILE,
                        footer=HOSTILE,
                        reasoning=HOSTILE,
                        code=HOSTILE,
                        error=HOSTILE,
                    )
                ]
            )
            view.begin(Entry("s", HOSTILE, "answer", ""))
            view.set_phase("s", HOSTILE)
            view.append_text("s", HOSTILE[:cut])
            view.append_reasoning("s", HOSTILE[:cut])
            view.frame()
            view.append_text("s", HOSTILE[cut:])
            view.append_reasoning("s", HOSTILE[cut:])
            view.frame()
            for strip in view.render_lines(Region(0, 0, *view.size)):
                assert all(character.isprintable() for character in strip.text), strip.text
                assert all("@click" not in (style.meta or {}) for _text, style, _control in strip if style)
        await pilot.click(view, offset=(5, 2))
        assert app.is_running


async def test_older_history_is_added_above_what_is_read() -> None:
    async with shown() as (_app, view, pilot):
        view.load(conversation(30))
        view.frame()
        await pilot.press("g")
        await pilot.press("pagedown")
        before = screen_text(view)
        view.prepend([Entry(f"old{n}", "x", "answer", "older text\n\n" * 3) for n in range(50)])
        view.frame()
        assert screen_text(view) == before
        await pilot.press("g")
        assert "older text" in "".join(screen_text(view))


async def test_resize_keeps_the_message_at_the_top() -> None:
    async with shown(size=(80, 20)) as (_app, view, pilot):
        view.load(conversation(200))
        view.frame()
        for _ in range(7):
            await pilot.press("pageup")
        top = number_at_top(view)
        for width in (40, 100, 60):
            await pilot.resize_terminal(width, 20)
            await pilot.pause()
            assert number_at_top(view) == top


async def test_scrollbar_is_dragged() -> None:
    async with shown() as (_app, view, pilot):
        view.load(conversation(200))
        view.frame()
        await pilot.mouse_down(view, offset=(view.size.width - 1, 0))
        await pilot.mouse_up(view, offset=(view.size.width - 1, 0))
        assert view.scroll_y == 0
        assert screen_text(view)[1] == "▎ Question 0"


async def test_a_message_of_a_megabyte_works() -> None:
    async with shown() as (_app, view, pilot):
        view.begin(Entry("s", "apollo", "answer", ""))
        for part in range(64):
            view.append_text("s", ("word " * 3_200) if part % 2 else "x" * 16_000)
            view.frame()
        view.finish("s")
        view.frame()
        await pilot.press("g", "pagedown", "G", "pageup")
        assert len(view.text_of("s") or "") == 32 * 16_000 * 2


async def test_a_hidden_lane_only_keeps_text_and_shows_it_later() -> None:
    class Tabs(App[None]):
        def compose(self) -> ComposeResult:
            with ContentSwitcher(initial="one"):
                yield Transcript(id="one")
                yield Transcript(id="two")

    app = Tabs()
    async with app.run_test(size=(60, 10)) as pilot:
        hidden = app.query_one("#two", Transcript)
        hidden.begin(Entry("s", "numa", "answer", ""))
        for number in range(50):
            hidden.append_text("s", f"w{number} ")
        await pilot.pause(0.15)
        assert hidden.entries[0].text == ""
        app.query_one(ContentSwitcher).current = "two"
        await pilot.pause()
        assert hidden.entries[0].text.endswith("w49 ")
        assert "w49" in "".join(screen_text(hidden))


async def test_many_lanes_share_one_clock_that_stops_when_idle() -> None:
    class Lanes(App[None]):
        def __init__(self) -> None:
            super().__init__()
            self.frame_scheduler = FrameScheduler()

        def compose(self) -> ComposeResult:
            with Horizontal():
                for number in range(6):
                    yield Transcript(look=Look(header=False), id=f"lane{number}")

    app = Lanes()
    async with app.run_test(size=(120, 10)) as pilot:
        lanes = list(app.query(Transcript))
        for lane in lanes:
            lane.begin(Entry("s", "a", "answer", ""))
            lane.append_text("s", "hello")
        while app.frame_scheduler.running:
            await pilot.pause()
        assert all("hello" in screen_text(lane)[0] for lane in lanes)
        ticks = app.frame_scheduler.ticks
        await pilot.pause(0.2)
        assert app.frame_scheduler.ticks == ticks


async def test_what_did_not_change_is_not_drawn_again() -> None:
    async with shown() as (_app, view, _pilot):
        view.load(conversation(3))
        view.begin(Entry("s", "apollo", "answer", ""))
        view.append_text("s", "One line ")
        view.frame()
        before = view.render_lines(Region(0, 0, *view.size))
        view.append_text("s", "grows")
        view.frame()
        after = view.render_lines(Region(0, 0, *view.size))
        assert sum(old is not new for old, new in zip(before, after, strict=True)) == 1


async def test_every_text_is_legible_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with shown(size=(60, 24)) as (_app, view, pilot):
        view.load(conversation(4))
        view.frame()
        await pilot.press("up", "up")
        lines = screen_text(view)
        assert any(line.startswith("▌ ") for line in lines) and any(line.startswith("▎ ") for line in lines)
        for strip in view.render_lines(Region(0, 0, *view.size)):
            for _text, style, _control in strip:
                if style is not None and style.color is not None and style.color.triplet is not None:
                    assert len(set(style.color.triplet)) == 1
