"""A specialist of one's own that is to be: its name, its `SKILL.md`, and the folder it becomes in one step.

What the command line and the action have in common. Knows no catalogue: whether a specialist goes together with the
others, `backend.catalog` says.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from backend.config.specialist_files import SKILL, WrongFile, check_name, scan
from backend.home import Home, write_private
from backend.schema.errors import InvalidRequest, TektonError

_THERE = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})
_unprintable = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]").sub
"""What JSON leaves as it is inside of quotes and YAML does not read there."""


class SkillFile(NamedTuple):
    """A `SKILL.md` as text, and the keys of its front matter: the first stands in line 2, one a line."""

    text: str
    keys: tuple[str, ...]

    def field_at(self, line: int) -> str:
        """Return which key a line belongs to, counted from 1; `persona` behind the front matter, `name` before it."""
        if line < 2:
            return "name"
        return self.keys[line - 2] if line - 2 < len(self.keys) else "persona"


def fitting_name(given: str) -> str:
    """Return a name as files are called.

    Raises:
        TektonError: `invalid_request`: it can name no specialist, and no part of a path either.
    """
    name = given.lower().replace("_", "-")
    try:
        check_name(name)
    except WrongFile as wrong:
        raise InvalidRequest(wrong.reason) from wrong
    return name


def refuse_existing(home: Home, name: str) -> None:
    """Raise `TektonError` (`conflict`) when a file of this name is there, broken or not."""
    plain = name.replace("-", "_")
    for where in scan(home.specialists):
        if where.split("/")[0].removesuffix(".toml").lower().replace("-", "_") == plain:
            raise TektonError(
                f"{home.specialists / where} is there already: edit or remove it", code="conflict"
            )


def skill_file(
    name: str,
    persona: str,
    *,
    title: str = "",
    capabilities: Sequence[str] = (),
    provider: str = "",
    model: str = "",
) -> SkillFile:
    """Return the file of a specialist; a value that is empty is left out, a title is made of the name."""
    values = {
        "name": name,
        "title": title or name.replace("-", " ").capitalize(),
        "capabilities": list(capabilities),
        "provider": provider,
        "model": model,
    }
    given = {key: value for key, value in values.items() if value}
    lines = [f"{key}: {_quoted(value)}" for key, value in given.items()]
    return SkillFile("\n".join(["---", *lines, "---", persona, ""]), tuple(given))


def _quoted(value: object) -> str:
    # JSON's texts and lists are YAML's as well.
    return _unprintable(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def write_files(below: Path, files: Mapping[str, bytes]) -> None:
    """Write files that belong together, readable by the user alone."""
    # SKILL.md last: a folder without one is not taken for a specialist
    for where in sorted(files, key=lambda where: where.endswith(SKILL)):
        path = below / where
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, files[where])


def create_folder(home: Home, name: str, files: Mapping[str, bytes]) -> Path:
    """Write the folder of a new specialist, whole or not at all, readable by the user alone; return where it is.

    `files` are given by their path below `specialists`, all of them in the folder `name`.

    Raises:
        TektonError: `conflict`: it is there already; or the system does not let us write.
    """
    folder = home.specialists / name
    try:
        home.specialists.mkdir(mode=0o700, exist_ok=True)
        # Hidden, so that nobody reads it before it is whole.
        # beside where it belongs: a rename is one step only within a file system
        made = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=home.specialists))
        try:
            write_files(made, {str(Path(where).relative_to(name)): data for where, data in files.items()})
            made.rename(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        if error.errno in _THERE:
            raise TektonError(f"{folder} is there already: edit or remove it", code="conflict") from error
        raise TektonError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder
