"""Rules over tool calls: `deny`, `ask` or `allow`, by the tool's name and its arguments. Pure.

A pattern is `SERVER:TOOL [ARGUMENT=GLOB …]`, such as `files:write path=notes/*` or `shell:run command=git status*`.
`*` stands for any characters, `\\*` for a star. An `allow` is read narrowly: what it does not clearly cover it does not
allow. A `deny` is read widely: whatever it may mean, it denies.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple, cast

import msgspec

from backend.orchestration.approvals.places import Place, fixed_part
from backend.orchestration.approvals.readings import folded, readings
from backend.schema.content import read_arguments
from backend.schema.errors import TektonError
from backend.schema.tools import AGENTS_SERVER, MAX_RULE, CallRules, Decision, Rule, Verdict

ORDER: tuple[Verdict, ...] = ("deny", "ask", "allow")
"""Which verdict wins where several rules match."""
CALL = "this question"
"""Whose rules those are that a question brings along."""
_OPERATORS = re.compile(r"[;&|<>`$\n\r\0]")
"""What ends one command of a shell and begins another, or has it expand something: no `*` of an `allow` covers it."""
_ARGUMENT = re.compile(r"(?<!\s)\s++([A-Za-z_][\w.-]*+)=")
NOWHERE_ELSE: Mapping[str, Place] = {}
"""No path leads elsewhere than it says."""
_GLOB = re.compile(r"\*|\\(.)?|[^*\\]++", re.DOTALL)
"""A star, an escaped character, or a run of plain ones."""


class RuleError(TektonError):
    """A pattern cannot be read; the message says what is expected."""

    code = "invalid_request"


class Pattern(NamedTuple):
    """A pattern taken apart."""

    tool: str
    arguments: dict[str, str]


def read_pattern(text: str) -> Pattern:
    """Take a pattern apart.

    Raises:
        RuleError: No tool is named, or an argument twice.
    """
    head, *rest = _ARGUMENT.split(f"{text.strip()} ")
    tool = head.strip()
    if not tool or re.search(r"[\s=]", tool) or tool.count(":") > 1:
        raise RuleError(
            f"rule {text!r}: expected SERVER:TOOL and then ARGUMENT=GLOB, such as `files:write path=notes/*`"
        )
    arguments: dict[str, str] = {}
    for name, glob in zip(rest[::2], rest[1::2], strict=True):
        if name in arguments:
            raise RuleError(f"rule {text!r}: the argument {name} stands there twice")
        arguments[name] = glob.strip()
    return Pattern(tool if ":" in tool else f"{tool}:*", arguments)


def matches(glob: str, text: str, *, star: Callable[[str], bool] = lambda _: True) -> bool:
    """Return whether a glob covers a text, in time linear in both lengths times the number of stars.

    `star` says whether a star may stand for a stretch of text.
    """
    pieces = _pieces(glob)
    if len(pieces) == 1:
        return text == pieces[0]
    first, *middle, last = pieces
    if not (text.startswith(first) and text.endswith(last) and len(text) >= len(first) + len(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in middle:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        if not star(text[at:found]):
            return False
        at = found + len(piece)
    return star(text[at:end])


@lru_cache(maxsize=1_000)
def _pieces(glob: str) -> tuple[str, ...]:
    """Split a glob at its stars; `\\` makes the next character plain."""
    pieces: list[list[str]] = [[]]
    for found in _GLOB.finditer(glob):
        if found[0] == "*":
            pieces.append([])
        else:
            pieces[-1].append(found[1] or found[0])
    return tuple(map("".join, pieces))


def escape(text: str) -> str:
    """Return the glob that covers this text and no other."""
    return text.replace("\\", "\\\\").replace("*", "\\*")


def exact_pattern(tool: str, arguments: str) -> str:
    """Return the pattern that covers a call with exactly these arguments; one of the tool alone where it has none.

    Empty where no pattern says it, or none that may be so long: of arguments that cannot be read, or that are lists and
    objects, which no `allow` covers; of an agent's call of which nothing is said.
    """
    values = _object(arguments)
    if values is None or (not values and tool.startswith(f"{AGENTS_SERVER}:")):
        return ""
    words = [f"{name}={escape(_words(value))}" for name, value in values.items()]
    text = " ".join([escape(tool), *words])
    if len(text) > MAX_RULE:
        return ""
    plain = all(re.fullmatch(r"[A-Za-z_][\w.-]*", name) for name in values)
    try:
        same = plain and read_pattern(text).arguments == {
            name: escape(_words(value)) for name, value in values.items()
        }
    except RuleError:
        return ""
    return text if same and _covers(Rule("allow", text), tool, values, NOWHERE_ELSE) else ""


def decide(
    rules: Iterable[Rule],
    tool: str,
    arguments: str,
    scopes: Iterable[str],
    *,
    default: Verdict = "ask",
    real: Mapping[str, Place] = NOWHERE_ELSE,
) -> Decision:
    """Return what the rules say of a call, `deny` before `ask` before `allow`, the narrowest scope first.

    `scopes` are those the call stands in, the widest first: the platform's is empty. `arguments` is JSON; what cannot
    be read as an object is covered by no `allow`. `real` says where paths lead that are links, see `real_places`.
    """
    order = {scope: place for place, scope in enumerate(scopes)}
    values = values_of(arguments)
    covering = [rule for rule in rules if rule.scope in order and _covers(rule, tool, values, real)]
    for verdict in ORDER:
        found = [rule for rule in covering if rule.verdict == verdict]
        if found:
            rule = max(found, key=lambda rule: order[rule.scope])
            whose = rule.scope or "the platform"
            return Decision(verdict, f"{verdict} {rule.pattern!r}, a rule of {whose}", rule)
    return Decision(default, f"no rule covers {tool}: the default is {default}")


def narrowed(
    decision: Decision,
    rules: CallRules | None,
    tool: str,
    arguments: str,
    real: Mapping[str, Place] = NOWHERE_ELSE,
) -> Decision:
    """Return the platform's decision, or that of the rules a question brought along where it is stricter."""
    if rules is None:
        return decision
    default: Verdict = "deny" if rules.allow else "allow"
    own = decide(written(rules), tool, arguments, [CALL], default=default, real=real)
    if ORDER.index(own.verdict) >= ORDER.index(decision.verdict):
        return decision
    if own.rule is None:
        own.reason = f"{CALL} allows only what its own rules name, and {tool} is not among it"
    return own


