"""`--alone`: let a bench, and all it starts, run before any other work of the machine. Knows no bench."""

from __future__ import annotations

import argparse
import os


def add_alone(parser: argparse.ArgumentParser) -> None:
    """Give a bench the option; call `go_before_others` when it was set."""
    parser.add_argument("--alone", action="store_true", help="run before other programs (needs root)")


def go_before_others() -> None:
    """Ask the system to run this program, and those it starts, before any other."""
    # Not a real-time class: its slices of 100 ms make our own processes wait for each other as nowhere in use.
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    except PermissionError:
        raise SystemExit(
            "--alone needs the right to set priorities: run it as root, or leave it out"
        ) from None
