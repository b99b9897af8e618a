"""`tekton sessions | export | errors`: the conversations and errors that the backend stores."""

from __future__ import annotations

import argparse
import sys
import time

from backend.cli import terminal
from backend.cli.command import FILES, JSON, SPECIALISTS, argument, command, count
from backend.cli.exit_codes import FAILED, OK
from backend.cli.runner import call
from backend.cli.streams import first_of
from backend.schema import params
from backend.schema.errors import InvalidRequest, TektonError
from backend.schema.records import SearchPage
from backend.schema.results import MessageList, SessionList

SESSION_VERBS = ("list", "show", "search", "rename", "resume", "delete", "new", "pin", "unpin")


@command(
    "errors",
    argument("what", nargs="?", choices=("list", "ack"), default="list"),
    argument("ids", nargs="*", type=count, help="record numbers to acknowledge"),
    argument("--all", action="store_true", help="list acknowledged ones too; ack: all"),
    argument("--evidence", action="store_true", help="show the evidence of each"),
    JSON,
    examples=[
        ("tekton errors", "what nobody has acknowledged"),
        ("tekton errors ack --all", "acknowledge all"),
    ],
)
async def errors(options: argparse.Namespace) -> int:
    """List errors that nobody has acknowledged. `errors ack` acknowledges records; nothing is deleted."""
    if options.what == "ack":
        if not options.ids and not options.all:
            raise InvalidRequest("name record numbers, or --all")
        left = await call(params.AcknowledgeErrors(ids=options.ids or None, all=options.all))
        print(f"{left.unacknowledged} errors remain unacknowledged")
        return OK
    found = await call(params.ListErrors(unacknowledged=not options.all))
    if terminal.print_if_json(options, found):
        return OK
    if not found.errors:
        print("no errors" if options.all else "no unacknowledged errors")
        return OK
    rows = [
        (
            str(row.id),
            time.strftime("%d %b %H:%M:%S", time.localtime(row.last)),
            f"{row.count}x",
            row.where,
            row.code,
            row.message,
        )
        for row in found.errors
    ]
    terminal.print_table(("ID", "LAST", "N", "WHERE", "CODE", "WHAT"), rows, wrap=True)
    if options.evidence:
        for row in found.errors:
            print(f"\n{row.id} {row.where} {row.code}\n{row.evidence or 'no evidence'}")
    return OK


@command(
    "sessions",
    argument("verb", nargs="?", choices=SESSION_VERBS, default="list"),
    argument(
        "words", nargs="*", help="a session id and a title, words to find, or the number of a message (pin)"
    ),
    argument("--owner", default="", values=(SPECIALISTS,), help="a specialist, or team"),
    argument("-y", "--yes", action="store_true", help="delete: do not ask"),
    argument("--limit", type=count, default=50, help="show, search: rows (default 50)"),
    JSON,
    examples=[
        ("tekton sessions", "all conversations"),
        ("tekton sessions search hello", "find words"),
        ("tekton sessions new apollo 'release plan'", "start one"),
    ],
)
async def sessions(options: argparse.Namespace) -> int:
    """Work with the stored conversations. Verbs: list, show ID, search WORDS, new OWNER [TITLE], rename ID TITLE,
    resume ID (make it the default again), delete ID, pin NUMBER and unpin NUMBER of a message.
    """
    verb, words = options.verb, options.words
    if verb == "list":
        return _session_table(await call(params.ListSessions(owner=options.owner), start=True), options)
    if verb == "search":
        return _hits(
            await call(params.SearchMemory(q=" ".join(words), limit=options.limit), start=True), options
        )
    if verb == "new":
        owner = options.owner or first_of(words, "a specialist or team")
        title = " ".join(words if options.owner else words[1:])
        print((await call(params.CreateSession(owner=owner, title=title), start=True)).id)
        return OK
    if verb in ("pin", "unpin"):
        return await _pin(
            first_of(words, "the number of a message (see tekton sessions show)"), verb == "pin"
        )
    session_id = first_of(words, "a session id (see tekton sessions)")
    if verb == "show":
        return _conversation(
            await call(params.ListMessages(id=session_id, limit=options.limit), start=True), options
        )
    if verb == "rename":
        if len(words) < 2:
            raise InvalidRequest("give a new title")
        await call(params.PatchSession(id=session_id, title=" ".join(words[1:])), start=True)
    elif verb == "resume":
        await call(params.PatchSession(id=session_id, is_default=True), start=True)
    elif verb == "delete":
        if not (options.yes or await _is_meant(session_id)):
            print("nothing was deleted", file=sys.stderr)
            return FAILED
        await call(params.DeleteSession(id=session_id), start=True)
    print(f"{verb}d {session_id}" if verb.endswith("e") else f"{verb}ed {session_id}")
    return OK


