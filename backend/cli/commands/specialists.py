"""`tekton specialists`: specialists of one's own in files: list, show, new, edit, remove, check, and earlier versions.

Works on the files of the home, with or without a backend; one that runs takes what changes within a second.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from backend.catalog import Component, faults_of, load_with
from backend.cli import terminal
from backend.cli.command import JSON, SPECIALISTS, argument, command
from backend.cli.exit_codes import FAILED, OK
from backend.cli.runner import here_only
from backend.config import FileFault, Settings, specialist_files
from backend.config.new_specialist import (
    create_folder,
    fitting_name,
    refuse_existing,
    skill_file,
    write_files,
)
from backend.config.versions import difference, keep, version, versions
from backend.home import Home
from backend.schema.errors import InvalidRequest, TektonError
from backend.specialists.known_agents import KNOWN, template

NAMES = [agent.name for agent in KNOWN]
VERBS = ("list", "show", "new", "edit", "remove", "check", "versions", "compare", "restore")
FETCH_S = 20.0
Files = Mapping[str, bytes]


@command(
    "specialists",
    argument(
        "verb", nargs="?", choices=VERBS, default="list", metavar="verb", help="list when there is none"
    ),
    argument(
        "words", nargs="*", values=(SPECIALISTS,), help="a name; for compare and restore also version numbers"
    ),
    argument(
        "--from", dest="source", default="", help="new: a folder with a SKILL.md, such a file, or its URL"
    ),
    argument("--title", default="", help="new: what it is, such as 'Code critic'"),
    argument("--persona", default="", help="new: the system prompt; without it an editor is opened"),
    argument(
        "--capability",
        action="append",
        default=[],
        help="new: what it can do, such as planning; may be repeated",
    ),
    argument("--model", default="", help="new: a model of its own"),
    argument("--provider", default="", help="new: a provider of its own"),
    argument(
        "--agent",
        default="",
        metavar="NAME",
        help=f"new: an external agent: {', '.join(NAMES)}, or a command",
    ),
    argument("--cwd", default="", help="new --agent: the folder it works in (default: this one)"),
    argument("--worktree", action="store_true", help="new --agent: in a git worktree of its own"),
    argument("-y", "--yes", action="store_true", help="new --from, remove: do not ask"),
    JSON,
    examples=[
        ("tekton specialists", "all of them, and where each is declared"),
        ("tekton specialists new critic --persona 'You are the critic. You are kind.'", "one of your own"),
        ("tekton specialists check", "check the files, with line and reason"),
    ],
)
async def specialists(options: argparse.Namespace) -> int:
    """Work with specialists of your own: list, show NAME, new NAME, edit NAME, remove NAME, check, versions NAME,
    compare NAME [A [B]], restore NAME A. They are files in the folder `specialists` of the home; a running backend
    applies a change within a second. `new --from` shows everything it would add before it writes, and runs none of
    it.
    """
    here_only("`tekton specialists`")
    home = Home.from_environment().prepare()
    match options.verb:
        case "list":
            return _list(home, options.json)
        case "check":
            return _check(home)
        case "new":
            return await _new(home, options)
        case _:
            pass
    name, *more = options.words or [""]
    if not name:
        raise InvalidRequest(f"name a specialist: tekton specialists {options.verb} NAME")
    name = name.lower().replace("-", "_").removesuffix("_ai")
    match options.verb:
        case "show":
            return _show(home, name)
        case "edit":
            return _edit(home, name)
        case "remove":
            return await _remove(home, name, asked=not options.yes)
        case "versions":
            return _versions(home, name)
        case "compare":
            return _compare(home, name, [_number(word) for word in more])
        case _:
            if len(more) != 1:
                raise InvalidRequest("give the number of a version")
            return _restore(home, name, _number(more[0]))


def _number(word: str) -> int:
    if not word.isdecimal():
        raise InvalidRequest(f"{word!r} is no number of a version")
    return int(word)


def _list(home: Home, as_json: bool) -> int:
    settings, catalog, faults = load_with(home)
    rows = [(row.name, _origin(settings, row), row.title, ", ".join(row.capabilities[:4])) for row in catalog]
    if as_json:
        keys = ("name", "declared", "title", "capabilities")
        terminal.print_json(
            {
                "specialists": [dict(zip(keys, row, strict=True)) for row in rows],
                "faults": list(map(str, faults)),
            }
        )
    else:
        terminal.print_table(("NAME", "DECLARED", "TITLE", "GOOD AT"), rows)
    return _faults(faults)


def _origin(settings: Settings, row: Component) -> str:
    if where := settings.files.where.get(row.name):
        return where if row.own else f"shipped, {where}"
    if row.name in settings.specialists:
        return "config.toml" if row.own else "shipped, config.toml"
    return "shipped"


def _check(home: Home) -> int:
    settings, catalog, faults = load_with(home)
    for name, file in specialist_files.read_files(specialist_files.scan(home.specialists)).found.items():
        for note in file.notes:
            print(f"{name}: {note}")
    for where, why in specialist_files.unused(home.specialists).items():
        print(f"{where}: not used: {why}")
    if not faults:
        print(
            f"{home.specialists}: good; {len(settings.files.own)} of your own, {len(catalog.components)} in all"
        )
    return _faults(faults)


def _faults(faults: list[FileFault]) -> int:
    for fault in faults:
        terminal.error(str(fault))
    return FAILED if faults else OK


def _show(home: Home, name: str) -> int:
    settings, catalog, _ = load_with(home)
    row = catalog.get(name)
    kept = versions(home, row.name)
    facts = {
        "name": row.name,
        "title": row.title,
        "declared": _origin(settings, row),
        "description": row.description,
        "good at": ", ".join(row.capabilities),
        "groups": ", ".join(group for group, members in catalog.groups.items() if row.name in members),
        "model": f"{row.provider or 'auto'} {row.model or ''}".strip(),
        "versions": f"{min(kept)} to {max(kept)}" if kept else "",
    }
    for label, value in facts.items():
        if value:
            print(f"{label:<12}{value}")
    print(f"\n{row.persona}")
    return OK


async def _new(home: Home, options: argparse.Namespace) -> int:
    given = options.words[0] if options.words else ""
    if options.source:
        return await _import(home, given, options.source, asked=not options.yes)
    if not given:
        raise InvalidRequest("name it: tekton specialists new NAME")
    name = fitting_name(given)
    if options.agent:
        return _new_agent(home, name, options)
    where = f"{name}/{specialist_files.SKILL}"
    refuse_existing(home, name)
    text = skill_file(
        name,
        options.persona or f"You are {name}. You …",
        title=options.title,
        capabilities=options.capability,
        provider=options.provider,
        model=options.model,
    ).text
    if not options.persona:
        text = _edited(text, where)
    _create(home, name, {where: text.encode()})
    print(f"{home.specialists / where}: written. `tekton launch {name}` starts it.")
    _tell_shipped(home, name)
    return OK


def _tell_shipped(home: Home, name: str) -> None:
    """Say that a file of this name stands over a shipped specialist."""
    row = load_with(home)[1].get(name)
    if not row.own:
        print(
            f"it changes the shipped {row.name}: what it sets stands in place of what shipped, until "
            f"`tekton specialists remove {row.name}`"
        )


def _new_agent(home: Home, name: str, options: argparse.Namespace) -> int:
    """Write the file of an external agent; say what it still needs, and start nothing."""
    known = next((one for one in KNOWN if one.name == options.agent), None)
    command = known.command if known else shlex.split(options.agent)
    where = f"{name}.toml"
    refuse_existing(home, name)
    text = template(
        command,
        title=options.title or (known.title if known else ""),
        cwd=os.path.abspath(os.path.expanduser(options.cwd or ".")),
        env=[one for one in (known.env if known else []) if one in os.environ],
        mode=known.mode if known else "",
        model=options.model,
        worktree=options.worktree,
    )
    _write(home, {where: text.encode()})
    print(f"{home.specialists / where}: written. `tekton launch {name}` starts it with your rights.")
    if shutil.which(command[0]) is None:
        how = f": {known.install}" if known else ""
        print(f"{command[0]} is not installed{how}")
    elif known:
        print(f"if it says that it needs a login: {known.login}")
    return OK


async def _import(home: Home, given: str, source: str, *, asked: bool) -> int:
    """Bring a specialist from elsewhere: everything is shown first, nothing of it is run."""
    files = await _fetched(source) if "://" in source else _from_disk(Path(source))
    skill = files[specialist_files.SKILL].decode("utf-8", "replace")
    name = fitting_name(given or _named(skill) or Path(source.rstrip("/")).stem)
    if given and (own := _named(skill)):
        files[specialist_files.SKILL] = skill.replace(f"name: {own}", f"name: {name}", 1).encode()
    refuse_existing(home, name)
    changes = {f"{name}/{path}": data for path, data in files.items()}
    _raise(faults_of(home, changes))
    found = specialist_files.read_files(changes).found[name.replace("-", "_")]
    _preview(home, name, changes, found)
    if asked and not sys.stdin.isatty():
        raise InvalidRequest("nothing was written: where nobody can be asked, say --yes")
    if asked and not await terminal.confirmed(f"Write {len(changes)} files to {home.specialists / name}?"):
        print("nothing was written", file=sys.stderr)
        return FAILED
    _create(home, name, changes)
    print(f"{home.specialists / name}: written. `tekton launch {name}` starts it.")
    _tell_shipped(home, name)
    return OK


def _preview(home: Home, name: str, changes: Files, found: specialist_files.SpecialistFile) -> None:
    print(f"{name} would be written to {home.specialists / name}:")
    for path, data in changes.items():
        print(f"  {path}  {len(data):,} bytes")
    own = found.own
    for label in (
        "title",
        "description",
        "capabilities",
        "provider",
        "model",
        "base_url",
        "api_key_env",
        "budget",
    ):
        if value := getattr(own, label):
            print(f"{label:<14}{', '.join(own.capabilities or []) if label == 'capabilities' else value}")
    for note in found.notes:
        print(f"note: {note}")
    print(f"\nIts whole prompt:\n\n{own.persona}\n")


def _named(skill: str) -> str:
    head = skill.split("\n---", 1)[0]
    return next((line[5:].strip() for line in head.split("\n") if line.startswith("name:")), "").strip("\"'")


def _from_disk(path: Path) -> dict[str, bytes]:
    if path.is_file():
        with path.open("rb") as file:
            return {specialist_files.SKILL: file.read(specialist_files.MAX_FILE_BYTES + 1)}
    files = specialist_files.scan(path) if path.is_dir() else {}
    if specialist_files.SKILL not in files:
        raise TektonError(f"{path} has no {specialist_files.SKILL}", code="not_found")
    return files


async def _fetched(url: str) -> dict[str, bytes]:
    """Return what one address holds: a single SKILL.md. Redirects are named, not followed."""
    import httpx

    from backend.tls import is_loopback

    try:
        address = httpx.URL(url)
        if address.scheme != "https" and not (address.scheme == "http" and is_loopback(address.host)):
            raise InvalidRequest(f"{url}: only https is fetched")
        async with httpx.AsyncClient(timeout=FETCH_S) as http, http.stream("GET", address) as answer:
            if answer.status_code != 200:
                to = f", which leads to {answer.headers['location']}" if "location" in answer.headers else ""
                raise TektonError(f"{url}: answered {answer.status_code}{to}", code="not_found")
            text = b""
            async for piece in answer.aiter_bytes():
                text += piece
                if len(text) > specialist_files.MAX_FILE_BYTES:
                    raise TektonError(
                        f"{url}: longer than {specialist_files.MAX_FILE_BYTES >> 10} KiB", code="too_large"
                    )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise TektonError(f"{url}: {error or type(error).__name__}", code="not_found") from error
    return {specialist_files.SKILL: text}


def _file_of(home: Home, name: str) -> str:
    """Return where a specialist of one's own stands, broken or not."""
    files = specialist_files.read_files(specialist_files.scan(home.specialists))
    if name in files.found:
        return files.found[name].where
    for fault in files.faults:
        if fault.name == name:
            return fault.where
    raise TektonError(
        f"no file declares {name!r}; `tekton specialists new {name}` writes one", code="not_found"
    )


