"""A model that does what the prompt says, for tests and demonstrations. It says "scripted" wherever a model is named.

Words in the question, anywhere, in double brackets; what is left is echoed as `You said: …`. In the material that goes
along with a question (a summary, earlier answers, memories) they are only text:

    [[say TEXT]]        answer TEXT (`\\n`, `\\x1b` and the like are read as escapes)
    [[repeat N]]        answer N numbered tokens
    [[rate N]]          N pieces a second (default: as fast as they are taken)
    [[first S]]         wait S seconds before the first piece
    [[pieces N]]        pieces of N characters (default: words)
    [[think TEXT]]      reasoning before the answer; [[sign N]] with a signature of N characters
    [[call NAME JSON]]  ask for a tool, where tools are offered; several are asked for side by side, piece by piece
    [[arguments N]]     fill the arguments of each call up to N characters
    [[stopped TEXT]]    say that this stop text ended the answer
    [[queue N]]         be N-th in a queue first; [[load TEXT]] say that something loads
    [[stall S]]         after the third piece, be silent for S seconds
    [[crash N]]         the worker process ends with exit code N after the third piece
    [[kill]]            the worker process kills itself with SIGKILL after the third piece
    [[fail CODE]]       fail with an error code before any piece; [[cut CODE]] after the third piece
    [[after N]]         the four above happen after piece N instead of the third
    [[length]]          finish because of the length
    [[empty]]           answer nothing
    [[options]]         answer with what was wished for, as JSON
    [[system]]          answer with the system prompt; [[messages]] with all messages as JSON,
                        of an earlier such answer the beginning
    [[clock]]           each piece is the host's monotonic clock in nanoseconds as the piece leaves
    [[hostile]]         answer with text that attacks terminals and markup

`providers.scripted.script` names a TOML file of rules, the first that fits a prompt is taken; words in the prompt win:

    [[answer]]
    when = "deploy"     # found in the prompt
    who = "apollo"      # found in the persona
    say = "On Friday."  # and any of the words above
    rate = 20

A model that is named `window-N` takes N tokens. With `TEKTON_SCRIPTED_COUNT=FILE` each call appends a line to FILE, so that
calls can be counted; `[[mark N]]` in a prompt puts N behind its line.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
import tomllib
from collections.abc import AsyncIterator, Mapping
from itertools import zip_longest
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal, cast

import msgspec
from msgspec import Struct

from backend.config import ProviderInfo, ProviderSettings
from backend.home import Home
from backend.providers.base import (
    Completed,
    CompletionRequest,
    ContextOverflow,
    Loading,
    Logprobs,
    ModelInfo,
    ModelNotFound,
    ProviderAuth,
    ProviderError,
    ProviderFault,
    ProviderHealth,
    ProviderRateLimited,
    ProviderUnavailable,
    Queued,
    Reasoning,
    Signature,
    StreamItem,
    Text,
    ToolPiece,
)
from backend.schema.content import Abilities, ChatMessage, TokenLogprob, ToolResult
from backend.schema.frames import Usage
from backend.wire import encodable

WINDOW = 8192
COUNT_FILE = "TEKTON_SCRIPTED_COUNT"
_MARK = re.compile(r"\[\[mark (\d+)\]\]")
ERRORS: dict[str, type[ProviderError]] = {
    "provider_unavailable": ProviderUnavailable,
    "provider_auth": ProviderAuth,
    "provider_rate_limited": ProviderRateLimited,
    "model_not_found": ModelNotFound,
    "context_overflow": ContextOverflow,
    "internal": ProviderFault,
}
BREATH = 64
"""Pieces in a row after which others get the loop."""
HOSTILE = (
    "before \x1b]52;c;aGVsbG8=\x07 \x1b[2J\x1b[31mred \x9b31m \x90q\x9c [@click=app.quit]x[/] [/] [b]bold "
    "\u202egnp.exe \u2066iso\u2069 \x00\x08\x7f [link=file:///etc/passwd]y[/link] after"
)
_MATERIAL = re.compile(r"<material>\n.*?\n</material>", re.DOTALL)
_WORD = re.compile(r"\[\[(\w+)(?: ((?:(?!\]\]).)*))?\]\]", re.DOTALL)
_PIECE = re.compile(r"\s*\S+\s*")


class ScriptedSettings(ProviderSettings, frozen=True):
    """`script` names a TOML file of rules, relative to the home; `lacks` what the model is to be unable to."""

    script: str | None = None
    lacks: tuple[Literal["tools", "images", "files", "thinking", "schema", "logprobs"], ...] = ()
    max_concurrency: int = 64


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
    call: list[str] = []
    arguments: int = 0
    sign: int = 0
    stopped: str = ""
    options: bool = False


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
        if name == "call":
            words["call"] = [*cast(list[str], words.get("call", [])), value]
        elif name in Script.__struct_fields__:
            words[name] = value or _bare(name)
    rule = next(
        (r for r in rules if r.when.lower() in prompt.lower() and r.who.lower() in system.lower()), None
    )
    base: dict[str, Any] = msgspec.to_builtins(rule) if rule else {}
    for name in ("when", "who"):
        base.pop(name, None)
    try:
        return msgspec.convert({**base, **words}, Script, strict=False)
    except msgspec.ValidationError as error:
        raise ProviderFault(f"the scripted provider cannot do this: {error}") from error


def _shown(message: ChatMessage) -> ChatMessage:
    """Return a message as `[[messages]]` shows it: an earlier such answer only by its beginning.

    It holds all that stood before it, quoted once more: the answers would double in length with each one.
    """
    if message.role == "assistant" and message.content.startswith('[{"role"'):
        return msgspec.structs.replace(message, content=message.content[:40] + "…")
    return message


def answer_of(
    script: Script,
    prompt: str,
    system: str,
    messages: list[ChatMessage] | None = None,
    options: object = None,
) -> str:
    """Return the whole text to answer."""
    if script.empty:
        return ""
    if script.hostile:
        return HOSTILE
    if script.repeat:
        return " ".join(f"token{number}" for number in range(script.repeat))
    if script.system:
        return system
    if script.options:
        return msgspec.json.encode(options).decode()
    if script.messages:
        return msgspec.json.encode([_shown(one) for one in messages or []]).decode()
    if script.say is not None:
        return _unescaped(script.say)
    return f"You said: {_WORD.sub('', prompt).strip()}"


def pieces_of(answer: str, size: int) -> list[str]:
    """Cut an answer into pieces of `size` characters, or of a word each when `size` is 0."""
    if size:
        return [answer[start : start + size] for start in range(0, len(answer), size)]
    return _PIECE.findall(answer) or ([answer] if answer else [])


def calls_of(script: Script, size: int) -> list[list[ToolPiece]]:
    """Return the calls a script asks for, each in pieces of `size` characters of its arguments."""
    calls: list[list[ToolPiece]] = []
    for index, text in enumerate(script.call):
        name, _, arguments = encodable(text).partition(" ")
        arguments = _unescaped(arguments.strip()) if "\\u" in arguments else arguments.strip() or "{}"
        if (missing := script.arguments - len(arguments)) > 0:
            arguments = '{"fill":"' + "x" * (missing + len(arguments) - len('{"fill":""}')) + '"}'
        begun = ToolPiece(index, f"call_{token_hex(8)}", name)
        calls.append(
            [begun, *(ToolPiece(index, arguments=piece) for piece in pieces_of(arguments, size or 7))]
        )
    return calls


def results_of(message: ChatMessage | None) -> list[ToolResult]:
    """Return what tools gave back, where that is what the last message holds."""
    return [part for part in message.parts if isinstance(part, ToolResult)] if message else []


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
    """Read escapes such as `\\n` and `\\x1b`, leaving all other text as it is; two of a pair are one character."""
    found = re.sub(
        r"\\(?:[nrtabfv0\\'\"]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})",
        lambda found: found[0].encode("ascii").decode("unicode_escape"),
        text,
    )
    return encodable(found)


class ScriptedProvider:
    """See `Provider`, and the module for what it obeys."""

    kind = "scripted"

    def __init__(self, own: ScriptedSettings, home: Home, environment: Mapping[str, str]) -> None:
        self._count_file = environment.get(COUNT_FILE, "")
        self._path = home.root / Path(own.script).expanduser() if own.script else None
        self._rules: list[Rule] = []
        self._lacks = frozenset(own.lacks)

    async def prepare(self) -> None:
        if self._path is not None:
            self._rules = read_rules(self._path)

    async def stream(self, request: CompletionRequest) -> AsyncIterator[StreamItem]:
        script, prompt = self._script(request)
        self._count(prompt)
        if script.queue:
            yield Queued(script.queue)
        if script.load:
            yield Loading(script.load)
        await asyncio.sleep(script.first)
        if script.fail:
            raise _error(script.fail)
        if script.think:
            yield Reasoning(script.think)
        if script.sign:
            yield Signature(_filler(script.sign))
        if script.call and request.options.offered:
            async for piece in _called(script):
                yield piece
            yield Completed("tool_calls", Usage(_words_in(request), len(script.call)))
            return
        answer = answer_of(script, prompt, request.system, [*request.messages], request.options)
        pieces = pieces_of(answer, script.pieces)
        shown = pieces[: request.max_tokens or len(pieces)]
        for sent, piece in enumerate(shown, 1):
            if request.options.logprobs is not None:
                yield Logprobs([_likely(piece, sent, request.options.logprobs)])
            yield Text(f"{time.monotonic_ns()} " if script.clock else piece)
            if sent == script.after:
                await _fault(script)
            if script.rate:
                await asyncio.sleep(1 / script.rate)
            elif sent % BREATH == 0:
                await asyncio.sleep(0)
        cut = script.length or len(shown) < len(pieces)
        usage = Usage(_words_in(request), len(shown))
        yield Completed("length" if cut else "stop", usage, stop=script.stopped)

    async def health(self, model: str) -> ProviderHealth:
        return ProviderHealth(True, "scripted: answers by its script, not by a model")

    async def models(self) -> list[ModelInfo]:
        return [
            ModelInfo(
                "scripted",
                "scripted",
                context_window=WINDOW,
                detail="for tests and demonstrations",
                abilities=await self.abilities(""),
            )
        ]

    async def context_window(self, model: str) -> int:
        named = re.fullmatch(r"window-(\d+)", model)
        return int(named[1]) if named else WINDOW

    async def abilities(self, model: str) -> Abilities:
        return Abilities(*[name not in self._lacks for name in Abilities.__struct_fields__])

    async def count_tokens(self, texts: list[str], model: str) -> list[int] | None:
        return [len(text.split()) for text in texts]

    async def aclose(self) -> None:
        return

    def _script(self, request: CompletionRequest) -> tuple[Script, str]:
        """Return what to do, and the prompt; results of tools without a text become the prompt."""
        last = next((m for m in reversed(request.messages) if m.role == "user"), None)
        prompt, results = (last.content, results_of(last)) if last else ("", [])
        if results and not prompt:
            return Script(say="The tool said: " + "; ".join(result.content for result in results)), ""
        return script_for(_MATERIAL.sub("", prompt), request.system, self._rules), prompt

    def _count(self, prompt: str) -> None:
        if self._count_file:
            mark = "".join(_MARK.findall(_MATERIAL.sub("", prompt))[-1:])
            with open(self._count_file, "a", encoding="ascii") as file:
                file.write(f"call {mark}".rstrip() + "\n")


async def _called(script: Script) -> AsyncIterator[ToolPiece]:
    """Yield the pieces of all calls, one of each in turn."""
    for pieces in zip_longest(*calls_of(script, script.pieces)):
        for piece in filter(None, pieces):
            yield piece
        await asyncio.sleep(1 / script.rate if script.rate else 0)


def _words_in(request: CompletionRequest) -> int:
    return sum(len(m.content.split()) for m in request.messages) + len(request.system.split())


def _filler(size: int) -> str:
    """Return a text of a size that is the same each time and has no part twice in a row."""
    return "".join(f"{number:x}." for number in range(size))[:size]


def _likely(token: str, number: int, top: int) -> TokenLogprob:
    """Return a made-up log probability of the token of this number, with as many alternatives."""
    others = [TokenLogprob(f"{token}{rank}", -float(rank + number % 5)) for rank in range(1, top)]
    own = TokenLogprob(token, -(number % 5) / 4, list(token.encode()))
    return TokenLogprob(own.token, own.logprob, own.bytes, [own, *others] if top else [])


async def _fault(script: Script) -> None:
    """Do what the script wants in the middle of an answer."""
    await asyncio.sleep(script.stall)
    if script.crash is not None:
        os._exit(script.crash)
    if script.kill:
        os.kill(os.getpid(), signal.SIGKILL)
    if script.cut:
        raise _error(script.cut)


def _error(code: str) -> ProviderError:
    kind = ERRORS.get(code, ProviderFault)
    detail: dict[str, object] = {"retry_after_s": 12} if kind is ProviderRateLimited else {}
    return kind(f"scripted failure: {code}", evidence="the upstream's own words", detail=detail)


PROVIDER = ProviderInfo(
    kind="scripted",
    settings=ScriptedSettings,
    make=ScriptedProvider,
    help="nothing: it does what the prompt says, for tests and demonstrations",
    fix="correct providers.scripted.script",
    free=True,
    listed=False,
    worker_bytes=1 << 20,
    environment=("TEKTON_SCRIPTED_*",),
    default_model=lambda own: "scripted",
    display=lambda model: "scripted",
)
