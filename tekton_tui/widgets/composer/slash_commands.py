"""What a line typed into a composer means: `/verb`, `@name text`, a pipeline, or a plain question."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, get_args

from backend.schema.agents import AgentState
from backend.schema.content import Effort, TextPart
from backend.schema.errors import TektonError
from backend.schema.records import SpecialistStatus
from tekton_tui.commands import Commands, ExportFormat
from tekton_tui.widgets.composer.composer import Choice, Composer
from tekton_tui.widgets.composer.files import Attached, read_files
from tekton_tui.widgets.composer.text import looks_like_pipeline

ABOUT_FILES = "What do you make of it?"
"""The question to files that go without one."""
EFFORTS: tuple[Effort, ...] = get_args(Effort)
_ADDRESS = re.compile(r"@([A-Za-z][\w-]*)\s+(\S.*)", re.DOTALL)
_ADDRESSES = re.compile(r"((?:@[A-Za-z][\w-]*[\s,]+)+)(\S.*)", re.DOTALL)


class Verb(NamedTuple):
    """A word behind `/`, what it takes and what it does."""

    name: str
    help: str


VERBS = (
    Verb("help", "keys and verbs of this screen"),
    Verb("new", "begin a new conversation"),
    Verb("team", "ask the whole team: /team TEXT"),
    Verb("pipe", "run a pipeline: /pipe apollo | athena"),
    Verb("attach", "have a file go along: /attach FILE, or /attach FILE QUESTION"),
    Verb("effort", "how hard its model is to think: /effort high, /effort default"),
    Verb("options", "what can be set at an external agent: its mode, its model and more"),
    Verb("sessions", "earlier conversations"),
    Verb("search", "find in this conversation: /search WORDS"),
    Verb("export", "write this conversation to a file: /export md or /export json"),
    Verb("logs", "what its process wrote"),
    Verb("model", "change its model"),
    Verb("stop", "stop this specialist"),
)


OWN_NAMES = frozenset(verb.name for verb in VERBS)
AS_IT_IS = "//"
"""Before a text that begins with `/` and is to be sent as it is."""


def everybody(rows: Iterable[SpecialistStatus]) -> list[Choice]:
    """Return what `@` completes."""
    return [Choice("auto", "whoever suits best"), *(Choice(row.name, row.title) for row in rows)]


def verbs_of(agent: AgentState | None) -> list[Choice]:
    """Return what `/` completes: our verbs, then the commands of an external agent; behind `//` those named as one of ours."""
    ours = [Choice(verb.name, verb.help) for verb in VERBS]
    commands = agent.commands if agent is not None else []
    return ours + [
        Choice(f"/{one.id}" if one.id in OWN_NAMES else one.id, one.about or "its own") for one in commands
    ]


TEAM_VERBS = (
    Verb("help", "keys and verbs of this screen"),
    Verb("mode", "moderate: pass_through, synthesis, consensus or directed"),
    Verb("discuss", "each sees the others' answers, and answers again"),
    Verb("pipe", "run a pipeline: /pipe apollo | athena"),
    Verb("attach", "have a text file go along: /attach FILE, or /attach FILE QUESTION"),
    Verb("sessions", "earlier conversations"),
)


class ChatActions(Protocol):
    """What a slash command needs of the conversation it was typed in."""

    def use_session(self, session_id: str) -> None: ...

    def put_draft(self, text: str, after: str = "") -> None: ...

    def search(self, pattern: str) -> None: ...

    def export(self, kind: ExportFormat) -> None: ...

    def set_effort(self, effort: Effort | None) -> None: ...


class TeamActions(Protocol):
    """What a line typed in the team's composer needs of its screen."""

    def ask(self, text: str, targets: list[str]) -> None: ...

    def set_mode(self, mode: str) -> bool: ...

    def put_draft(self, text: str) -> None: ...

    def discuss(self) -> None: ...


def read_line(
    text: str,
    commands: Commands,
    *,
    ai_id: str,
    session_id: str,
    view: ChatActions,
    composer: Composer,
    files: Sequence[Attached] = (),
    effort: Effort | None = None,
    after: str = "",
) -> None:
    """Carry out a line typed in a specialist's composer.

    `files` go along, `effort` is how hard it is to think, `after` the question that a plain one stands behind.
    """

    def put_back(text: str) -> None:
        view.put_draft(text, after)
        composer.add_files(files)

    def ask(words: str) -> None:
        commands.chat.ask(
            ai_id,
            words,
            session_id,
            files=parts,
            effort=effort,
            after=after,
            on_refused=put_back,
        )

    parts = [file.part for file in files]
    match = _ADDRESS.fullmatch(text)
    name, _, rest = text[1:].partition(" ") if text.startswith("/") else ("", "", "")
    row = commands.controller.stores.fleet.rows.get(ai_id)
    offered = (
        {one.id for one in row.agent.commands} if row is not None and row.agent is not None else set[str]()
    )
    # A command of the agent's own goes to it as it was typed, unless one of ours has the same name.
    as_it_is = text.startswith(AS_IT_IS) or (name.strip() in offered and name.strip() not in OWN_NAMES)
    if as_it_is:
        ask(text.removeprefix("/") if text.startswith(AS_IT_IS) else text)
    elif text.startswith("/"):
        composer.add_files(files)
        _verb(name.strip(), rest.strip(), commands, ai_id, view, composer, text)
    elif match and match[1].lower() != "team":
        commands.chat.ask_named(match[1], match[2], files=parts, effort=effort)
    elif match or looks_like_pipeline(text, commands.controller.stores.fleet.known_names()):
        if files:
            commands.notify("files go to one specialist: Team Chat and pipelines take text", failed=True)
            put_back(text)
        elif match:
            commands.navigator.open_team([])
            commands.team.ask(match[2], [])
        else:
            commands.navigator.open_pipes()
            commands.pipelines.run(text, on_refused=view.put_draft)
    else:
        ask(text or ABOUT_FILES)


