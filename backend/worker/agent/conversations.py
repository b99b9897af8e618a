"""The conversations that are open at an agent, and which of them is which of ours, kept over restarts.

An agent keeps its conversations itself, by the folder it works in. One that it cannot go on with is begun anew, and that is
said. Knows nothing of turns but who holds a conversation.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import msgspec
from msgspec import Struct

from backend.acp import messages as acp
from backend.acp.peer import Peer, RpcFailure
from backend.home import write_private
from backend.schema.agents import AgentChoice, AgentOption, AgentSpec
from backend.schema.errors import TektonError
from backend.schema.frames import FinishReason, Request
from backend.schema.tools import AskField, AskOption
from backend.text import safe_line

log = logging.getLogger(__name__)

_T = TypeVar("_T", bound=Struct)

OPEN_S = 60.0
"""How long an agent may take to open a conversation."""
SET_S = 15.0
MAX_OPEN = 4
"""Conversations kept open; some agents start a process for each."""
MAX_KEPT = 500
"""Conversations of which is remembered where they go on, the newest."""
MAX_NAME = 200
MAX_CHOICES = 100


class Question(NamedTuple):
    """What an agent wants to do, for rules and persons: `shown` is one line of it, `call` the number of the call it is about, if any."""

    tool: str
    arguments: str
    shown: str
    options: list[AskOption]
    diff: str = ""
    call: int | None = None
    form: list[AskField] | None = None


class TurnThere(Protocol):
    """The turn that speaks in a conversation, as those see it who pass on what the agent says and asks."""

    @property
    def full(self) -> bool:
        """Whether its reader is slower than the agent."""
        ...

    async def drain(self) -> None:
        """Wait until its reader has caught up."""
        ...

    def on_update(self, update: acp.Update) -> None:
        """Take what the agent says."""
        ...

    def cancel(self, reason: FinishReason | TektonError = "cancelled") -> None:
        """End it early."""
        ...

    async def permission(self, asked: acp.RequestPermission) -> acp.Permission:
        """Answer a request for permission."""
        ...

    async def verdict(self, asked: Question) -> Request | None:
        """Return the platform's verdict on what the agent wants; `None` once the turn is over."""
        ...


class _Kept(Struct, omit_defaults=True):
    id: str
    cwd: str
    at: float = 0.0


class _Chosen(Struct):
    """What somebody set while the agent ran, and what the configuration said of it then."""

    value: str | bool
    configured: str | bool


class _File(Struct, omit_defaults=True):
    command: list[str]
    conversations: dict[str, _Kept] = {}
    chosen: dict[str, _Chosen] = {}


class Conversation:
    """One conversation at the agent. `lock` is held by the turn that speaks in it."""

    def __init__(self, agent_id: str, name: str) -> None:
        self.agent_id, self.name = agent_id, name
        self.lock = asyncio.Lock()
        self.turn: TurnThere | None = None
        self.used_at = time.monotonic()
        self.begun = False
        """Whether anything was said in it: what comes before the first question is said once."""
        self.spent: float = 0.0
        """What it cost so far, as the agent counts."""
        self.broken = ""
        """Why nothing more is asked in it."""
        self.modes: acp.Modes | None = None
        self.models: acp.Models | None = None
        self.options: list[acp.ConfigOption] = []
        self.own_effort = ""
        """How hard it thinks by itself, once a question has wished for something else."""

    def take(self, opened: acp.SessionOpened) -> None:
        """Take what can be chosen in it."""
        self.modes, self.models = opened.modes or self.modes, opened.models or self.models
        if opened.config_options is not None:
            self.options = opened.config_options

    def of_category(self, category: str) -> acp.ConfigOption | None:
        """Return its option for the mode or the model, where it has one."""
        return next((one for one in self.options if one.category == category or one.id == category), None)

    @property
    def mode(self) -> str:
        if self.modes is not None:
            return self.modes.current_mode_id
        option = self.of_category("mode")
        return str(option.current_value) if option else ""

    @property
    def model(self) -> str:
        option = self.of_category("model")
        if option is not None:
            return str(option.current_value)
        return self.models.current_model_id if self.models else ""

    @property
    def mode_choices(self) -> list[AgentChoice]:
        if self.modes is not None:
            return [choice(one.id, one.name, one.description) for one in self.modes.available_modes][
                :MAX_CHOICES
            ]
        return values_of(self.of_category("mode"))

    @property
    def model_choices(self) -> list[AgentChoice]:
        if (option := self.of_category("model")) is not None:
            return values_of(option)
        return [
            choice(one.model_id, one.name, one.description)
            for one in (self.models.available_models if self.models else [])
        ][:MAX_CHOICES]

    @property
    def other_options(self) -> list[AgentOption]:
        """What else can be set in it."""
        return [
            AgentOption(
                _short(one.id),
                _short(one.name or one.id),
                one.current_value,
                values_of(one),
                _short(str(one.category or "")),
            )
            for one in self.options[:MAX_CHOICES]
        ]


