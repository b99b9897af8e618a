"""On a real pseudo-terminal: no control character of foreign text is written, and idleness writes nothing."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT_S = 60.0
SILENCE_S = 2.0
QUIT = b"\x11"

APP = """
import asyncio, os, sys
from textual.app import App
from tekton_tui.transcript import Entry, Transcript
from tekton_tui.widgets.composer.composer import Composer, Choice
from tekton_tui.safe_text import literal, literal_line

BODIES = [
    "HOSTA\\x1b]52;c;QQ==\\x07", "HOSTB\\x1b[31;44mHOSTC", "HOSTD\\x9b2J\\x9d0;t\\x9c",
    "HOSTE\\x1bPq\\x1b\\\\", "HOSTF\\x1b_G\\x1b\\\\", "HOSTG\\u202e\\u2066",
    "HOSTH\\x07\\x08\\x0b\\x0c\\r\\x00\\x7f", "&#27;HOSTI&#13;", "[@click=app.quit]HOSTJ[/]",
    "```py\\x1b[5m\\nHOSTK\\x1b[6m\\n```", "| HOSTL\\x1b[7m | b |\\n|---|---|\\n| c | d |",
    "[HOSTM](http://x/\\x1b[8m)",
]

class Hostile(App):
    CSS = "Transcript { height: 1fr; }"
    def compose(self):
        yield Transcript()
        yield Composer("ask")
    def on_mount(self):
        self.run_worker(self.play())
    async def play(self):
        view = self.query_one(Transcript)
        composer = self.query_one(Composer)
        composer.border_title = literal_line(BODIES[0], 30)
        composer.names = [Choice("HOSTN\\x1b[9m", "hint\\x1b[9m")]
        await asyncio.sleep(0.2)
        for number, body in enumerate(BODIES):
            failed = Entry("e", "x", "error", body, code=body, error=body, footer=body)
            view.load([Entry("u", body, "user", body, colour="you"), failed])
            view.begin(Entry("s", "x", "answer", ""))
            for character in body:
                view.append_text("s", character)
                view.append_reasoning("s", character)
                if number % 2 == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(0.12)
            view.finish("s")
            self.notify(literal(body).plain, title=literal_line(body, 20).plain, markup=False, timeout=0.1)
        composer.draft = BODIES[1]
        composer.focus_field()
        os.write(int(os.environ["READY_FD"]), b"shown")

Hostile().run()
"""


def run_on_terminal() -> bytes:
    """Run the app on a terminal of its own until it fell silent, then quit it; return all it wrote."""
    master, slave = pty.openpty()
    read_end, write_end = os.pipe()
    environment = {
        **os.environ,
        "TERM": "xterm-256color",
        "COLUMNS": "100",
        "LINES": "40",
        "READY_FD": str(write_end),
    }
    environment["PYTHONPATH"] = str(ROOT)
    process = subprocess.Popen(
        [sys.executable, "-c", APP],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        pass_fds=(write_end,),
    )
    os.close(slave)
    os.close(write_end)
    written, said, silent, deadline = b"", b"", False, time.monotonic() + LIMIT_S
    open_ends = {master, read_end}
    try:
        while open_ends and time.monotonic() < deadline:
            ready = select.select(list(open_ends), [], [], SILENCE_S)[0]
            if not ready and said and not silent:
                silent = True
                os.write(master, QUIT)
            for end in ready:
                try:
                    data = os.read(end, 65_536)
                except OSError:
                    data = b""
                if not data:
                    open_ends.discard(end)
                elif end == read_end:
                    said += data
                else:
                    written += data
    finally:
        if open_ends:
            process.kill()
        process.wait()
        os.close(master)
        os.close(read_end)
    assert silent, "with nothing to show it still writes"
    assert process.returncode == 0 and said == b"shown", written[-2000:].decode(errors="replace")
    return written


# What Textual writes by itself: attributes, cursor moves, modes, queries, clears, the pointer's shape.
OWN_SEQUENCES = re.compile(
    r"\x1b\[[0-9;]*m|\x1b\[[0-9;]*[ABCDHJKcn]|\x1b\[[?<>=][0-9;]*[a-zA-Z$]+|\x1b\]22;[a-z-]+\x07|\x1b[78=>]|\r|\n"
)


def test_no_control_character_of_foreign_text_reaches_the_terminal_and_idle_is_silent() -> None:
    written = run_on_terminal()
    text = written.decode("utf-8")
    for name in "ABCDEFGHIJKLM":
        assert f"HOST{name}" in text, name
    assert not re.search("[\x80-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert not re.search("\x1b\\[(31;44|[5-9])m", text), "a colour of the text's own was written"
    rest = OWN_SEQUENCES.sub("", text)
    assert not re.search(r"\x1b[\]P_^X]", rest), "an OSC, DCS or APC was written"
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", rest), re.findall(
        ".{20}[\x00-\x08\x0b-\x1f\x7f].{20}", rest
    )[:5]
