"""What is typed before the console is attached does what it does after, or says why not. By bytes, with a backend that waits.

The order of key and answer does not matter: what is on the screen in the end is the same, whichever came first.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tekton_tui.verbs import VERBS
from tekton_tui.widgets.fleet.plots import SERIES
from tests.tui.staged import PASTE, READ_S, Staged
from tests.tui.test_every_key import spelled

Orders = tuple[tuple[str, ...], ...]
EMPTY: Orders = (("empty",),)
SAYS_WHY = (
    "nobody is known yet", "just now: press again", "keys dropped", "the backend is gone",
    "Nobody runs yet", "No pipeline has run",  # what the place says to which the key went
)  # fmt: skip


def painted(console: Staged, keys: str) -> None:
    """Typed once it is painted, before the backend has answered."""
    console.type(keys)
    console.rest()
    console.tell("connect")


def at_once(console: Staged, keys: str) -> None:
    """Typed in the moment in which the backend answers."""
    console.order("connect")
    console.type(keys)


def attached(console: Staged, keys: str) -> None:
    console.tell("connect")
    console.rest(READ_S)
    console.type(keys)


def lost(console: Staged, keys: str) -> None:
    """Typed while the backend is gone; then it is back."""
    console.tell("connect")
    console.rest(READ_S)
    console.tell("lost")
    console.rest(READ_S)
    console.type(keys)
    console.rest()
    console.tell("back")


def before(console: Staged, keys: str) -> None:
    """Typed before the program had begun to run: see `end_of`."""
    console.tell("connect")


def end_of(phase: Callable[[Staged, str], None], keys: str, orders: Orders = ()) -> tuple[str, str]:
    """Return what is shown in the end without the notices, and all that is."""
    with Staged(*orders, typed=keys if phase is before else "") as console:
        console.wait_for("4 Needs you")
        phase(console, keys)
        console.rest()
        return console.settled, console.text


def open_frames(text: str) -> set[str]:
    """Return the titles of what is open: what stands in it may be of the moment in which it was opened."""
    found = re.findall(r"╭─+ +(?:◆ )?(\w[^─╮│]*?) +─", text)
    plots = {series.name for series in SERIES}
    return {title for title in found if "·" not in title and title.partition("  ")[0] not in plots}


TEXTS = {
    "team": ("3What breaks first? x", "What breaks first? x"),
    "somebody": ("2hello there x", "hello there x"),
    "command": (":gateway\r", "Listens"),  # nobody says where before it has answered
    "filter": ("/rhetor", " rhetor "),
    "sentence": ("rhetor or numa", " rhetor or numa "),
    "paste": (PASTE.format("some \x1b[31mtext\r"), "some"),
    "switcher": ("\x0fathen", "athen"),
    "help": ("?", "esc closes"),
}
"""What is typed, and what of it is seen in the end."""
AT_ONCE = {"somebody": "Attaching to the backend…", "command": "Hosts  Settings  Doctor"}
"""What is seen before the backend has answered, where that is something else."""
COVERING = {"switcher": " athena "}
"""What covers the fleet, and what of the fleet it shows itself."""
FAST = {"somebody", "sentence"}


def some(name: str) -> object:
    return pytest.param(name, marks=[] if name in FAST else [pytest.mark.keys])


@pytest.mark.parametrize("orders", [(), EMPTY], ids=["running", "empty"])
@pytest.mark.parametrize("what", [some(name) for name in TEXTS])
def test_what_was_written_before_the_backend_answered_is_there_after_it(what: str, orders: Orders) -> None:
    keys, seen = TEXTS[what]
    with Staged(*orders) as console:
        console.wait_for("4 Needs you")
        console.type(keys)
        console.wait_for(AT_ONCE.get(what, seen.strip()))
        console.tell("connect")
        if orders and what == "somebody":
            console.wait_for(lambda text: "13 keys dropped" in text or "13 characters came" in text)
        console.wait_for(COVERING.get(what) or ("● 5 ready" if not orders else "nothing runs"))
        console.wait_for(seen) if not orders or what != "somebody" else None
        console.rest()
        assert seen in console.text or (orders and what == "somebody"), console.text
        assert console.calls("Chat", "TeamChat", "Launch", "Kill") == []


def test_a_sentence_that_nobody_fits_is_the_first_question_of_the_form() -> None:
    with Staged(*EMPTY) as console:
        console.wait_for("4 Needs you")
        console.type("What is the ")
        console.wait_for("What is the")
        console.tell("connect")
        console.wait_for("nothing runs")
        console.rest()
        console.type("queue? sX")
        console.wait_for("What is the queue? sX")
        console.type("\r")
        console.wait_for("asks numa: “What is the queue? sX”")
        assert console.calls("Launch", "Kill") == []


def test_text_that_comes_in_two_pieces_is_one_text() -> None:
    """The field that the first piece opened has the focus when the second comes: it must not take its place."""
    text = "rhetor or numa"
    with Staged(("connect",)) as console:
        console.wait_for("▸ 14 stopped")
        console.tell("turn", "tui-1", "numa", "Which port?")
        for place, cut in (("1", 1), ("1", 4), ("1", 7), ("5", 8)):
            console.type(place)
            console.rest()
            for piece in ("/" if cut < 3 else "", text[:cut], text[cut:]):
                console.type(piece)
                console.rest()
            assert f" {text} " in console.text, (place, cut, console.text)
            console.type("\x1b")
            console.wait_for(lambda shown: text not in shown)


@pytest.mark.parametrize("keys", ["3What breaks first? x", "\rhello"])
def test_what_is_typed_before_the_first_paint_is_not_lost(keys: str) -> None:
    with Staged(("connect",), typed=keys) as console:
        console.wait_for("● 5 ready")
        console.wait_for(lambda text: keys[1:] in text or "nobody is known yet" in text, keys)
        console.rest()
        assert keys[1:] in console.text
        assert console.calls("Chat", "TeamChat", "Launch", "Kill") == []


def test_what_is_written_when_another_window_has_the_keyboard_goes_where_it_was_written() -> None:
    with Staged(("connect",)) as console:
        console.wait_for("▸ 14 stopped")
        console.type("3")
        console.wait_for("Ask the team")
        console.type("\x1b[Ohalf a thought sX" + PASTE.format(" and more") + "\x1b[I !")
        console.wait_for("half a thought sX and more !")
        for keys in ("\x15", "\x1b", "\x1b", ":gateway\x1b[O" + PASTE.format("x")):
            console.type(keys)
            console.rest(0.15)
        console.wait_for(": gatewayx")


PLACES = {"app", "fleet", "grid", "first"}
KEYS = sorted({key for verb in VERBS for at in verb.places if at.place in PLACES and verb.name != "quit"
               for key in verb.keys.split(",") if key} | set("123456"))  # fmt: skip


@pytest.mark.keys
@pytest.mark.parametrize("phase", [before, painted, at_once, lost])
@pytest.mark.parametrize("orders", [(), EMPTY], ids=["running", "empty"])
@pytest.mark.parametrize("key", KEYS)
def test_a_key_does_the_same_before_and_after_or_says_why_not(
    key: str, orders: Orders, phase: Callable[[Staged, str], None]
) -> None:
    data = next(iter(spelled(key))).decode() if len(key) > 1 else key
    wanted, _ = end_of(attached, data, orders)
    shown, text = end_of(phase, data, orders)
    same = open_frames(shown) == open_frames(wanted)
    assert same or any(words in text for words in SAYS_WHY), f"{text}\n--- wanted\n{wanted}"