async def _is_meant(session_id: str) -> bool:
    """Ask whether a conversation is to go for good; where nobody can be asked, `--yes` must say so."""
    session = await call(params.GetSession(id=session_id), start=True)
    if not sys.stdin.isatty():
        raise InvalidRequest("deleting is for good: say so with --yes")
    what = f"“{session.title}” with {session.messages} messages"
    return await terminal.confirmed(f"Delete {what} for good?")


async def _pin(number: str, pinned: bool) -> int:
    """Pin a message, so that it is sent with every turn of its conversation."""
    if not number.isdecimal():
        raise InvalidRequest(f"expected the number of a message, found {number!r}")
    await call(params.PinMessage(message_id=int(number), pinned=pinned), start=True)
    print(f"{'pinned' if pinned else 'unpinned'} {number}")
    return OK


@command(
    "export",
    argument("session", help="a session id (see tekton sessions)"),
    argument("--format", choices=("md", "json"), default="md"),
    argument("-o", "--output", values=(FILES,), help="a file that does not exist yet (default: stdout)"),
)
async def export(options: argparse.Namespace) -> int:
    """Write a conversation as Markdown or JSON. A file that exists is never overwritten."""
    text = await call(params.ExportSession(id=options.session, format=options.format), start=True)
    if not options.output:
        sys.stdout.write(text.content)
        return OK
    try:
        # "x": a file that exists is never overwritten
        with open(options.output, "x", encoding="utf-8") as file:  # noqa: ASYNC230
            file.write(text.content)
    except OSError as error:
        raise TektonError(f"{options.output}: not written: {error.strerror}", code="conflict") from error
    print(options.output)
    return OK


def _session_table(found: SessionList, options: argparse.Namespace) -> int:
    if terminal.print_if_json(options, found):
        return OK
    if not found.sessions:
        print("no conversations", file=sys.stderr)
        return OK
    rows = [
        (
            row.id,
            row.owner.removesuffix("-ai"),
            str(row.messages),
            terminal.ago(row.updated_at),
            row.title,
        )
        for row in found.sessions
    ]
    terminal.print_table(("ID", "WITH", "N", "USED", "TITLE"), rows)
    if found.more:
        print("there are more: name an owner, or words to look for", file=sys.stderr)
    return OK


def _hits(found: SearchPage, options: argparse.Namespace) -> int:
    if terminal.print_if_json(options, found):
        return OK
    for hit in found.hits:
        message = hit.message
        # these two mark the words that were found, see `SearchHit`
        snippet = " ".join(hit.snippet.replace("\x02", "").replace("\x03", "").split())
        print(f"{message.session_id}  {message.author.removesuffix('-ai')}: {snippet}")
    if found.more:
        print("there is more: narrow the search, or raise --limit", file=sys.stderr)
    return OK if found.hits else FAILED


def _conversation(found: MessageList, options: argparse.Namespace) -> int:
    if terminal.print_if_json(options, found):
        return OK
    for message in found.messages:
        clock = time.strftime("%d %b %H:%M", time.localtime(message.created_at))
        text = message.content or f"({message.error_code}: {message.error})"
        pin = "  pinned" if message.pinned else ""
        head = f"{message.author.removesuffix('-ai')}  {clock}  #{message.id}{pin}"
        terminal.draw(terminal.colour(head, "dim"))
        print(f"{text}\n")
    return OK
