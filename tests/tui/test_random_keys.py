"""Thousands of random keys, clicks and pastes into a fleet that works: nothing is done that did not ask first. By bytes.

`TEKTON_FUZZ_KEYS` says how many (`make fuzz` takes 10,000), `TEKTON_SEED` repeats a run.
"""

from __future__ import annotations

import os
import random
import string
from collections import Counter

from tests.randomness import first_seed
from tests.tui.pty_fleet import TOLD
from tests.tui.test_typing_ahead import PASTE, Console

KEYS = int(os.environ.get("TEKTON_FUZZ_KEYS", "300"))
SIZE = WIDTH, HEIGHT = 100, 30
SEQUENCES = (
    "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[5~", "\x1b[6~", "\x1b[H", "\x1b[F", "\x1bOP", "\x1bOQ", "\x1bOR", "\x1bOS", "\x1b[15~",
    "\x1b[Z", "\x1bx", "\x1b1", "\x1b[1;5A", "\x1b[1;3A", "\x1b[1;3B", "\x1b[5;5~", "\x1b[6;5~", "\x1b[13;2u", "\x1b[99999~", "\x1b[I", "\x1b[O",
    "\x1b[M", "\x1b]52;c;eA==\x07", "\x1bP+q\x1b\\", "\x1b[1;1R", "\x01", "\x04", "\x05", "\x0b", "\x0c", "\x10", "\x12", "\x13", "\x14", "\x0f", "\t",
    "\x0a", "\x15", "\x16", "\x17", "\x18", "\x19", "\x1a", "\x7f", "\x1b\r", "\x1b\x7f",
)  # fmt: skip
"""Moves, function keys, keys with modifiers, ends of other protocols, control characters but ctrl+q and ctrl+c."""
LINES = (
    ":sessions", ":pipes", ":errors", ":gateway", ":models", ":kill all", ":stop apollo", ":restart numa", ":start all", ":delete",
    ":merge", ":vote", ":order", ":columns", ":use", ":model apollo", ":save", ":theme", ":layout", ":panel", ":jump",
)  # fmt: skip
"""What takes a stroll through the console to places that single letters seldom reach."""
LIFE = 1_000
"""So many keys, clicks and pastes go to one console at the most."""
HOMES = (
    "",
    "4",
    "5",
    "\x1b\x1b:new\r",
    "\x1b\x1b:settings\r",
    "\x1b\x1b:doctor\r",
    "\x1b\x1b:errors\r",
    "\x1b\x1b:columns\r",
    "\x1b\x1b:attach\r",
)
"""Where a console is brought back to again and again: every other life stays at one place of those that few keys lead to."""
ALPHABET = string.ascii_letters + string.digits + string.punctuation + "     ü漢🙂"


def click(source: random.Random) -> str:
    """Return a click, of any button, a turn of the wheel or a drag."""
    x, y = source.randrange(1, WIDTH + 1), source.randrange(1, HEIGHT + 1)
    kind = source.choice((0, 0, 0, 2, 64, 65))
    if kind >= 64:
        return f"\x1b[<{kind};{x};{y}M"
    other = f"\x1b[<32;{source.randrange(1, WIDTH + 1)};{y}M" if source.random() < 0.2 else ""
    return f"\x1b[<{kind};{x};{y}M{other}\x1b[<{kind};{x};{y}m"


def piece(source: random.Random) -> str:
    """Return a key, a click, some keys at once, or a paste."""
    kind = source.random()
    if kind < 0.42:
        return source.choice(ALPHABET)
    if kind < 0.57:
        return source.choice(SEQUENCES)
    if kind < 0.68:
        return "\r"
    if kind < 0.76:
        return "\x1b"
    if kind < 0.81:
        return click(source)
    if kind < 0.84:
        return f"\x1b\x1b{source.choice(LINES)}\r"
    text = "".join(
        source.choice((*ALPHABET, "\r", "\x1b", *SEQUENCES)) for _ in range(source.randrange(2, 40))
    )
    return text if kind < 0.92 else PASTE.format(text)


def test_no_key_and_no_paste_does_anything_that_did_not_ask_first() -> None:
    seed = first_seed()
    print(f"seed {seed}, {KEYS} keys")
    source, pressed, lives = random.Random(seed), 0, 0
    asked: Counter[str] = Counter()
    while pressed < KEYS:
        with Console(SIZE, "tests.tui.pty_fleet") as console:
            lives += 1
            home, until = source.choice(HOMES), pressed + LIFE
            last: list[str] = []
            while pressed < min(KEYS, until) and console.process.poll() is None:
                if source.random() < 0.3:
                    last.append(home)
                    console.type(home)
                for _ in range(20):
                    last.append(piece(source))
                    console.type(last[-1])
                    console.drain(source.choice((0.0, 0.0, 0.04)))
                    pressed += 1
                for line in console.calls():
                    asked[line.partition(" ")[0]] += 1
                    assert not line.startswith("!"), (
                        f"seed {seed}: not asked for: {line} after {last[-60:]}\n{console.text}"
                    )
            console.drain()
            assert console.process.poll() in (None, 0), f"seed {seed}: it fell over\n{console.text}"
            assert "failed at" not in console.text, console.text
    print(f"{lives} consoles; asked for first: {dict(asked)}")
    assert set(asked) <= TOLD