class Conversations:
    """Opens conversations at one agent. `abilities` are set once the agent has said them."""

    def __init__(self, peer: Peer, spec: AgentSpec, path: Path) -> None:
        self._peer, self._spec, self._path = peer, spec, path
        self.abilities = acp.AgentAbilities()
        self.open: dict[str, Conversation] = {}
        """By the agent's id."""
        self._named: dict[str, Conversation] = {}
        """By ours."""
        self._opening: dict[str, asyncio.Lock] = {}
        self._file = self._read()
        self._configured = {name: self._value(name) for name in ("mode", "model", *spec.options)}
        for name, one in list(self._file.chosen.items()):
            if one.configured == self._configured.get(name, ""):
                self._set_spec(name, one.value)
            else:  # the configuration was changed since: it was meant
                del self._file.chosen[name]

    @property
    def can_resume(self) -> bool:
        """Whether the agent says that it can go on with a conversation of before it was started."""
        sessions = self.abilities.session_capabilities
        return bool(self.abilities.load_session) or (sessions is not None and sessions.resume is not None)

    async def get(self, name: str) -> tuple[Conversation, str]:
        """Return our conversation `name` at the agent, open, and a note where it does not remember; "" is a new one.

        Raises:
            RpcFailure: The agent refuses to open one.
            TektonError: It did not answer in time, or does not know what the configuration sets.
        """
        if not name:
            return await self._new(""), ""
        lock = self._opening.setdefault(name, asyncio.Lock())
        async with lock:
            known = self._named.get(name)
            if known is not None and not known.broken:
                return known, ""
            kept, note = self._file.conversations.get(name), ""
            if known is not None:
                kept, note = None, f"this conversation was begun anew at the agent: {known.broken}"
            if kept is not None:
                if kept.cwd != self._spec.cwd:
                    note = f"the agent works in {self._spec.cwd} now and does not remember what was said in {kept.cwd}"
                elif (found := await self._again(name, kept.id)) is not None:
                    return found, ""
                else:
                    note = "the agent does not remember this conversation: it was begun anew"
            return await self._new(name), note

    async def close(self, conversation: Conversation) -> None:
        """End a conversation at the agent, as far as it can that."""
        self.open.pop(conversation.agent_id, None)
        if self._named.get(conversation.name) is conversation:
            del self._named[conversation.name]
        sessions = self.abilities.session_capabilities
        if sessions is not None and sessions.close is not None and not self._peer.closed:
            try:
                await self._peer.call(
                    acp.SESSION_CLOSE, acp.SessionId(conversation.agent_id), acp.Empty, timeout_s=SET_S
                )
            except (RpcFailure, TimeoutError) as error:
                log.info("a conversation was not closed at the agent: %s", error)

    def keep(self, name: str, value: str | bool) -> None:
        """Have a mode, a model or an option hold for every conversation, also after a restart."""
        self._set_spec(name, value)
        self._file.chosen[name] = _Chosen(value, self._configured.get(name, ""))
        self._write()

    def _forget(self, name: str) -> None:
        """Go back to what the configuration says."""
        if name in self._configured:
            self._set_spec(name, self._configured[name])
        else:
            self._spec.options.pop(name, None)

    def _value(self, name: str) -> str | bool:
        known: dict[str, str | bool] = {"mode": self._spec.mode, "model": self._spec.model}
        return known[name] if name in known else self._spec.options.get(name, "")

    def _set_spec(self, name: str, value: str | bool) -> None:
        if name in ("mode", "model"):
            setattr(self._spec, name, str(value))
        else:
            self._spec.options[name] = value

    async def choose(self, conversation: Conversation, name: str, value: str | bool) -> None:
        """Set a mode, a model or an option, by its name. Raises `TektonError` for what the agent does not have."""
        if name == "mode":
            await self.set_mode(conversation, str(value))
        elif name == "model":
            await self.set_model(conversation, str(value))
        else:
            await self.set_option(conversation, name, value)

    async def set_effort(self, conversation: Conversation, effort: str) -> str:
        """Have a conversation think so hard, empty for as hard as by itself; return why it does not, if so."""
        wanted = effort or conversation.own_effort
        if not wanted:
            return ""
        option = conversation.of_category("thought_level")
        known = [one.id for one in values_of(option)]
        if option is None or wanted not in known:
            return f"the agent has no effort {wanted!r}; it has: {', '.join(known[:30]) or 'none'}"
        conversation.own_effort = conversation.own_effort or str(option.current_value)
        if option.current_value != wanted:
            await self.set_option(conversation, option.id, wanted)
        return ""

    async def set_mode(self, conversation: Conversation, mode: str) -> None:
        """Set the mode of a conversation. Raises `TektonError` for one that the agent does not have."""
        known = [one.id for one in conversation.mode_choices]
        if mode not in known:
            raise _unknown("mode", mode, known)
        if conversation.modes is not None:
            await self._set(acp.SET_MODE, acp.SetMode(conversation.agent_id, mode), acp.Empty)
            conversation.modes.current_mode_id = mode
        elif (option := conversation.of_category("mode")) is not None:
            await self.set_option(conversation, option.id, mode)

    async def set_model(self, conversation: Conversation, model: str) -> None:
        """Set the model of a conversation. Raises `TektonError` for one that the agent does not have."""
        if (option := conversation.of_category("model")) is not None:
            await self.set_option(conversation, option.id, model)
            return
        known = [one.id for one in conversation.model_choices]
        if conversation.models is None or model not in known:
            raise _unknown("model", model, known)
        await self._set(acp.SET_MODEL, acp.SetModel(conversation.agent_id, model), acp.Empty)
        conversation.models.current_model_id = model

    async def set_option(self, conversation: Conversation, name: str, value: str | bool) -> None:
        """Set an option of a conversation. Raises `TektonError` for one that the agent does not have."""
        option = next((one for one in conversation.options if one.id == name), None)
        if option is not None and option.type == "boolean" and isinstance(value, str):
            if value not in ("true", "false"):
                raise _unknown(option.name or name, value, ["true", "false"])
            value = value == "true"
        if option is None:
            raise _unknown("option", name, [one.id for one in conversation.options])
        known = [one.id for one in values_of(option)]
        if option.type == "select" and value not in known:
            raise _unknown(option.name or name, str(value), known)
        kind = "boolean" if isinstance(value, bool) else None
        answer = await self._set(
            acp.SET_CONFIG_OPTION,
            acp.SetConfigOption(conversation.agent_id, name, value, kind),
            acp.ConfigOptions,
        )
        option.current_value = value
        conversation.options = answer.config_options or conversation.options

    async def _set(self, method: str, params: Struct, kind: type[_T]) -> _T:
        try:
            return await self._peer.call(method, params, kind, timeout_s=SET_S)
        except TimeoutError as error:
            raise TektonError(
                f"the agent did not answer {method} within {SET_S:g} s", code="timeout"
            ) from error
        except RpcFailure as failure:
            raise TektonError(
                f"the agent refuses {method}: {safe_line(failure.message)}", code="invalid_request"
            ) from failure

    async def _new(self, name: str) -> Conversation:
        await self._make_room()
        opened = await self._call(acp.SESSION_NEW, acp.NewSession(self._spec.cwd))
        if not opened.session_id or opened.session_id in self.open:
            raise TektonError(
                "the agent gave a new conversation no id of its own", code="provider_unavailable"
            )
        return await self._keep(Conversation(opened.session_id, name), opened)

    async def _again(self, name: str, agent_id: str) -> Conversation | None:
        """Resume or load a conversation; `None` when the agent cannot."""
        sessions = self.abilities.session_capabilities
        ways = [acp.SESSION_RESUME] if sessions is not None and sessions.resume is not None else []
        ways += [acp.SESSION_LOAD] if self.abilities.load_session else []
        if ways:
            await self._make_room()
        for method in ways:
            found = Conversation(agent_id, name)
            try:
                opened = await self._call(method, acp.LoadSession(agent_id, self._spec.cwd))
            except RpcFailure as failure:
                if failure.code == acp.AUTH_REQUIRED:
                    raise
                log.warning("%s of an earlier conversation: %s", method, safe_line(failure.message))
                continue
            found.begun = True
            return await self._keep(found, opened)
        return None

    async def _call(self, method: str, params: Struct) -> acp.SessionOpened:
        try:
            return await self._peer.call(method, params, acp.SessionOpened, timeout_s=OPEN_S)
        except TimeoutError as error:
            raise TektonError(
                f"the agent opened no conversation within {OPEN_S:g} s", code="provider_unavailable"
            ) from error

    async def _keep(self, conversation: Conversation, opened: acp.SessionOpened) -> Conversation:
        """Set what the configuration says, and only then let a conversation be used."""
        conversation.take(opened)
        spec = self._spec
        for name, value in {"mode": spec.mode, "model": spec.model, **spec.options}.items():
            if value == "" or (name == "mode" and conversation.mode == value):
                continue
            if name == "model" and conversation.model == value:
                continue
            try:
                await self.choose(conversation, name, value)
            except TektonError as error:
                if name not in self._file.chosen:
                    raise
                log.warning("what was set of %s holds no more: %s", name, error.message)
                del self._file.chosen[name]
                self._forget(name)
        self.open[conversation.agent_id] = conversation
        if conversation.name:
            self._named[conversation.name] = conversation
            # Taken out first, so that it stands last: the ones at the front are forgotten first.
            self._file.conversations.pop(conversation.name, None)
            self._file.conversations[conversation.name] = _Kept(conversation.agent_id, spec.cwd, time.time())
            while len(self._file.conversations) > MAX_KEPT:
                del self._file.conversations[next(iter(self._file.conversations))]
            self._write()
        return conversation

    async def _make_room(self) -> None:
        """Close the conversation that was not used for longest, where there are too many."""
        idle = sorted((one for one in self.open.values() if one.turn is None), key=lambda one: one.used_at)
        for conversation in idle[: max(0, len(self.open) - MAX_OPEN + 1)]:
            await self.close(conversation)

    def _read(self) -> _File:
        try:
            file = msgspec.json.decode(self._path.read_bytes(), type=_File)
        except FileNotFoundError:
            return _File(self._spec.command)
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("which conversations the agent has cannot be read: %s", error)
            return _File(self._spec.command)
        return file if file.command == self._spec.command else _File(self._spec.command)

    def _write(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._path, msgspec.json.encode(self._file))
        except OSError as error:
            log.warning("which conversations the agent has could not be written: %s", error)


def choice(value: str, name: str, about: str | None = None) -> AgentChoice:
    """Return a choice with texts that are safe to show."""
    return AgentChoice(value[:MAX_NAME], _short(name or value), _short(about or ""))


def values_of(option: acp.ConfigOption | None) -> list[AgentChoice]:
    """Return the values of an option; groups are one list."""
    found: list[AgentChoice] = []
    for one in (option.options if option else None) or []:
        for value in one.options if one.options is not None else [one]:
            found.append(choice(value.value, value.name, value.description))
    return found[:MAX_CHOICES]


def _short(text: str) -> str:
    return safe_line(text)[:MAX_NAME]


def _unknown(what: str, name: str, known: list[str]) -> TektonError:
    return TektonError(
        f"the agent has no {what} {name!r}; it has: {', '.join(known[:30]) or 'none'}", code="invalid_request"
    )
