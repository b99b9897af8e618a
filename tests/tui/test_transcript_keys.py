"""Reading a transcript: cursor, copy, folds, mouse and search."""

from __future__ import annotations

from tekton_tui.transcript import Ending, Entry
from tests.tui.transcript_app import ANSWER, conversation, screen_text, shown


async def test_y_copies_message_then_code_block() -> None:
    async with shown(size=(60, 24)) as (app, view, pilot):
        view.load(conversation(4))
        view.frame()
        await pilot.press("up", "y")
        assert app.heard[-1] == ("copied", f"Answer 3. {ANSWER}")
        await pilot.press("down", "y")
        assert any("y copy" in line for line in screen_text(view))
        assert app.heard[-1] == ("copied", "def drain(self):\n    return 1")
        assert app.clipboard == "def drain(self):\n    return 1"


async def test_keys_speak_of_the_message_under_the_cursor() -> None:
    async with shown(size=(60, 30)) as (app, view, pilot):
        view.load(conversation(4))
        view.frame()
        await pilot.press("up", "up", "R", "|", ">", "i")
        assert app.heard == [("again", "k2"), ("pipe", "k2"), ("quote", "Question 2"), ("edit", "k2")]


async def test_cursor_reads_through_a_message_taller_than_the_window() -> None:
    async with shown() as (_app, view, pilot):
        long = "\n\n".join(f"paragraph {n}" for n in range(40))
        view.load([Entry("a", "x", "answer", long), Entry("b", "x", "answer", "short")])
        view.frame()
        seen: set[str] = set()
        await pilot.press("g")
        for _ in range(60):
            seen.update(line for line in screen_text(view) if "paragraph" in line)
            await pilot.press("down")
        assert len({line[2:] for line in seen}) == 40
        assert view.following


async def test_raw_view_shows_the_source_with_its_controls() -> None:
    async with shown() as (_app, view, pilot):
        view.load([Entry("a", "apollo", "answer", "**bold** \x1b[31mred")])
        view.frame()
        await pilot.press("v")
        assert screen_text(view)[1] == "▌ **bold** ␛[31mred"
        await pilot.press("v")
        assert screen_text(view)[1] == "▌ bold ␛[31mred"


async def test_long_code_is_folded_and_unfolds() -> None:
    async with shown() as (_app, view, pilot):
        code = "".join(f"line {n}\n" for n in range(90))
        view.load([Entry("a", "apollo", "answer", f"```\n{code}```\n")])
        view.frame()
        assert "▎   ▸ 78 more lines" in screen_text(view)
        await pilot.press("up", "enter", "G")
        assert screen_text(view)[-1] == "▎   line 89"


async def test_reasoning_is_one_line_until_it_is_unfolded() -> None:
    async with shown() as (_app, view, pilot):
        view.begin(Entry("s", "apollo", "answer", ""))
        view.append_reasoning("s", "first this\nthen that")
        view.append_text("s", "So.")
        view.frame()
        assert screen_text(view)[1:4] == ["▎ ▸ thought  · first this then that", "▎ So.▍", ""]
        view.finish("s")
        view.frame()
        await pilot.click(view, offset=(4, 1))
        assert screen_text(view)[1:4] == ["▌ ▾ thought", "▌   first this", "▌   then that"]


async def test_reasoning_streams_in_place_until_the_answer_begins() -> None:
    async with shown() as (_app, view, _pilot):
        view.begin(Entry("s", "apollo", "answer", ""))
        view.append_reasoning("s", "".join(f"thought {n}\n" for n in range(9)) + "the last")
        view.frame()
        lines = screen_text(view)
        assert lines[1] == "▎ ▾ thinking" and lines[2] == "▎   thought 4" and lines[7] == "▎   the last▍"
        view.finish("s", Ending("stopped by you", "cancelled"))
        view.frame()
        assert screen_text(view)[1:3] == [
            "▎ ▸ thought  · thought 0 thought 1 thought 2 thought 3 th…",
            "▎ stopped by you",
        ]


async def test_a_day_begins_with_a_rule_wherever_the_messages_before_it_come_from() -> None:
    day = 86_400.0
    async with shown(size=(44, 20)) as (_app, view, _pilot):
        view.load(
            [
                Entry("b", "x", "answer", "two", 20_000.5 * day),
                Entry("c", "x", "answer", "three", 20_001.5 * day),
            ]
        )
        view.frame()
        rules = [line.strip() for line in screen_text(view) if "───" in line]
        assert [rule.split()[1:4] for rule in rules] == [
            ["Friday", "4", "October"],
            ["Saturday", "5", "October"],
        ]
        assert all(len(rule) == 40 for rule in rules) and not any("▎" in rule for rule in rules)
        view.prepend([Entry("a", "x", "answer", "one", 20_000.5 * day)])
        view.frame()
        assert [line.split()[2] for line in screen_text(view) if "───" in line] == ["4", "5"]
        assert screen_text(view)[0].startswith("  ─── Friday 4 October 2024 ──")


async def test_text_is_never_wider_than_its_measure() -> None:
    async with shown(size=(180, 12)) as (_app, view, _pilot):
        view.load([Entry("a", "x", "answer", "word " * 60 + "\n\n```\n" + "x" * 150 + "\n```\n", 1.0)])
        view.frame()
        assert max(len(line) for line in screen_text(view)) == 102


async def test_mouse_selects_text_without_bars_and_joins_wrapped_lines() -> None:
    async with shown(size=(24, 12)) as (app, view, pilot):
        view.load([Entry("a", "apollo", "answer", "alpha beta gamma delta epsilon\n\n- item one")])
        view.frame()
        await pilot.mouse_down(view, offset=(8, 1))
        await pilot.hover(view, offset=(20, 5))
        await pilot.mouse_up(view, offset=(20, 5))
        assert app.screen.get_selected_text() == "beta gamma delta epsilon\n\n• item one"


async def test_double_click_selects_one_message_only() -> None:
    async with shown(size=(40, 16)) as (app, view, pilot):
        view.load([Entry("a", "x", "answer", "first"), Entry("b", "x", "answer", "second\n\nmore")])
        view.frame()
        await pilot.click(view, offset=(6, 4), times=2)
        assert (app.screen.get_selected_text() or "").split() == ["x", "second", "more"]


async def test_search_goes_to_matches_and_marks_them() -> None:
    async with shown() as (app, view, pilot):
        view.load(conversation(400))
        view.search("question 12")
        while ("search", 6, True) not in app.heard:
            await pilot.pause()
        assert "▌ Question 128" in screen_text(view)
        await pilot.press("N")
        assert "▌ Question 126" in screen_text(view)
        await pilot.press("n")
        assert "▌ Question 128" in screen_text(view)
        view.search("")
        view.frame()


async def test_a_key_of_the_search_that_finds_nothing_further_says_so() -> None:
    async with shown() as (app, view, pilot):
        view.load(conversation(400))
        view.focus()

        def told() -> str:
            return " ".join(str(notice.message) for notice in app._notifications)

        await pilot.press("n")
        assert "nothing is sought" in told()
        view.search("question 399")
        while not any(words[:1] == ("search",) and words[-1] is True for words in app.heard):
            await pilot.pause()
        await pilot.press("N")
        assert "no hit further up" in told() and "down" not in told()
        await pilot.press("n")
        assert "no hit further down" in told()