def written(rules: CallRules | None) -> list[Rule]:
    """Return the rules that a question brings along."""
    if rules is None:
        return []
    return [Rule(verdict, pattern, CALL) for verdict in ORDER for pattern in getattr(rules, verdict)]


def globs_for(rules: Iterable[Rule], tool: str) -> list[str]:
    """Return what the rules over a tool say of its arguments."""
    patterns = (read_pattern(rule.pattern) for rule in rules)
    return [glob for one in patterns if matches(one.tool, tool) for glob in one.arguments.values()]


def check(rules: CallRules | None) -> None:
    """Read every pattern of the rules that a question brings along.

    Raises:
        RuleError: One cannot be read.
    """
    if rules is not None:
        for pattern in (*rules.deny, *rules.ask, *rules.allow):
            read_pattern(pattern)


def _covers(rule: Rule, tool: str, values: dict[str, object], real: Mapping[str, Place]) -> bool:
    pattern = read_pattern(rule.pattern)
    if not matches(pattern.tool, tool) and (rule.verdict == "allow" or not _alike(pattern.tool, tool)):
        return False
    covers = _allows if rule.verdict == "allow" else _touches
    return all(
        covers(glob, values.get(name), name in values, real) for name, glob in pattern.arguments.items()
    )


def _allows(glob: str, value: object, given: bool, real: Mapping[str, Place]) -> bool:
    """Return whether a glob of an `allow` clearly covers a value, and where that leads."""
    if not given or not isinstance(value, str | int | float | bool):
        return False
    text = _words(value)
    plain = text if "/../" not in f"/{text}/" else posixpath.normpath(text)
    if not matches(glob, plain, star=_is_one_word):
        return False
    there = real.get(text)
    return there is None or not there.by_link or matches(_moved(glob, real), there.path, star=_is_one_word)


def _moved(glob: str, real: Mapping[str, Place]) -> str:
    """Return a glob over the place to which its folder leads."""
    fixed = fixed_part(glob)
    there = None if glob.startswith("*") else real.get(fixed)
    return glob if there is None else escape(there.path) + glob[len(fixed) :]


def _is_one_word(text: str) -> bool:
    return not _OPERATORS.search(text)


def _touches(glob: str, value: object, given: bool, real: Mapping[str, Place]) -> bool:
    """Return whether a glob of a `deny` or an `ask` may be meant for a value: for all of it, a part, or its like."""
    if not given:
        return False
    if isinstance(value, list | dict):
        whole = cast(dict[str, object] | list[object], value)
        inner = whole.values() if isinstance(whole, dict) else whole
        return any(_touches(glob, one, True, real) for one in inner) or _alike(glob, _words(whole))
    text = _words(value)
    globs = {glob, _moved(glob, real)}
    places = [*readings(text), *(readings(real[text].path) if text in real else ())]
    return any(_alike(one, place) for place in places for one in globs)


def _alike(glob: str, text: str) -> bool:
    return matches(glob, text) or matches(folded(glob), folded(text))


def values_of(arguments: str) -> dict[str, object]:
    """Return the arguments of a call; none where they cannot be read."""
    return _object(arguments) or {}


def _object(arguments: str) -> dict[str, object] | None:
    """Return arguments as an object, `None` where they are none or nested too deep to be read."""
    try:
        return read_arguments(arguments)
    except ValueError:
        return None


def _words(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
