"""Specialists of one's own in files: `specialists/NAME.toml`, or a folder `specialists/NAME/` with a `SKILL.md`.

`SKILL.md` begins with front matter (YAML between two lines `---`), and the text behind it is the persona; the folder's other
text files are its reference material. Reading is pure: file names and bytes in, specialists and faults out, never an
exception. Nothing of a folder is ever run.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import yaml

from backend.config.origins import line_of
from backend.config.settings import FileFault, FoundFiles, SpecialistSettings
from backend.log import redact
from backend.schema.faults import Fault, find_fault, unknown_key

SKILL = "SKILL.md"
MAX_FILE_BYTES = 128 * 1024
MAX_FILES = 2_000
"""Files that are looked at in all; MAX_REFERENCES of them in one folder, MAX_REFERENCE_BYTES of which are read."""
MAX_REFERENCES, MAX_REFERENCE_BYTES = 40, 64 * 1024
MAX_DEPTH = 3
MAX_NODES = 2_000
"""Values in a front matter, counted after references between them are followed."""
FOREIGN_KEYS = frozenset({"license", "allowed-tools", "metadata", "compatibility", "version", "author"})
"""Keys that other programs write into a `SKILL.md`. They are named and not used: nobody is given tools by a file."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_TOML_PLACE = re.compile(r"\(at line (\d+), column \d+\)")
NAME_RULE = "a name has small letters, digits and - or _, starts with a letter, and at most 32 characters"


class SpecialistFile(msgspec.Struct, frozen=True):
    """One specialist as a file declares it. `where` is the file's path below the folder; `notes` what was not used."""

    name: str
    where: str
    own: SpecialistSettings
    notes: list[str] = []


class SpecialistFiles(NamedTuple):
    """What a folder holds: specialists by name, and what is wrong with others."""

    found: dict[str, SpecialistFile]
    faults: list[FileFault]


class WrongFile(Exception):
    """A file, or its name, cannot be used: the line, counted from 1, and why."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line, self.reason = max(1, line), reason


def scan(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder by their path in it; one that cannot be read, or is too long, as it is.

    Hidden files and folders and links that lead out of the folder are left out.
    """
    files: dict[str, bytes] = {}
    for path in sorted(_below(folder)):
        try:
            with path.open("rb") as file:
                files[path.relative_to(folder).as_posix()] = file.read(MAX_FILE_BYTES + 1)
        except OSError:
            continue  # it went away meanwhile, or may not be read: `stamp` differs once that changes
    return files


