"""Carries out lines of the command line: verbs with their arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tekton_tui.commands import Commands
from tekton_tui.commands.line import Line


def carry_out(line: Line, commands: Commands, here: Sequence[str]) -> bool:
    """Do what a line says by its names and text; return whether it could be done without knowing the place.

    `here` is who is meant without a name: the marked, the row under the cursor, the conversation that is open.
    """
    verb = line.verb
    if verb is None:
        commands.navigator.show(line.place)
        return True
    ids = list(line.ids)
    if verb.takes in ("who", "who text") and not ids:
        ids = list(here)
    if verb.name in _ON_MANY and ids:
        _ON_MANY[verb.name](commands, ids)
    elif verb.name in _ON_ONE and len(ids) == 1:
        _ON_ONE[verb.name](commands, ids[0], line.text)
    elif verb.name in _ON_ONE and ids:
        commands.notify(
            f"{verb.words[0]} takes one specialist: {commands.controller.stores.fleet.names(ids)}",
            failed=True,
        )
    elif verb.name in _WITH_TEXT and (line.text or verb.name in _TEXT_OR_NOTHING):
        _WITH_TEXT[verb.name](commands, line.text)
    elif verb.takes == "names":
        commands.fleet.launch(ids or list(here) or ["starter"])
    else:
        return False
    return True


def _ask(commands: Commands, ai_id: str, text: str) -> None:
    commands.navigator.open_chat(ai_id)
    if text:
        commands.chat.ask(ai_id, text)


def _team(commands: Commands, text: str) -> None:
    commands.navigator.open_team()
    commands.team.ask(text)


def _mark(commands: Commands, ids: list[str]) -> None:
    fleet = commands.controller.stores.fleet
    for ai_id in ids:
        fleet.toggle_mark(ai_id)
    marked = fleet.names(sorted(fleet.marked)) if fleet.marked else "nobody"
    commands.notify(f"marked: {marked}")


_ON_MANY: dict[str, Callable[[Commands, list[str]], None]] = {
    "stop": lambda commands, ids: commands.fleet.stop(ids),
    "kill": lambda commands, ids: commands.fleet.kill(ids),
    "again": lambda commands, ids: commands.fleet.restart(ids),
    "model": lambda commands, ids: commands.navigator.choose_model(ids),
    "mark": _mark,
}
_ON_ONE: dict[str, Callable[[Commands, str, str], None]] = {
    "open": lambda commands, ai_id, text: commands.navigator.open_chat(ai_id),
    "write": _ask,
    "log": lambda commands, ai_id, text: commands.navigator.open_logs(ai_id),
    "detail": lambda commands, ai_id, text: commands.fleet.describe(ai_id),
}


def _in_conversation(commands: Commands, line: str) -> None:
    if not commands.navigator.run_in_conversation(line):
        commands.notify(f"{line.partition(' ')[0]}: open a conversation first (2)", failed=True)


_WITH_TEXT: dict[str, Callable[[Commands, str], None]] = {
    "team": _team,
    "pipe": lambda commands, text: commands.navigator.open_pipes(text),
    "theme": lambda commands, text: commands.console.set_preference("theme", text),
    "attach": lambda commands, text: _in_conversation(commands, f"/attach {text}"),
    "effort": lambda commands, text: _in_conversation(commands, f"/effort {text}".strip()),
    "options": lambda commands, text: _in_conversation(commands, "/options"),
    "start-all": lambda commands, text: commands.fleet.launch(["all"]),
    "new": lambda commands, text: commands.fleet.new(text),
}
_TEXT_OR_NOTHING = frozenset({"start-all", "effort", "options", "new"})
