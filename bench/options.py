"""The command line that the benches share. Knows no bench."""

from __future__ import annotations

import argparse
import os


def parser_for(doc: str | None, *, alone: bool = False) -> argparse.ArgumentParser:
    """Return a parser whose help is the text of a bench as it stands, with `--alone` if that is asked for."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if alone:
        parser.add_argument("--alone", action="store_true", help="run before other programs (needs root)")
    return parser


def go_before_others(options: argparse.Namespace) -> None:
    """With `--alone`, ask the system to run this program, and those it starts, before any other."""
    if not options.alone:
        return
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))
    except PermissionError:
        raise SystemExit(
            "--alone needs the right to set priorities: run it as root, or leave it out"
        ) from None
