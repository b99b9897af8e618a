"""The line behind `:`: screens, verbs on specialists, and `tekton` words, with what there is when it is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

from tekton_tui.widgets.field import Field
from tekton_tui.widgets.navigation import SCREENS

if TYPE_CHECKING:
    from tekton_tui.app import TektonApp

WORDS = (
    "launch",
    "stop",
    "kill",
    "restart",
    "chat",
    "logs",
    "describe",
    "team",
    "pipe",
    "theme",
    "errors",
    "settings",
    "help",
    "quit",
)


class CommandLine(Field):
    """Hidden until opened; `esc` closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "Close", show=False, id="command.close")
    ]

    class Entered(Message):
        """Posted when a command was entered; `run` carries it out."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

        def run(self, app: TektonApp) -> None:
            run_command(app, self.text)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(placeholder=f": {' '.join(WORDS[:8])} … or a screen", compact=True, id=id)
        self.display = False

    def open(self) -> None:
        self.display = True
        self.focus()

    def action_close(self) -> None:
        self.value = ""
        self.display = False
        self.screen.focus_next()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        text = event.value.strip()
        self.action_close()
        if text:
            self.post_message(self.Entered(text))


def run_command(app: TektonApp, text: str) -> None:
    """Carry out a command; one that is not understood is said, with what there is."""

    word, _, rest = text.partition(" ")
    names = rest.split()
    commands = app.commands
    if word in SCREENS:
        app.show_pane(word)
    elif word in ("launch", "start"):
        commands.launch(names or ["starter"])
    elif word in ("stop", "kill") and names == ["all"]:
        commands.kill_all()
    elif word in ("stop", "kill", "restart"):
        if ids := _ids(app, names):
            getattr(commands, word)(ids)
    elif word in ("chat", "logs", "describe"):
        _open(app, word, _ids(app, names)[:1])
    elif word == "team" and rest:
        commands.open_team([])
        commands.ask_team(rest, [])
    elif word == "pipe":
        commands.open_pipes(rest)
    elif word == "theme" and rest in app.available_themes:
        app.choose("theme", rest)
    elif word in ("help", "settings"):
        getattr(app, "action_settings" if word == "settings" else "open_help")()
    elif word in ("q", "quit"):
        commands.quit()
    else:
        known = ", ".join((*WORDS, *SCREENS))
        commands.tell(f"not understood: {text!r}. There are: {known}", bad=True)


def _open(app: TektonApp, word: str, ids: list[str]) -> None:
    commands = app.commands
    for ai_id in ids:
        {"chat": commands.open_chat, "logs": commands.open_logs, "describe": commands.describe}[word](ai_id)


def _ids(app: TektonApp, names: list[str]) -> list[str]:
    """Return the ids of typed names; an unknown one is said."""
    rows = app.stores.fleet.rows
    by_name = {row.name: row.id for row in rows.values()} | {ai_id: ai_id for ai_id in rows}
    unknown = [name for name in names if name not in by_name]
    if unknown or not names:
        app.commands.tell(f"no specialist {', '.join(unknown)}" if unknown else "name a specialist", bad=True)
        return []
    return [by_name[name] for name in names]
