"""Emoji shift nothing, whatever width the terminal draws them in."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from bench.terminal import Screen
from tekton_tui import safe_text
from tekton_tui.runtime.cluster_widths import KINDS, QUESTION, ClusterWidths
from tests.tui.fake_client import answer
from tests.tui.test_mouse import WHEEL_UP, click, point, seen
from tests.tui.test_notifications import console

EMOJI = "⚠️ ✔️ ℹ️ 1️⃣ ❤️ 👩‍👧 👨‍👩‍👧‍👦 👍🏽 🇩🇪 fine"


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without anything measured, and measure nothing for other tests."""
    monkeypatch.setattr(safe_text, "_replaced", {})


def measured(*cells: int) -> list[str]:
    """Return the problems reported when a terminal answers so; the last answer is that of an ambiguous sign."""
    problems: list[str] = []
    widths = ClusterWidths(lambda text: None, problems.append)
    for number in cells:
        widths.answered(number)
    return problems


def test_a_terminal_that_agrees_is_shown_everything() -> None:
    assert measured(2, 2, 2, 2, 2, 1) == []
    assert safe_text.safe(EMOJI) == safe_text.one_line(EMOJI) == EMOJI


def test_what_it_draws_otherwise_is_left_out_or_replaced() -> None:
    assert measured(1, 1, 4, 4, 4, 1) == []
    assert safe_text.safe(EMOJI) == safe_text.one_line(EMOJI) == "⚠ ✔ ℹ 1 ❤ 👩👧 👨👩👧👦 👍 DE fine"


def test_a_stream_cut_anywhere_is_replaced_as_a_whole_text_is() -> None:
    measured(1, 1, 4, 4, 4, 1)
    for cut in range(len(EMOJI)):
        assert safe_text.safe(EMOJI[:cut]) + safe_text.safe(EMOJI[cut:], EMOJI[:cut]) == safe_text.safe(EMOJI)


def test_the_terminal_of_these_tests_shows_what_is_read_in_pieces_as_in_one() -> None:
    sent = f"\x1b[1;1H{EMOJI}|\x1b[0m"
    whole = Screen(60, 1, clusters=True)
    whole.feed(sent)
    for cut in range(len(sent)):
        parts = Screen(60, 1, clusters=True)
        parts.feed(sent[:cut])
        parts.feed(sent[cut:])
        assert parts.text() == whole.text(), cut


def test_wide_signs_of_our_own_are_reported() -> None:
    (problem,) = measured(2, 2, 2, 2, 2, 2)
    assert "●" in problem


def test_each_sample_is_followed_by_a_question() -> None:
    assert QUESTION.count("\x1b[6n") == len(KINDS) + 1


@pytest.mark.parametrize("clusters", [True, False], ids=["by cluster", "by character"])
async def test_no_emoji_shifts_what_stands_right_of_it(tmp_path: Path, clusters: bool) -> None:
    async with console(tmp_path, clusters=clusters) as (terminal, gateway):
        await click(terminal, "2 Chat")
        await seen(terminal, "Ask athena")
        terminal.send("\x1bOR")  # F3: the panel stands to the right of what is said
        await seen(terminal, "stderr")
        await gateway.send(*answer("r1", "athena-ai", "s-athena-ai", "Emoji?", "\n\n".join([EMOJI] * 3)))
        await seen(terminal, "fine")
        await asyncio.to_thread(lambda: terminal.pump_for(0.5))
        rows = terminal.screen().splitlines()
        borders = [[cell.start() for cell in re.finditer("▊", _cells(terminal, y))] for y in range(len(rows))]
        lines = [found for y, found in enumerate(borders) if " fine" in rows[y] or "▎ you" in rows[y]]
        places = lines[0]
        assert places and all(found == places for found in lines)
        assert "1 Fleet" in rows[1] and "2 ready" in rows[0]
        more = "\n\n".join(f"paragraph {number}" for number in range(60))
        await gateway.send(*answer("r2", "athena-ai", "s-athena-ai", "More?", more))
        await seen(terminal, "paragraph 59")
        for _ in range(200):
            point(terminal, 20, 10, WHEEL_UP)
        await seen(terminal, "fine")
        await asyncio.to_thread(lambda: terminal.pump_for(0.5))
        rows = terminal.screen().splitlines()
        borders = [[cell.start() for cell in re.finditer("▊", _cells(terminal, y))] for y in range(len(rows))]
        lines = [found for y, found in enumerate(borders) if " fine" in rows[y]]
        assert lines and all(found == places for found in lines), (
            "nothing has shifted after scrolling away and back"
        )


def _cells(terminal: object, y: int) -> str:
    """Return a row with one character for each cell."""
    return "".join((cell or " ")[0] for cell in terminal._screen._cells[y])  # type: ignore[attr-defined]
