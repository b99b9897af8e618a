"""Files that go along with a question: which a text names, what completes a path, what each takes. Knows no widgets."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlparse

from backend.schema.content import FilePart, ImagePart, TextPart, attachments_of
from tekton_tui.formatting import size
from tekton_tui.widgets.composer.text import MAX_CHOICES, Choice

MAX_NAMED_CHARS: Final = 4_096
"""A longer paste is text, whatever it begins with."""
MAX_LISTED: Final = 2_000
"""Names of a folder that are looked at."""
PATH_BEGINS: Final = ("/", "~", "./", "../", "file://")
ASCII_PER_TOKEN: Final = 4
OTHERS_PER_TOKEN: Final = 1.5


class Attached(NamedTuple):
    """A file that goes along. `tokens` is a guess, `None` for pictures and PDFs, which each model counts its own way."""

    name: str
    size: int
    tokens: int | None
    part: TextPart | ImagePart | FilePart


def read_files(paths: Sequence[Path], held: int = 0) -> list[Attached]:
    """Read files beside others of `held` bytes.

    Raises:
        TektonError: `invalid_request`: one cannot be read or is of no kind that a model takes, or they are too large
            together.
    """
    # Imported here: the client's libraries would hold up the first paint.
    from backend.client.attachments import MAX_ATTACHED_BYTES, NotAttached, attach_files

    for path in paths:
        if path.exists() and not path.is_file():
            raise NotAttached(f"{path} is no file")
    found = [_attached(path, part) for path, part in zip(paths, attach_files(paths), strict=True)]
    if (together := held + sum(one.size for one in found)) > MAX_ATTACHED_BYTES:
        raise NotAttached(
            f"the files of a question may have {MAX_ATTACHED_BYTES:,} bytes together; these have {together:,}"
        )
    return found


def _attached(path: Path, part: TextPart | ImagePart | FilePart) -> Attached:
    if isinstance(part, TextPart):
        return Attached(path.name, attachments_of([part])[0].size, guessed_tokens(part.text), part)
    return Attached(path.name, part.size, None, part)


def guessed_tokens(text: str) -> int:
    """Guess how many tokens a text takes: one for four letters, more where letters are words."""
    others = sum(character > "\x7f" for character in text)
    return round((len(text) - others) / ASCII_PER_TOKEN + others / OTHERS_PER_TOKEN)


def files_named(text: str) -> list[Path]:
    """Return the files that a pasted text is: one path or several, quoted or escaped as shells and desktops do.

    Empty when it is anything else, or one of them is not there.
    """
    text = text.strip()
    if len(text) > MAX_NAMED_CHARS or not text.lstrip("'\"").startswith(PATH_BEGINS):
        return []
    try:
        paths = [_path(word) for word in shlex.split(text)]
        return paths if all(path.is_absolute() and path.is_file() for path in paths) else []
    except (ValueError, OSError, RuntimeError):
        return []


def _path(word: str) -> Path:
    if word.startswith("file://"):
        word = unquote(urlparse(word).path)
    path = Path(word).expanduser()
    return path.absolute() if word.startswith((".", "~")) else path


def path_of(typed: str) -> Path:
    """Return the path that is meant by what was typed behind `@`."""
    return Path(typed.replace("\\ ", " ")).expanduser()


def path_choices(typed: str) -> list[Choice]:
    """Return the files and folders that a path may go on with; folders end in a slash."""
    folder, slash, begun = typed.rpartition("/")
    found: list[Choice] = []
    for name, is_folder, hint in sorted(
        _listed(folder + slash), key=lambda row: (not row[1], row[0].lower())
    ):
        if name.startswith(begun.replace("\\ ", " ")) and (begun.startswith(".") or not name.startswith(".")):
            escaped = name.replace(" ", "\\ ")
            found.append(Choice(f"{folder}{slash}{escaped}{'/' if is_folder else ''}", hint))
    return found[:MAX_CHOICES]


def _listed(folder: str) -> Iterator[tuple[str, bool, str]]:
    try:
        with os.scandir(path_of(folder) if folder else ".") as entries:
            # a folder of a million files must not hold up a key
            for entry in islice(entries, MAX_LISTED):
                if entry.is_dir():
                    yield entry.name, True, "folder"
                elif entry.is_file():
                    yield entry.name, False, size(entry.stat().st_size)
    except (OSError, RuntimeError, ValueError):
        return
