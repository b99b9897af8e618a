"""A newcomer without any docs, at 80x24: every key that is pressed stands on the screen, with what it does, before it is pressed."""

from __future__ import annotations

import re
import sys

from tests.tui.terminal import Terminal

BYTES = {"⏎": "\r", "esc": "\x1b", "ctrl+o": "\x0f", "←": "\x1b[D"}


class Newcomer(Terminal):
    """Knows letters, and what the screen says."""

    def press(self, sign: str, does: str) -> None:
        """Press a key once the screen names it beside what it does."""
        named = re.compile(rf"(?:^|[\s│─·▌]){re.escape(sign)}(?:→)?\s+{re.escape(does)}", re.MULTILINE)
        self.wait_for(lambda text: named.search(text) is not None, f"the key {sign} beside {does!r}")
        self.drain(0.7)  # one reads before one presses; what was only just offered is not sent
        assert named.search(self.text), f"{sign} {does} is gone again\n{self.text}"
        self.type(BYTES.get(sign, sign))

    def says(self, *words: str) -> None:
        self.wait_for(lambda text: all(word in text for word in words), " and ".join(words))


def test_a_newcomer_does_the_first_things_by_keys_that_the_screen_shows() -> None:
    with Newcomer([sys.executable, "-m", "tests.tui.pty_newcomer"], size=(80, 24)) as screen:
        screen.says("Who should answer?", "And who is there?", "numa", "athena")
        screen.press("⏎", "start")
        screen.says("4 ready", "to numa")
        screen.press("⏎", "send")
        screen.says("Numa says: look at the queue.")

        screen.press("ctrl+o", "switch")  # ask apollo
        screen.says("a part of a name")
        screen.type("apollo")
        screen.press("⏎", "goes there")
        screen.says("to apollo")
        screen.type("Name one risk.")
        screen.press("⏎", "send")
        screen.says("Apollo says: look at the queue.")

        screen.press("esc", "leave")  # ask all
        screen.press("3", "Team")
        screen.says("Ask the whole team at once.")
        screen.type("What breaks first?")
        screen.press("⏎", "send")
        screen.says("3 ✖1")

        rows = screen.text.splitlines()  # all first sentences, and who was slowest
        times = {
            name: re.search(rf"\b{name}\s+([\d.]+) s", screen.text) for name in ("numa", "apollo", "rhetor")
        }
        assert all(any(f"{name.capitalize()} says: look at" in line for line in rows) for name in times)
        assert max(times, key=lambda name: float(times[name][1])) == "rhetor"  # type: ignore[index]

        screen.press("4", "Needs you")  # why one failed, and stop it
        screen.says("athena", "the model server failed inside (500)")
        screen.press("x", "stop")
        screen.says("Stop athena", "its conversation is kept")
        screen.press("←", "choose")
        screen.press("⏎", "does it")
        screen.says("3 ready")

        screen.press("2", "Chat")  # yesterday's answer
        screen.press("ctrl+o", "switch")
        screen.says("all", "conversations: find by words")
        screen.type("conversations")
        screen.press("⏎", "goes there")
        screen.press("/", "find")
        screen.type("port")
        screen.press("⏎", "done")
        screen.says("The queue listens on port 5672.")
        screen.press("⏎", "go on in it")
        screen.says("The queue listens on port 5672.", "to numa")
