"""`tekton models`: what each provider offers now, fetching one, and who uses which."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from typing import Any

from backend.cli import terminal
from backend.cli.calling import attached, call
from backend.cli.exit_codes import FAILED, OK
from backend.schema.errors import TektonError


async def models(options: argparse.Namespace) -> int:
    """List models; fetch the embedded one; have Ollama pull one; set a specialist's or a session's."""
    match options.verb:
        case "fetch":
            from backend.providers.weights import main

            return await asyncio.to_thread(main, ["fetch"])
        case "pull":
            return await _pull(
                _first(options.words, "a model, such as llama3.2"), options.provider or "ollama"
            )
        case "set":
            return await _set(options)
        case _:
            return _listed(await call("list_models", start=True, provider=options.provider), options)


def _listed(answer: dict[str, Any], options: argparse.Namespace) -> int:
    if options.json:
        print(json.dumps(answer, indent=2))
        return OK
    rows: list[tuple[str, ...]] = []
    for provider in answer["providers"]:
        for model in provider["models"]:
            window = f"{model['context_window']:,}" if model["context_window"] else "-"
            size = f"{model['size'] / 1e9:.1f} GB" if model["size"] else "-"
            rows.append(
                (provider["provider"], model["name"], model["display"], window, size, model["detail"])
            )
    print(
        terminal.table(
            ("PROVIDER", "MODEL", "NAME", "CONTEXT", "SIZE", "NOTE"), rows, wrap=True, drop_empty=True
        )
    )
    for provider in answer["providers"]:
        if not provider["models"]:
            why = provider["detail"] or "it answers and has no model"
            print(terminal.filled(f"{provider['provider']}: {why}", "  "))
    return OK


async def _pull(model: str, provider: str) -> int:
    """Have a provider fetch a model, its progress on stderr. Interrupted, the platform goes on fetching."""
    async with attached(start=True) as client:
        await client.subscribe(["fleet"])
        showing = asyncio.create_task(_show_progress(client, f"pull {model}"))
        try:
            answer = await client.call("pull_model", model=model, provider=provider)
        finally:
            showing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await showing
            if sys.stderr.isatty():
                print(file=sys.stderr)
    print(f"pulled {answer['model']}")
    return OK


async def _show_progress(client: Any, service: str) -> None:
    """Print what a service says of itself: redrawn in place on a terminal, each new step a line elsewhere."""
    from backend.schema.events import ServiceEvent

    shown = ""
    async for batch in client.events():
        for _, event in batch:
            if not isinstance(event, ServiceEvent) or event.status.name != service:
                continue
            detail = terminal.safe(event.status.detail)
            if sys.stderr.isatty():
                sys.stderr.write(f"\r\x1b[K{detail}")
                sys.stderr.flush()
            elif detail and detail != shown:
                print(detail, file=sys.stderr, flush=True)
            shown = detail


async def _set(options: argparse.Namespace) -> int:
    """Give a specialist another model, running or not; with `--session` only that conversation."""
    if options.session:
        if not (options.provider or options.words):
            raise TektonError("give a model, or --provider, or both", code="invalid_request")
        changes = {"provider": options.provider, "model": options.words[0] if options.words else None}
        session = await call("patch_session", start=True, id=options.session, **changes)
        provider = session.get("provider") or "its specialist's provider"
        print(f"{options.session}: {provider}, {session.get('model') or 'the model set there'}")
        return OK
    name = _first(options.words, "a specialist")
    model = options.words[1] if len(options.words) > 1 else None
    if not (model or options.provider):
        raise TektonError("give a model, or --provider, or both", code="invalid_request")
    answer = await call("set_model", start=True, ids=[name], provider=options.provider, model=model)
    for row in answer["results"]:
        text = row.get("message", "")
        if row["ok"]:
            print(f"{row['id'].removesuffix('-ai')}: {text}")
        else:
            terminal.error(f"{row['id'].removesuffix('-ai')}: {text}")
    return OK if all(row["ok"] for row in answer["results"]) else FAILED


def _first(words: list[str], what: str) -> str:
    if not words:
        raise TektonError(f"give {what}", code="invalid_request")
    return words[0]
