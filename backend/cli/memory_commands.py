"""`tekton errors | sessions | export | usage | gateway`: what the platform remembers and offers."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any

from backend.cli import terminal
from backend.cli.calling import call
from backend.cli.exit_codes import FAILED, OK
from backend.schema.errors import TektonError


async def errors(options: argparse.Namespace) -> int:
    """List the ledger, or acknowledge records of it."""
    if options.what == "ack":
        if not options.ids and not options.all:
            raise TektonError("name record numbers, or --all", code="invalid_request")
        answer = await call("acknowledge_errors", ids=options.ids or None, all=options.all or None)
        print(f"{answer['unacknowledged']} errors remain unacknowledged")
        return OK
    answer = await call("list_errors", unacknowledged=not options.all)
    if options.json:
        print(json.dumps(answer, indent=2))
        return OK
    if not answer["errors"]:
        print("no errors" if options.all else "no unacknowledged errors")
        return OK
    rows = [
        (
            str(row["id"]),
            time.strftime("%d %b %H:%M:%S", time.localtime(row["last"])),
            f"{row.get('count', 1)}x",
            row["where"],
            row["code"],
            row["message"],
        )
        for row in answer["errors"]
    ]
    print(terminal.table(("ID", "LAST", "N", "WHERE", "CODE", "WHAT"), rows, wrap=True))
    if options.evidence:
        for row in answer["errors"]:
            print(
                f"\n{row['id']} {row['where']} {row['code']}\n{terminal.shown(row.get('evidence') or 'no evidence')}"
            )
    return OK


async def sessions(options: argparse.Namespace) -> int:
    """List, show, search, rename, delete or begin conversations."""
    verb, words = options.verb, options.words
    if verb == "list":
        return _session_table(await call("list_sessions", start=True, owner=options.owner), options)
    if verb == "search":
        return _hits(await call("search_memory", start=True, q=" ".join(words), limit=options.limit), options)
    if verb == "new":
        named = options.owner is None
        owner = _first(words, "a specialist or team") if named else options.owner
        session = await call(
            "create_session", start=True, owner=owner, title=" ".join(words[1:] if named else words)
        )
        print(session["id"])
        return OK
    if verb in ("pin", "unpin"):
        return await _pin(_first(words, "the number of a message (see tekton sessions show)"), verb == "pin")
    session_id = _first(words, "a session id (see tekton sessions)")
    if verb == "show":
        return _conversation(
            await call("session_messages", start=True, id=session_id, limit=options.limit), options
        )
    if verb == "rename":
        if len(words) < 2:
            raise TektonError("give a new title", code="invalid_request")
        await call("patch_session", start=True, id=session_id, title=" ".join(words[1:]))
    elif verb == "resume":
        await call("patch_session", start=True, id=session_id, is_default=True)
    elif verb == "delete":
        if not (options.yes or await _is_meant(session_id)):
            print("nothing was deleted", file=sys.stderr)
            return FAILED
        await call("delete_session", start=True, id=session_id)
    print(f"{verb}d {session_id}" if verb.endswith("e") else f"{verb}ed {session_id}")
    return OK


async def _is_meant(session_id: str) -> bool:
    """Ask whether a conversation is to go for good; where nobody can be asked, `--yes` must say so."""
    session = await call("get_session", start=True, id=session_id)
    if not sys.stdin.isatty():
        raise TektonError("deleting is for good: say so with --yes", code="invalid_request")
    what = f"“{terminal.safe(session['title'])}” with {session.get('messages', 0)} messages"
    print(f"Delete {what} for good? [y/N] ", end="", file=sys.stderr, flush=True)
    answer = await asyncio.to_thread(sys.stdin.readline)
    return answer.strip().lower() in ("y", "yes")


async def _pin(number: str, pinned: bool) -> int:
    """Pin a message, so that it is sent with every turn of its conversation."""
    if not number.isdecimal():
        raise TektonError(f"expected the number of a message, found {number!r}", code="invalid_request")
    await call("pin_message", start=True, message_id=int(number), pinned=pinned)
    print(f"{'pinned' if pinned else 'unpinned'} {number}")
    return OK


async def export(options: argparse.Namespace) -> int:
    """Write a conversation to stdout, or to a file that does not exist yet."""
    answer = await call("export_session", start=True, id=options.session, format=options.format)
    if not options.output:
        sys.stdout.write(terminal.shown(answer["content"]))
        return OK
    try:
        with open(options.output, "x", encoding="utf-8") as file:  # noqa: ASYNC230
            file.write(answer["content"])
    except OSError as error:
        raise TektonError(f"{options.output}: not written: {error.strerror}", code="conflict") from error
    print(options.output)
    return OK


def _first(words: list[str], what: str) -> str:
    if not words:
        raise TektonError(f"give {what}", code="invalid_request")
    return words[0]


def _session_table(answer: dict[str, Any], options: argparse.Namespace) -> int:
    if options.json:
        print(json.dumps(answer, indent=2))
        return OK
    if not answer["sessions"]:
        print("no conversations", file=sys.stderr)
        return OK
    rows = [
        (
            row["id"],
            row["owner"].removesuffix("-ai"),
            str(row.get("messages", 0)),
            terminal.ago(row["updated_at"]),
            row["title"],
        )
        for row in answer["sessions"]
    ]
    print(terminal.table(("ID", "WITH", "N", "USED", "TITLE"), rows))
    return OK


def _hits(answer: dict[str, Any], options: argparse.Namespace) -> int:
    if options.json:
        print(json.dumps(answer, indent=2))
        return OK
    for hit in answer["hits"]:
        message = hit["message"]
        snippet = " ".join(hit["snippet"].replace("\x02", "").replace("\x03", "").split())
        print(f"{message['session_id']}  {message['author'].removesuffix('-ai')}: {terminal.shown(snippet)}")
    return OK if answer["hits"] else FAILED


def _conversation(answer: dict[str, Any], options: argparse.Namespace) -> int:
    if options.json:
        print(json.dumps(answer, indent=2))
        return OK
    for message in answer["messages"]:
        clock = time.strftime("%d %b %H:%M", time.localtime(message["created_at"]))
        text = message["content"] or f"({message.get('error_code')}: {message.get('error')})"
        pin = "  pinned" if message.get("pinned") else ""
        head = f"{message['author'].removesuffix('-ai')}  {clock}  #{message['id']}{pin}"
        print(f"{terminal.colour(head, 'dim')}\n{terminal.shown(text)}\n")
    return OK
