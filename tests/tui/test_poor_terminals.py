"""What a terminal of few signs or colours is sent, at every place, over questions and notices. By bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pytest

from tests.tui.staged import READ_S, Staged

OVERLAYS = ("X", "S", "?", "'", "C", "o", "m", "n", "\x0f", "\x10", ":ki", "/zzz", "e")
PLACES = (*"123456", "L", "d", "z", ":gateway\r", ":models\r", ":hosts\r", ":settings\r", ":doctor\r",
          ":pipes\r", ":sessions\r", ":errors\r", ":log rhetor\r", ":chat rhetor\r")  # fmt: skip
SHADE = re.compile(rb"[34]8;2;(\d+);(\d+);(\d+)")
COLOUR = re.compile(rb"\x1b\[[0-9;]*[34]8;([25]);")


def walk(console: Staged, look: Callable[[str], None]) -> None:
    """Go to every place and open what opens over them, while somebody answers and others wait; then lose the backend."""
    console.wait_for("14 stopped")
    console.rest(READ_S)
    console.tell("turn", "tui-1", "numa", "Which port?", "one ")
    console.tell("row", "rhetor", "busy", "streaming")
    for keys in (*OVERLAYS, *PLACES):
        console.type("1" if keys in OVERLAYS else "")
        console.type(keys)
        console.rest(0.35)
        look(keys)
        for _ in range(2):
            console.type("\x1b")
            console.rest(0.15)
    console.tell("lost")
    console.rest()
    look("lost")


@pytest.mark.keys
def test_in_ascii_no_sign_beyond_it_is_drawn() -> None:
    found: dict[str, str] = {}
    with Staged(("history", "rhetor", 3), ("connect",), env={"ASCII_SIGNS": "1"}) as console:

        def look(where: str) -> None:
            for row in console.emulator.rows:
                found.update({sign: f"{where!r}: {row}" for sign in row if not sign.isascii()})

        walk(console, look)
    with Staged(("empty",), ("connect",), env={"ASCII_SIGNS": "1"}) as console:
        console.wait_for("Who should answer")
        console.rest()
        look("first form")
    assert found == {}


@pytest.mark.keys
@pytest.mark.parametrize(
    ("env", "kinds"),
    [
        ({"COLORTERM": ""}, {b"5"}),
        ({"COLORTERM": "", "THEME": "tekton-light"}, {b"5"}),
        ({"COLORTERM": "truecolor", "THEME": "tekton-light"}, {b"2"}),
    ],
)
def test_a_terminal_is_sent_only_colours_that_it_has(env: Mapping[str, str], kinds: set[bytes]) -> None:
    with Staged(("history", "rhetor", 3), ("connect",), env=env) as console:
        walk(console, lambda where: None)
        assert set(COLOUR.findall(console.written)) == kinds
        assert "failed at" not in console.text


@pytest.mark.keys
def test_without_colour_all_that_is_sent_are_greys() -> None:
    with Staged(("connect",), env={"NO_COLOR": "1", "COLORTERM": "truecolor"}) as console:
        walk(console, lambda where: None)
        sent = set(SHADE.findall(console.written))
        assert sent and [shade for shade in sent if len(set(shade)) > 1] == []