def _edit(home: Home, name: str) -> int:
    where = _file_of(home, name)
    before = (home.specialists / where).read_text(encoding="utf-8", errors="replace")
    after = _edited(before, where)
    if after == before:
        print("nothing was changed")
        return OK
    keep(home, name, where, before.encode())
    try:
        _write(home, {where: after.encode()})
    except TektonError:
        # what was typed is not lost: the editor is closed, and its own copy goes with the folder it was in
        kept = Path(tempfile.mkdtemp(prefix="tekton-edit-")) / Path(where).name
        kept.write_text(after, encoding="utf-8")
        terminal.error(f"the file stays as it was; what you wrote is in {kept}")
        raise
    print(f"{home.specialists / where}: written; who runs takes it at the next start")
    return OK


def _edited(text: str, where: str) -> str:
    """Open an editor on a copy of a text and return what it became."""
    if not sys.stdin.isatty():
        raise InvalidRequest("no terminal for an editor: give --persona, or write the file itself")
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="tekton-") as folder:
        path = Path(folder) / Path(where).name
        path.write_text(text, encoding="utf-8")
        try:
            status = subprocess.run([*shlex.split(editor), str(path)], check=False).returncode
        except OSError as error:
            raise InvalidRequest(f"{editor} cannot be started: {error.strerror}; set EDITOR") from error
        if status:
            raise TektonError(f"{editor} ended with {status}: nothing was changed")
        return path.read_text(encoding="utf-8", errors="replace")


