"""What the scripted provider does with a prompt: words in the prompt, and rules of a file. Pure but for reading the file.

Knows no clock and no process; see `backend.providers.scripted` for what each word means.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
from msgspec import Struct

from backend.providers.base import ProviderFault

HOSTILE = (
    "before \x1b]52;c;aGVsbG8=\x07 \x1b[2J\x1b[31mred \x9b31m \x90q\x9c [@click=app.quit]x[/] [/] [b]bold "
    "\u202egnp.exe \u2066iso\u2069 \x00\x08\x7f [link=file:///etc/passwd]y[/link] after"
)
_WORD = re.compile(r"\[\[(\w+)(?: ((?:(?!\]\]).)*))?\]\]", re.DOTALL)
_PIECE = re.compile(r"\s*\S+\s*")


class Script(Struct, forbid_unknown_fields=True, kw_only=True):
    """What one turn does. Seconds for `first` and `stall`, pieces a second for `rate`, characters for `pieces`."""

    say: str | None = None
    repeat: int = 0
    rate: float = 0.0
    first: float = 0.0
    pieces: int = 0
    think: str = ""
    queue: int = 0
    load: str = ""
    after: int = 3
    stall: float = 0.0
    crash: int | None = None
    kill: bool = False
    fail: str = ""
    cut: str = ""
    length: bool = False
    empty: bool = False
    system: bool = False
    messages: bool = False
    hostile: bool = False
    clock: bool = False


class Rule(Script, kw_only=True):
    """A script for prompts that contain `when`, of specialists whose persona contains `who`; both small or capital."""

    when: str = ""
    who: str = ""


class _File(Struct, forbid_unknown_fields=True):
    answer: list[Rule] = []


def read_rules(path: Path) -> list[Rule]:
    """Read a file of `[[answer]]` tables.

    Raises:
        ProviderFault: It cannot be read; the message names file and key.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File).answer
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ProviderFault(
            f"the script {path} (providers.scripted.script) cannot be used: {error}"
        ) from error


def script_for(prompt: str, system: str, rules: list[Rule]) -> Script:
    """Return what the first rule that fits says, changed by the words in the prompt.

    Raises:
        ProviderFault: The value of a word is of the wrong kind. Words that are none of ours are only text.
    """
    words = dict[str, object]()
    for name, value in _WORD.findall(prompt):
        if name in Script.__struct_fields__:
            words[name] = value or _bare(name)
    rule = next(
        (r for r in rules if r.when.lower() in prompt.lower() and r.who.lower() in system.lower()), None
    )
    base = msgspec.to_builtins(rule) if rule else {}
    for name in ("when", "who"):
        base.pop(name, None)
    try:
        return msgspec.convert({**base, **words}, Script, strict=False)
    except msgspec.ValidationError as error:
        raise ProviderFault(f"the scripted provider cannot do this: {error}") from error


def answer_of(script: Script, prompt: str, system: str, messages: list[object] | None = None) -> str:
    """Return the whole text to answer."""
    if script.empty:
        return ""
    if script.hostile:
        return HOSTILE
    if script.repeat:
        return " ".join(f"token{number}" for number in range(script.repeat))
    if script.system:
        return system
    if script.messages:
        return msgspec.json.encode(messages or []).decode()
    if script.say is not None:
        return _unescaped(script.say)
    return f"You said: {_WORD.sub('', prompt).strip()}"


def pieces_of(answer: str, size: int) -> list[str]:
    """Cut an answer into pieces of `size` characters, or of a word each when `size` is 0."""
    if size:
        return [answer[start : start + size] for start in range(0, len(answer), size)]
    return _PIECE.findall(answer) or ([answer] if answer else [])


def _bare(name: str) -> object:
    """Return what a word without a value means."""
    return {
        "crash": 3,
        "cut": "internal",
        "fail": "internal",
        "queue": 1,
        "load": "loading the scripted model",
    }.get(name, True)


def _unescaped(text: str) -> str:
    """Read escapes such as `\\n` and `\\x1b`, leaving all other text as it is."""
    return re.sub(
        r"\\(?:[nrtabfv0\\'\"]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})",
        lambda found: found[0].encode("ascii").decode("unicode_escape"),
        text,
    )
