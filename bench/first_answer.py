"""From an empty home to the first answer as a newcomer gets it, keys on a terminal, with the share of each step.

    python bench/first_answer.py [--programs FOLDER] [--alone]

`--programs` is the folder of another installation's `tekton-tui`, such as an environment with the built wheel; without
weights there, the first Enter fetches them and that is a step. The embedded model answers: other servers are not looked for.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from options import go_before_others, parser_for
from terminal import Terminal

COLUMNS, ROWS = 80, 24
LONG_S, FETCH_S = 120.0, 900.0
QUESTION = "Is the earth flat?"
FORM = "And who is there?"
READ_S = 1.0
"""Somebody looks at the plan; not counted. Keys that come sooner are no answer to it."""


def _started(terminal: Terminal) -> bool:
    return "starting" in terminal.screen() or "● 4 ready" in terminal.screen()


def drive(programs: Path, home: Path) -> list[tuple[str, float]]:
    """Return the steps in their order, each with its seconds."""
    marks: list[tuple[str, float]] = []
    environment = {
        "TEKTON_HOME": str(home), "TEKTON_PROVIDER": "embedded", "TEKTON_PORT_PROFILE": "free", "TEKTON_GATEWAY_PORT": "0",
    }  # fmt: skip
    with Terminal(
        [str(programs / "tekton-tui")], columns=COLUMNS, rows=ROWS, environment=environment
    ) as terminal:
        before = terminal.started

        def reached(what: str, seen: str | Callable[[Terminal], bool], limit_s: float = LONG_S) -> None:
            nonlocal before
            now = terminal.until(seen, limit_s)
            marks.append((what, now - before))
            print(f"{what}: {now - before:.2f} s", flush=True)
            before = now

        reached("first paint", " tekton ")
        reached("backend started, models looked for", FORM)
        terminal.pump_for(READ_S)
        before += READ_S
        fetched = "fetch the model" in terminal.screen()
        terminal.send("\r")
        if fetched:
            reached("weights fetched (93 MB) and checked", _started, FETCH_S)
        reached("four specialists ready", "● 4 ready")
        terminal.until("to numa", LONG_S)
        terminal.send("\x1b")  # leaves the composer with the question that is offered
        terminal.pump_for(READ_S)
        before += READ_S
        terminal.send(":chat athena\r")
        terminal.until("Ask athena…", LONG_S)
        terminal.send(f"{QUESTION}\r")
        reached("chat opened, question sent", "▎ " + QUESTION)
        reached("first answer, complete", " tok · first ")
        print(f"\n{terminal.screen()}\n")
    return marks


def main() -> None:
    parser = parser_for(__doc__, alone=True)
    parser.add_argument("--programs", type=Path, default=Path(sys.executable).parent)
    options = parser.parse_args()
    go_before_others(options)
    with tempfile.TemporaryDirectory() as place:
        home = Path(place) / "home"
        try:
            marks = drive(options.programs.absolute(), home)
        finally:
            stop = [str(options.programs.absolute() / "tekton"), "stop", "--fleet"]
            subprocess.run(
                stop, stdout=subprocess.DEVNULL, env={**os.environ, "TEKTON_HOME": str(home)}, check=False
            )
    total = sum(seconds for _, seconds in marks)
    for what, seconds in [*marks, ("in all", total)]:
        print(f"{what:<50} {seconds:7.2f} s  {100 * seconds / total:5.1f} %")
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