def _raise(faults: list[FileFault]) -> None:
    if faults:
        raise TektonError("\n".join(map(str, faults)), code="config_invalid")


def _create(home: Home, name: str, changes: Files) -> None:
    """Write the folder of a new specialist, once it is known to be good."""
    _raise(faults_of(home, changes))
    create_folder(home, name, changes)


def _write(home: Home, changes: Files) -> None:
    """Write files that belong together, once they are known to be good."""
    _raise(faults_of(home, changes))
    home.specialists.mkdir(mode=0o700, exist_ok=True)
    write_files(home.specialists, changes)


async def _remove(home: Home, name: str, *, asked: bool) -> int:
    where = _file_of(home, name)
    path = home.specialists / (where.split("/")[0])
    if asked and not sys.stdin.isatty():
        raise InvalidRequest("nothing was removed: where nobody can be asked, say --yes")
    if asked and not await terminal.confirmed(f"Remove {path}?"):
        print("nothing was removed", file=sys.stderr)
        return FAILED
    keep(home, name, where, (home.specialists / where).read_bytes())
    away = home.specialist_versions / name / f"removed-{time.strftime('%Y%m%d-%H%M%S')}"
    # moved, not deleted: a folder holds material of which no version is kept
    path.rename(away)
    print(
        f"removed; it lies in {away}, and `tekton specialists restore {name} {max(versions(home, name))}` writes it anew"
    )
    return OK


