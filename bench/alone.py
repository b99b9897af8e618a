"""`--alone`: let a bench, and all it starts, run before any other work of the machine. Knows no bench."""

from __future__ import annotations

import argparse
import os


def add_alone(parser: argparse.ArgumentParser) -> None:
    """Give a bench the option; call `go_before_others` when it was set."""
    parser.add_argument("--alone", action="store_true", help="run before other programs (needs root)")


def go_before_others() -> None:
    """Ask the system to run this program, and those it starts, before any other."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))
    except PermissionError:
        raise SystemExit(
            "--alone needs the right to set priorities: run it as root, or leave it out"
        ) from None
