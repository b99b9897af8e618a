"""What a line typed into a composer means: `/verb`, `@name text`, a pipeline, or a plain question."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from tekton_tui.commands import Commands
from tekton_tui.reading import looks_like_pipeline

MAX_ATTACHED_BYTES = 1024 * 1024
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
    Verb("attach", "send a text file with a question: /attach FILE QUESTION"),
    Verb("sessions", "earlier conversations"),
    Verb("search", "find in this conversation: /search WORDS"),
    Verb("export", "write this conversation to a file: /export md or /export json"),
    Verb("logs", "what its process wrote"),
    Verb("model", "change its model"),
    Verb("stop", "stop this specialist"),
)


TEAM_VERBS = (
    Verb("help", "keys and verbs of this screen"),
    Verb("mode", "moderate: pass_through, synthesis, consensus or directed"),
    Verb("discuss", "each sees the others' answers, and answers again"),
    Verb("pipe", "run a pipeline: /pipe apollo | athena"),
    Verb("attach", "send a text file with a question: /attach FILE QUESTION"),
    Verb("sessions", "earlier conversations"),
)


class View(Protocol):
    """What a verb needs of the place it was typed at."""

    def use_session(self, session_id: str) -> None: ...

    def put_draft(self, text: str) -> None: ...

    def search(self, pattern: str) -> None: ...

    def export(self, kind: str) -> None: ...


class TeamView(Protocol):
    """What a line typed at the team's composer needs of its screen."""

    def ask(self, text: str, targets: list[str]) -> None: ...

    def set_mode(self, mode: str) -> bool: ...

    def put_draft(self, text: str) -> None: ...

    def discuss(self) -> None: ...


def read_line(text: str, commands: Commands, *, ai_id: str, session_id: str, view: View) -> None:
    """Do what a line typed at a specialist's composer says."""
    if text.startswith("/"):
        name, _, rest = text[1:].partition(" ")
        _verb(name.strip(), rest.strip(), commands, ai_id, session_id, view, text)
    elif match := _ADDRESS.fullmatch(text):
        if match[1].lower() == "team":
            commands.open_team([])
            commands.ask_team(match[2], [])
        else:
            commands.ask_named(match[1], match[2])
    elif looks_like_pipeline(text, commands.known_names()):
        commands.open_pipes()
        commands.run_pipeline(text, otherwise=view.put_draft)
    else:
        commands.ask(ai_id, text, session_id, otherwise=view.put_draft)


def read_team_line(text: str, commands: Commands, *, view: TeamView) -> None:
    """Do what a line typed at the team's composer says; `@name @other text` asks these alone."""
    if text.startswith("/"):
        _team_verb(text, commands, view)
    elif match := _ADDRESSES.fullmatch(text):
        names = [name.lower() for name in re.findall(r"@([\w-]+)", match[1])]
        if names == ["auto"]:
            commands.ask_named("auto", match[2])
        elif names == ["team"]:
            view.ask(match[2], [])
        else:
            view.ask(match[2], names)
    elif looks_like_pipeline(text, commands.known_names()):
        commands.open_pipes()
        commands.run_pipeline(text, otherwise=view.put_draft)
    else:
        view.ask(text, [])


def _team_verb(text: str, commands: Commands, view: TeamView) -> None:
    name, _, rest = (part.strip() for part in text[1:].partition(" "))
    if name == "help":
        commands.help()
    elif name == "sessions":
        commands.show("sessions")
    elif name == "discuss":
        view.discuss()
    elif name == "pipe" and rest:
        commands.open_pipes()
        commands.run_pipeline(rest, otherwise=lambda _: view.put_draft(text))
    elif name == "attach" and rest:
        if question := _with_file(rest, commands):
            view.ask(question, [])
        else:
            view.put_draft(text)
    elif name != "mode" or not view.set_mode(rest):
        known = ", ".join(f"/{verb.name}" for verb in TEAM_VERBS)
        commands.tell(f"not understood: {text!r}. Verbs: {known}", bad=True)
        view.put_draft(text)


def _verb(
    name: str, rest: str, commands: Commands, ai_id: str, session_id: str, view: View, text: str
) -> None:
    simple: dict[str, Callable[[], None]] = {
        "help": commands.help,
        "new": lambda: commands.new_session(ai_id, view.use_session),
        "sessions": lambda: commands.show("sessions"),
        "logs": lambda: commands.open_logs(ai_id),
        "model": lambda: commands.choose_model([ai_id]),
        "stop": lambda: commands.stop([ai_id]),
        "search": lambda: view.search(rest),
        "export": lambda: view.export("json" if rest == "json" else "md"),
    }
    if name in simple:
        simple[name]()
    elif name == "team" and rest:
        commands.open_team([])
        commands.ask_team(rest, [])
    elif name == "pipe" and rest:
        commands.open_pipes()
        commands.run_pipeline(rest, otherwise=lambda _: view.put_draft(text))
    elif name == "attach" and rest:
        _attach(rest, commands, ai_id, session_id, view, text)
    else:
        known = ", ".join(f"/{verb.name}" for verb in VERBS)
        commands.tell(
            f"there is no /{name}{' without a text' if name in ('team', 'pipe', 'attach') else ''}. Verbs: {known}",
            bad=True,
        )
        view.put_draft(text)


def _attach(rest: str, commands: Commands, ai_id: str, session_id: str, view: View, text: str) -> None:
    """Send a text file in front of a question; nothing typed is lost when it cannot be read."""
    if question := _with_file(rest, commands):
        commands.ask(ai_id, question, session_id, otherwise=lambda _: view.put_draft(text))
    else:
        view.put_draft(text)


def _with_file(rest: str, commands: Commands) -> str:
    """Return a question with its file before it; empty, and said why, when the file cannot be taken."""
    name, _, question = rest.partition(" ")
    path = Path(name).expanduser()
    try:
        data = path.read_bytes()
        if len(data) > MAX_ATTACHED_BYTES:
            raise ValueError(f"larger than {MAX_ATTACHED_BYTES:,} bytes")
        content = data.decode("utf-8")
    except (OSError, ValueError) as error:
        commands.tell(f"{path}: cannot be attached: {error}", bad=True)
        return ""
    return f"File {path.name}:\n\n```\n{content}\n```\n\n{question or 'What do you make of it?'}"