def stamp(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return time, size and inode of each file below a folder: what tells that something changed."""
    found: dict[str, tuple[int, int, int]] = {}
    for path in _below(folder):
        try:
            facts = path.stat()
        except OSError:
            continue
        found[str(path)] = facts.st_mtime_ns, facts.st_size, facts.st_ino
    return found


def _below(folder: Path) -> Iterator[Path]:
    count = 0
    for where, folders, names in os.walk(folder):
        depth = len(Path(where).relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if depth < MAX_DEPTH else []
        for name in sorted(names):
            path = Path(where, name)
            if name.startswith(".") or name.endswith("~") or not path.is_file():
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
                continue
            count += 1
            if count > MAX_FILES:
                return
            yield path


def check_name(name: str) -> None:
    """Raise `WrongFile` for what can name no specialist: such a name is no part of a path either."""
    if not _NAME.fullmatch(name.lower().replace("-", "_")):
        raise WrongFile(1, f"{name[:60]!r} names no specialist: {NAME_RULE}")


def unused(folder: Path) -> dict[str, str]:
    """Return what stands below a folder, declares nobody and looks as if it should, with why; hidden files left out."""
    found: dict[str, str] = {}
    inside = folder.resolve()
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        below = path / SKILL
        if path.name.startswith(".") or path.name.endswith("~"):
            continue
        leads = next((one for one in (path, below) if one.is_symlink() and not _is_within(one, inside)), None)
        if leads is not None:
            found[leads.relative_to(folder).as_posix()] = (
                "a link that leads out of the folder, or nowhere: copy it here"
            )
        elif path.is_symlink() and path.is_dir():
            found[path.name] = "a link to a folder: copy the folder here"
        elif path.is_dir():
            if not any(one.name.lower() == SKILL.lower() and one.is_file() for one in path.iterdir()):
                found[path.name] = f"a folder without a {SKILL}"
        elif not path.is_file() or not _is_toml(path.name):
            found[path.name] = f"a specialist is NAME.toml, or a folder NAME with a {SKILL}"
    return found


def _is_within(link: Path, folder: Path) -> bool:
    try:
        return link.resolve(strict=True).is_relative_to(folder)
    except (OSError, RuntimeError):
        return False


def _is_toml(name: str) -> bool:
    return name.lower().endswith(".toml")


def read_files(files: Mapping[str, bytes]) -> SpecialistFiles:
    """Read specialists from files given by path; a broken one is a fault and disturbs no other."""
    found: dict[str, SpecialistFile] = {}
    faults: list[FileFault] = []
    for where in sorted(files):
        folder, _, file = where.rpartition("/")
        if folder.count("/") or (folder and file.lower() != SKILL.lower()) or not (folder or _is_toml(file)):
            continue  # reference material, or nothing of ours
        if folder and file != SKILL and f"{folder}/{SKILL}" in files:
            continue
        name = (folder or file[: -len(".toml")]).lower().replace("-", "_")
        try:
            check_name(name)
            if folder and file != SKILL:
                raise WrongFile(1, f"the file is called {file}: rename it {SKILL}, in capitals")
            if not (folder or file.endswith(".toml")):
                raise WrongFile(
                    1, f"the file is called {file}: rename it {file[: -len('.toml')]}.toml, in small letters"
                )
            if name in found:
                raise WrongFile(1, f"{found[name].where} declares {name!r} already: keep one of the two")
            text = _text(files[where])
            if folder:
                found[name] = _read_skill(name, where, text, _references(files, folder))
            else:
                found[name] = SpecialistFile(name, where, _read_toml(text))
        except WrongFile as wrong:
            faults.append(FileFault(name, where, wrong.line, redact(wrong.reason)))
    return SpecialistFiles(found, faults)


def _text(data: bytes) -> str:
    if len(data) > MAX_FILE_BYTES:
        raise WrongFile(1, f"the file is longer than {MAX_FILE_BYTES >> 10} KiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WrongFile(data[: error.start].count(b"\n") + 1, "this is no UTF-8 text") from error
    if "\0" in text:
        raise WrongFile(text[: text.index("\0")].count("\n") + 1, "this is no text: it holds a zero byte")
    return text.replace("\r\n", "\n")


def _read_toml(text: str) -> SpecialistSettings:
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        place = _TOML_PLACE.search(str(error))
        line = int(place[1]) if place else text.count("\n") + 1
        raise WrongFile(line, f"not valid TOML: {_TOML_PLACE.sub('', str(error)).strip()}") from error
    return _checked(table, lambda key: line_of(text, key), strict=True)


def _read_skill(name: str, where: str, text: str, references: dict[str, str]) -> SpecialistFile:
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        raise WrongFile(
            1, "expected front matter: a first line ---, keys such as title: …, and a line --- behind them"
        )
    end = next((at for at, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), 0)
    if not end:
        raise WrongFile(1, "the front matter is not closed: expected a second line ---")
    table, places = _read_yaml("\n".join(lines[1:end]))
    notes = [f"{key}: not used" for key in sorted(FOREIGN_KEYS & table.keys())]
    given = str(table.pop("name", name)).lower().replace("-", "_")
    if given != name:
        raise WrongFile(
            places.get("name", 2), f"the folder is {name!r} and the name in it {given[:60]!r}: make them one"
        )
    if "persona" in table:
        raise WrongFile(places["persona"], "the persona is the text behind the front matter")
    for key in FOREIGN_KEYS:
        table.pop(key, None)
    persona = "\n".join(lines[end + 1 :]).strip()
    if not persona:
        raise WrongFile(end + 1, "the persona is missing: write it behind the front matter")
    own = _checked(table, lambda key: places.get(key.partition("[")[0].partition(".")[0], 2), strict=False)
    return SpecialistFile(
        name, where, msgspec.structs.replace(own, persona=persona + _material(references)), notes
    )


def _material(references: dict[str, str]) -> str:
    parts = [f'<reference file="{name}">\n{text.strip()}\n</reference>' for name, text in references.items()]
    return "\n\n" + "\n\n".join(["Reference material:", *parts]) if parts else ""


def _references(files: Mapping[str, bytes], folder: str) -> dict[str, str]:
    """Return the text files beside a `SKILL.md` by name; raises `WrongFile` when they are too many or too long."""
    found: dict[str, str] = {}
    for where in sorted(files):
        name = where.removeprefix(f"{folder}/")
        if name in (where, SKILL):
            continue
        # as git and grep tell: a zero byte near the beginning is no text
        if b"\0" in files[where][:4096]:
            continue  # pictures and programs are no reading matter
        try:
            found[name.translate(_PLAIN_NAME)] = _text(files[where])
        except WrongFile as wrong:
            raise WrongFile(1, f"{name}, line {wrong.line}: {wrong.reason}") from wrong
    if len(found) > MAX_REFERENCES:
        raise WrongFile(
            1, f"the folder has {len(found)} further text files: at most {MAX_REFERENCES} are read"
        )
    if (size := sum(len(text.encode()) for text in found.values())) > MAX_REFERENCE_BYTES:
        raise WrongFile(
            1,
            f"the folder's further files have {size >> 10} KiB: at most {MAX_REFERENCE_BYTES >> 10} are read",
        )
    return found


_compose: Any = cast(Any, yaml).compose  # its types leave open what it returns
_PLAIN_NAME = {ord(character): "_" for character in "<>\"'&\n\r\t"}


def _read_yaml(text: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the keys of a front matter, every value as text, and the line of each key in the file."""
    try:
        # nodes instead of values: they know their lines, and nothing is built of them but text
        root: yaml.Node | None = _compose(text, Loader=yaml.BaseLoader)
        if root is None:
            return {}, {}
        if not isinstance(root, yaml.MappingNode):
            raise WrongFile(2, "expected keys such as title: Reviewer")
        places = {
            str(key.value): key.start_mark.line + 2
            for key, _ in root.value
            if isinstance(key, yaml.ScalarNode)
        }
        return cast(dict[str, Any], _plain(root, [0])), places
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(str(part) for part in (error.context, error.problem) if part)
        raise WrongFile(mark.line + 2 if mark else 2, f"not valid YAML: {reason}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise WrongFile(2, f"not valid YAML: {str(error)[:200] or 'nested too deep'}") from error


def _plain(node: yaml.Node, count: list[int]) -> object:
    count[0] += 1
    if count[0] > MAX_NODES:
        raise WrongFile(node.start_mark.line + 2, f"the front matter has more than {MAX_NODES:,} values")
    if isinstance(node, yaml.MappingNode):
        table: dict[str, object] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            if name in table:
                raise WrongFile(key.start_mark.line + 2, f"the key {name[:60]!r} is given twice")
            table[name] = _plain(value, count)
        return table
    if isinstance(node, yaml.SequenceNode):
        return [_plain(part, count) for part in node.value]
    return node.value


def _checked(table: dict[str, Any], line: Callable[[str], int], *, strict: bool) -> SpecialistSettings:
    """Return a table as settings; without `strict` numbers may be text, as YAML's plain words are."""
    try:
        return msgspec.convert(table, SpecialistSettings, strict=strict)
    except msgspec.ValidationError as error:
        fault = find_fault(table, SpecialistSettings, strict=strict)
        if not strict and (
            slips := [key for key in table if key not in SpecialistSettings.__struct_fields__]
        ):
            # in a SKILL.md there are these as well
            known = ["name", *SpecialistSettings.__struct_fields__, *sorted(FOREIGN_KEYS)]
            fault = Fault(slips[0], table[slips[0]], unknown_key(slips[0], known))
        key, expected = (fault.key, fault.expected) if fault else ("", str(error))
        shown = (
            f"; found {str(fault.value)[:60]!r}" if fault and not isinstance(fault.value, dict | list) else ""
        )
        raise WrongFile(line(key), f"key '{key}': {expected}{shown}") from error


def with_last_good(before: FoundFiles, now: FoundFiles) -> dict[str, SpecialistSettings]:
    """Return the specialists of files that are in force: those read now, and the last good ones of broken files."""
    broken = {fault.name for fault in now.faults}
    kept = {name: own for name, own in before.own.items() if name in broken and name not in now.own}
    return {**now.own, **kept}
