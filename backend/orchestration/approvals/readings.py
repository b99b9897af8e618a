"""What a text may mean to whoever runs it: the commands a shell may see in it, the paths a file system may. Pure, and wide.

For a `deny` and an `ask` alone, which hold wherever they may be meant. A shell can hide a command in more ways than
anybody can list: these readings are a net, and no sandbox.
"""

from __future__ import annotations

import posixpath
import re
import shlex
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import unquote

MAX_DEPTH = 3
"""How deep a command is looked for within the words of another, as in `sh -c 'sudo sh -c …'`."""
SEPARATORS = re.compile(r"[;&|<>`\n\r\0()]|\$\(|\$\{|\$'")
"""What ends one command of a shell and begins another, or has it expand something."""
_BLANK = re.compile(r"\$\{?IFS\}?")
_BRACES = re.compile(r"\A\{([^{}\s]*,[^{}\s]*)\}\Z")
_VARIABLES = re.compile(r"(?:[A-Za-z_]\w*+\+?=(?:'[^']*+'|\"[^\"]*+\"|[^\s'\"])*+\s++)++")
"""Variables that stand before a command."""
_OPENINGS = re.compile(r"(?:(?:then|do|else|elif|if|while|until|time|coproc|!|\{)\s++)++")
"""Words of a shell behind which a command begins."""
_WRAPPERS = frozenset(
    "sudo doas su env command exec builtin eval nohup nice ionice setsid stdbuf timeout xargs find parallel watch busybox "
    "chroot flock script strace ltrace unshare nsenter runuser sh ash bash dash zsh ksh fish ssh".split()
)  # fmt: skip
"""Programs that run another, which stands somewhere among their words."""


def folded(text: str) -> str:
    """Return a text as file systems and servers compare it that know no case, nor two spellings of a character."""
    return text if text.isascii() and text.islower() else unicodedata.normalize("NFKC", text).casefold()


@lru_cache(maxsize=16)
def readings(text: str) -> tuple[str, ...]:
    """Return what a text may mean, itself first: each path in other words, each command in it without what hides it."""
    return tuple(dict.fromkeys(_readings(text)))


def _readings(text: str) -> Iterator[str]:
    yield text
    yield from _paths(text)
    yield from _commands(text, MAX_DEPTH)
    if (blank := _BLANK.sub(" ", text)) != text:
        yield from _commands(blank, MAX_DEPTH)


def _paths(text: str) -> Iterator[str]:
    if text.lower().startswith("file:"):
        text = unquote(re.sub(r"\A\w+:(//[^/]*)?", "", text))
        yield text
    found = posixpath.normpath(text)
    if found.startswith("//"):  # by POSIX a place of its own, on every system of today the root
        found = found[1:]
    yield found
    if "/" in found or found.startswith("~"):
        yield f"{found}/"  # a rule for what lies in a folder is meant for the folder too


def _commands(text: str, depth: int) -> Iterator[str]:
    for part in SEPARATORS.split(text):
        part = part.strip()
        yield part
        if found := _VARIABLES.match(part):
            yield (part := part[found.end() :])
        if found := _OPENINGS.match(part):
            part = part[found.end() :]
            yield part
        if found := _BRACES.match(part):
            part = found[1].replace(",", " ")
        yield from _of_words(part, depth)


def _of_words(part: str, depth: int) -> Iterator[str]:
    """Yield a command as its words say it: without quotes, without its program's folder, and what it runs in turn."""
    try:
        words = shlex.split(part)
    except ValueError:  # a quote that does not end
        words = re.sub(r"[\"'\\]", "", part).split()
    if not words:
        return
    yield " ".join(words)
    yield " ".join([posixpath.basename(words[0]), *words[1:]])
    if posixpath.basename(words[0]) not in _WRAPPERS and not words[0].startswith("$"):
        return  # what a variable holds nobody knows; it may be nothing
    for place in range(1, min(len(words), 64)):
        yield " ".join([posixpath.basename(words[place]), *words[place + 1 :]])
        if depth and re.search(r"\s", words[place]):
            yield from _commands(words[place], depth - 1)
