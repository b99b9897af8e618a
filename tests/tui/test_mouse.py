"""The mouse on a real terminal: what a click, a wheel and a drag do, sent as the terminal sends them (SGR)."""

from __future__ import annotations

import asyncio
import base64
import re
from pathlib import Path

from backend.schema.params import Kill
from bench.terminal import Terminal
from tests.tui.fake_client import answer
from tests.tui.test_notifications import console

PRESS, DRAG, WHEEL_UP, WHEEL_DOWN = 0, 32, 64, 65


def spot(terminal: Terminal, words: str, *, last: bool = False) -> tuple[int, int]:
    """Return column and line, from 1, where a text stands on the screen."""
    found = [
        (line.index(words) + 1, number)
        for number, line in enumerate(terminal.screen().splitlines(), 1)
        if words in line
    ]
    assert found, f"not on the screen: {words}\n{terminal.screen()}"
    return found[-1 if last else 0]


def point(terminal: Terminal, column: int, line: int, button: int = PRESS, end: str = "M") -> None:
    terminal.send(f"\x1b[<{button};{column};{line}{end}")


async def click(terminal: Terminal, words: str, *, last: bool = False, times: int = 1) -> None:
    """Click into a text once it is on the screen, and again at the very same place."""
    await seen(terminal, words)
    column, line = spot(terminal, words, last=last)
    for _ in range(times):
        point(terminal, column + 1, line)
        point(terminal, column + 1, line, end="m")


async def gone(terminal: Terminal, words: str) -> None:
    """Wait until a text is painted over: what is to be clicked may stand on the screen before, too."""
    await asyncio.to_thread(terminal.until, lambda t: words not in t.screen())


async def seen(terminal: Terminal, words: str) -> None:
    await asyncio.to_thread(terminal.until, words)


async def test_screens_rows_buttons_and_tabs_are_clicked(tmp_path: Path) -> None:
    async with console(tmp_path) as (terminal, gateway):
        await seen(terminal, "● apollo")
        await click(terminal, "3 Team")
        await seen(terminal, "Ask the whole team at once.")
        await click(terminal, "1 Fleet")
        await seen(terminal, "Launch all")
        await click(terminal, "athena ")
        await seen(terminal, "╭─ athena")
        await click(terminal, " Kill ")
        await seen(terminal, "This kills:")
        await click(terminal, "Cancel")
        await gone(terminal, "This kills:")
        assert not [call for call in gateway.calls if isinstance(call, Kill)]
        await click(terminal, "athena ", times=2)
        await seen(terminal, "to athena")
        await click(terminal, "1 Fleet")
        await seen(terminal, "Launch all")
        await gone(terminal, "to athena")
        await click(terminal, "● apollo ", times=2)
        await seen(terminal, "to apollo")
        await click(terminal, "athena")
        await seen(terminal, "to athena")


async def test_the_wheel_scrolls_and_a_drag_selects_what_is_then_copied(tmp_path: Path) -> None:
    async with console(tmp_path) as (terminal, gateway):
        await seen(terminal, "● apollo")
        await click(terminal, "● apollo ", times=2)
        await seen(terminal, "to apollo")
        text = "\n\n".join(f"paragraph number {number}" for number in range(60))
        await gateway.send(*answer("r1", "apollo-ai", "s-apollo-ai", "Count.", text))
        await seen(terminal, "paragraph number 59")
        column, line = spot(terminal, "paragraph number 59")
        for _ in range(200):
            point(terminal, column, line, WHEEL_UP)
        await seen(terminal, "Count.")
        for _ in range(200):
            point(terminal, column, line, WHEEL_DOWN)
        await seen(terminal, "paragraph number 59")
        column, line = spot(terminal, "paragraph number 59")
        before = len(terminal.written)
        point(terminal, column + 10, line)
        for step in range(11, 16):
            point(terminal, column + step, line, DRAG)
        point(terminal, column + 15, line, end="m")
        terminal.send("\x03")
        await asyncio.to_thread(terminal.until_bytes, b"\x1b]52;c;", since=before)
        copied = re.findall(rb"\x1b\]52;c;([A-Za-z0-9+/=]+)", bytes(terminal.written[before:]))
        assert base64.b64decode(copied[-1]).decode().strip() in "number", copied
        assert base64.b64decode(copied[-1]).decode().strip().startswith("numb")