def _versions(home: Home, name: str) -> int:
    rows = [
        (
            str(number),
            time.strftime("%d %b %Y %H:%M", time.localtime(path.stat().st_mtime)),
            f"{path.stat().st_size:,}",
        )
        for number, path in reversed(versions(home, name).items())
    ]
    if not rows:
        print(f"no version of {name} is kept")
    else:
        terminal.print_table(("VERSION", "FROM", "BYTES"), rows)
    return OK


def _compare(home: Home, name: str, numbers: list[int]) -> int:
    kept = versions(home, name)
    if not numbers:
        numbers = [number for number in kept if number < max(kept)][-1:]
        if not numbers:
            print(f"no earlier version of {name} is kept")
            return OK
    texts = [
        (version(home, name, number).read_text("utf-8", "replace"), f"version {number}")
        for number in numbers[:2]
    ]
    if len(texts) == 1:
        where = _file_of(home, name)
        texts.append(((home.specialists / where).read_text("utf-8", "replace"), where))
    print(difference(texts[0][0], texts[1][0], texts[0][1], texts[1][1]) or "they are the same")
    return OK


def _restore(home: Home, name: str, number: int) -> int:
    path = version(home, name, number)
    text = path.read_bytes()
    try:
        where = _file_of(home, name)
        keep(home, name, where, (home.specialists / where).read_bytes())
    except TektonError:
        where = f"{name}.toml" if path.suffix == ".toml" else f"{name}/{specialist_files.SKILL}"
    if Path(where).suffix != path.suffix:
        raise TektonError(
            f"version {number} is of another kind of file than {where}: remove that first", code="conflict"
        )
    _write(home, {where: text})
    print(f"{home.specialists / where}: as in version {number}")
    return OK