def read_team_line(text: str, commands: Commands, *, view: TeamActions, composer: Composer) -> None:
    """Carry out a line typed in the team's composer; `@name @other text` asks these alone."""
    if text.startswith("/"):
        _team_verb(text, commands, view, composer)
    elif match := _ADDRESSES.fullmatch(text):
        names = [name.lower() for name in re.findall(r"@([\w-]+)", match[1])]
        if names == ["auto"]:
            commands.chat.ask_named("auto", match[2])
        elif names == ["team"]:
            view.ask(match[2], [])
        else:
            view.ask(match[2], names)
    elif looks_like_pipeline(text, commands.controller.stores.fleet.known_names()):
        commands.navigator.open_pipes()
        commands.pipelines.run(text, on_refused=view.put_draft)
    else:
        view.ask(text, [])


def _team_verb(text: str, commands: Commands, view: TeamActions, composer: Composer) -> None:
    name, _, rest = (part.strip() for part in text[1:].partition(" "))
    if name == "help":
        commands.navigator.open_help()
    elif name == "sessions":
        commands.navigator.show("sessions")
    elif name == "discuss":
        view.discuss()
    elif name == "pipe" and rest:
        commands.navigator.open_pipes()
        commands.pipelines.run(rest, on_refused=lambda _: view.put_draft(text))
    elif name == "attach" and rest:
        attach(rest, commands, composer, text, only_text=True)
    elif name != "mode" or not view.set_mode(rest):
        known = ", ".join(f"/{verb.name}" for verb in TEAM_VERBS)
        commands.notify(f"not understood: {text!r}. Verbs: {known}", failed=True)
        view.put_draft(text)


def _verb(
    name: str, rest: str, commands: Commands, ai_id: str, view: ChatActions, composer: Composer, text: str
) -> None:
    simple: dict[str, Callable[[], None]] = {
        "help": commands.navigator.open_help,
        "new": lambda: commands.chat.new_session(ai_id, view.use_session),
        "sessions": lambda: commands.navigator.show("sessions"),
        "logs": lambda: commands.navigator.open_logs(ai_id),
        "model": lambda: commands.navigator.choose_model([ai_id]),
        "options": lambda: commands.models.options(ai_id),
        "stop": lambda: commands.fleet.stop([ai_id]),
        "search": lambda: view.search(rest),
        "export": lambda: view.export("json" if rest == "json" else "md"),
    }
    if name in simple:
        simple[name]()
    elif name == "team" and rest:
        commands.navigator.open_team([])
        commands.team.ask(rest, [])
    elif name == "pipe" and rest:
        commands.navigator.open_pipes()
        commands.pipelines.run(rest, on_refused=lambda _: view.put_draft(text))
    elif name == "attach" and rest:
        attach(rest, commands, composer, text)
    elif name == "effort" and rest in (*EFFORTS, "default", ""):
        view.set_effort(next((effort for effort in EFFORTS if effort == rest), None))
    elif name == "effort":
        commands.notify(f"{rest!r} is no effort: {', '.join(EFFORTS)}, default", failed=True)
        view.put_draft(text)
    else:
        known = ", ".join(f"/{verb.name}" for verb in VERBS)
        commands.notify(
            f"there is no /{name}{' without a text' if name in ('team', 'pipe', 'attach') else ''}. Verbs: {known}. "
            f"/{text} sends it as it is",
            failed=True,
        )
        view.put_draft(text)


def read_into(
    composer: Composer,
    commands: Commands,
    paths: list[Path],
    then: Callable[[], None] | None = None,
    *,
    only_text: bool = False,
) -> None:
    """Read files in the background and show them above a composer's field; what cannot go along is said."""

    async def read() -> None:
        try:
            held = sum(file.size for file in composer.files)
            found = await asyncio.to_thread(read_files, paths, held)
            for file in found:
                if only_text and not isinstance(file.part, TextPart):
                    raise TektonError(
                        f"{file.name} is no text: Team Chat takes text files only", code="invalid_request"
                    )
        except TektonError as refusal:
            commands.notify(refusal.message, failed=True)
            return
        if composer.is_attached:
            composer.add_files(found)
            if then is not None:
                then()

    commands.controller.spawn(read())


def attach(rest: str, commands: Commands, composer: Composer, text: str, *, only_text: bool = False) -> None:
    """Have a file go along, and send the question behind its name; what was typed stays when it cannot be read."""
    name, _, question = rest.partition(" ")
    composer.draft = text
    path = Path(name).expanduser()
    read_into(
        composer, commands, [path], lambda: composer.ask_about_files(question.strip()), only_text=only_text
    )
