"""Thousands of random keys and pastes into a running fleet: nothing is done that did not ask first. By bytes.

`TEKTON_FUZZ_KEYS` says how many (`make fuzz` takes 10,000), `TEKTON_SEED` repeats a run.
"""

from __future__ import annotations

import os
import random
import string

from tests.randomness import first_seed
from tests.tui.test_typing_ahead import Console

KEYS = int(os.environ.get("TEKTON_FUZZ_KEYS", "300"))
SEQUENCES = (
    "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[5~", "\x1b[6~", "\x1b[H", "\x1b[F", "\x1bOQ", "\x1bOR", "\x1b[15~",
    "\x1b[Z", "\x1bx", "\x1b1", "\x1b[1;5A", "\x1b[13;2u", "\x1b[99999~", "\x1b[I", "\x1b[O", "\x1b[<0;5;5M\x1b[<0;5;5m",
    "\x1b[<64;20;8M", "\x10", "\x13", "\x0f", "\t", "\x0a", "\x15", "\x17", "\x7f",
)  # fmt: skip
ALPHABET = string.ascii_letters + string.digits + string.punctuation + "     ü漢"


def piece(source: random.Random) -> str:
    """Return a key, some keys at once, or a paste."""
    kind = source.random()
    if kind < 0.45:
        return source.choice(ALPHABET)
    if kind < 0.60:
        return source.choice(SEQUENCES)
    if kind < 0.72:
        return "\r"
    if kind < 0.80:
        return "\x1b"
    text = "".join(
        source.choice((*ALPHABET, "\r", "\x1b", *SEQUENCES)) for _ in range(source.randrange(2, 40))
    )
    if kind < 0.90:
        return text.replace("\x11", "")
    return f"\x1b[200~{text}\x1b[201~"


def test_no_key_and_no_paste_does_anything_that_did_not_ask_first() -> None:
    seed = first_seed()
    print(f"seed {seed}, {KEYS} keys")
    source, pressed, asked = random.Random(seed), 0, 0
    while pressed < KEYS:
        with Console() as console:
            while pressed < KEYS and console.process.poll() is None:
                for _ in range(20):
                    console.type(piece(source))
                    console.drain(source.choice((0.0, 0.0, 0.04)))
                    pressed += 1
                for line in console.calls():
                    asked += not line.startswith("!")
                    assert not line.startswith("!"), f"seed {seed}: not asked for: {line}"
            console.drain()
            assert console.process.poll() in (None, 0), f"seed {seed}: it fell over\n{console.text}"
            assert "failed at" not in console.text, console.text
    print(f"{asked} calls were asked for first")
