"""`tekton sent`: what a model was sent for a turn."""

from __future__ import annotations

import argparse
import time

from backend.cli import terminal
from backend.cli.command import JSON, SPECIALISTS, argument, command
from backend.cli.exit_codes import OK
from backend.cli.runner import call
from backend.schema.errors import TektonError
from backend.schema.params import GetSent
from backend.schema.sent import SentChange, SentPart, SentReport
from backend.text import escaped, escaped_line

FIRST_WORDS = 120
"""Characters of a text in the list."""


@command(
    "sent",
    argument("what", values=(SPECIALISTS,), help="a specialist, for its newest turn; or a turn's request id"),
    argument("--session", default="", help="take the specialist's newest turn in this conversation"),
    argument("--full", action="store_true", help="print every text whole"),
    JSON,
    examples=[
        ("tekton sent apollo", "what was sent with its last question"),
        ("tekton sent apollo --full", "every text of it, and the lines that are new"),
    ],
)
async def sent(options: argparse.Namespace) -> int:
    """Show what a turn sent to its model, in the order in which the model read it: persona, tools, memories, history,
    prompt. Each part is shown with its number of tokens (estimated, unless the provider counted), then what was left
    out and why, then what is new since the turn before. Keys are masked.
    """
    report = await _report(options.what, options.session)
    if terminal.print_if_json(options, report):
        return OK
    _show(report, full=options.full)
    return OK


async def _report(what: str, session: str) -> SentReport:
    try:
        return await call(GetSent(specialist_id=what, session_id=session))
    except TektonError as error:
        if error.code != "unknown_specialist" or session:
            raise
    return await call(GetSent(target=what))


def _show(report: SentReport, *, full: bool) -> None:
    turn = report.turn
    when = time.strftime("%d %b %H:%M:%S", time.localtime(turn.at))
    print(f"{turn.request_id}  {turn.ai_id.removesuffix('-ai')}  {escaped_line(turn.model)}  {when}")
    counted = f"{turn.counted:,} tokens by the provider's count, " if turn.counted else ""
    of = f" of {turn.window:,}" if turn.window else ""
    print(f"{counted}about {report.tokens:,}{of} by parts")
    if turn.options:
        print(
            "with " + ", ".join(f"{name} {escaped_line(str(value))}" for name, value in turn.options.items())
        )
    if full:
        for part in turn.parts:
            print(f"\n== {_heading(part)}, about {part.tokens:,} tokens")
            print(escaped(part.text) if part.text else f"({part.missing})")
    else:
        rows = [(part.kind, _source(part), f"{part.tokens:,}", _first_words(part)) for part in turn.parts]
        terminal.print_table(("PART", "FROM", "TOKENS", "TEXT"), rows)
    for sentence in turn.left_out:
        print(f"left out: {escaped_line(sentence)}")
    if report.before:
        print(f"since {report.before}:" if report.changes else f"since {report.before}: the same")
    for change in report.changes:
        print(f"  {_change(change)}")
        for line in change.lines if full else ():
            print(f"    {escaped_line(line)}")


def _heading(part: SentPart) -> str:
    source = _source(part)
    return f"{part.kind} ({source})" if source else part.kind


def _source(part: SentPart) -> str:
    name = escaped_line(part.source.removesuffix("-ai"))
    return f"{name} #{part.message_id}" if part.message_id else name


def _first_words(part: SentPart) -> str:
    if not part.text:
        return f"({part.missing})"
    # no more than this is looked at: a text may have megabytes, most of it blanks
    line = escaped_line(" ".join(part.text[: FIRST_WORDS * 4].split()))
    return line if len(line) <= FIRST_WORDS else line[: FIRST_WORDS - 1] + "…"


def _change(change: SentChange) -> str:
    counts = [
        f"{change.added} new" if change.added else "",
        f"{change.removed} gone" if change.removed else "",
    ]
    if change.added == change.removed == 1:
        counts = ["changed"]
    return f"{change.kind}: {', '.join(filter(None, counts))}, {change.tokens:+,} tokens"
