"""What can be done from here: the verbs of the table at the places around the focus, for help, palette and menu."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from textual.app import App
from textual.dom import DOMNode
from textual.markup import escape
from textual.screen import Screen

from tekton_tui.commands import Commands
from tekton_tui.runtime.frame_scheduler import app_of
from tekton_tui.safe_text import one_line
from tekton_tui.verbs import OF_CURSOR, NamesKeys, SaysWhyNot, Verb, at_place, key_sign

NAME_CELLS = 60
"""Of a specialist in the palette."""


class Entry(NamedTuple):
    """A verb where it holds: the widget that carries it out, its action and words there, the key in force.

    `why_not` says why it has no use now; empty if it has one.
    """

    verb: Verb
    node: DOMNode
    action: str
    label: str
    key: str
    why_not: str


def places_of(node: DOMNode) -> dict[str, str]:
    """Return the bindings in force of a widget, made from the table: keys by binding id."""
    # on a copy, as Textual does it: the widget's own keep the shipped keys
    bindings = node._bindings.copy()  # pyright: ignore[reportPrivateUsage]
    ids = {binding.id for _, binding in bindings if binding.id}
    bindings.apply_keymap(app_of(node)._keymap)  # pyright: ignore[reportPrivateUsage]
    keys: dict[str, str] = {}
    for key, binding in bindings:
        if binding.id in ids:
            keys.setdefault(binding.id or "", key)
    return keys


def entries_of(node: DOMNode) -> list[Entry]:
    """Return a widget's verbs with the operator's keys, in the table's order."""
    keys = places_of(node)
    words = node.key_words() if isinstance(node, NamesKeys) else {}
    found: list[Entry] = []
    for place in dict.fromkeys(name.partition(".")[0] for name in keys):
        for verb, at in at_place(place):
            reason = node.why_not(verb.name) if isinstance(node, SaysWhyNot) else ""
            key = key_sign(keys.get(f"{place}.{verb.name}", ""))
            label = words.get(at.action, at.label or verb.label)
            found.append(Entry(verb, node, at.action, label, key, reason))
    return found


def nodes_here(screen: Screen[Any]) -> list[DOMNode]:
    """Return what has keys on a screen: the focus and what it lies in, what else is shown beside it, then the app."""
    focused = screen.focused
    nodes: list[DOMNode] = list(focused.ancestors_with_self) if focused else [screen]
    nodes = [node for node in nodes if node is not app_of(screen)]
    beside = [node for node in _panes_of(screen, nodes) if node not in nodes]
    # Textual's own lists and fields have keys as well: they move, and are in no table
    ours = [node for node in (*nodes, *beside) if type(node).__module__.startswith("tekton_tui")]
    kinds: dict[type, DOMNode] = {}
    for node in ours:
        # the nearest of a kind stands for all of it: twenty lanes have the same verbs
        kinds.setdefault(type(node), node)
    return [*kinds.values(), app_of(screen)]


def entries_here(screen: Screen[Any]) -> Iterator[Entry]:
    """Yield what can be done from here, nearest to the focus first; what two places call the same stands once."""
    given: set[tuple[str, str]] = set()
    for node in nodes_here(screen):
        for entry in entries_of(node):
            if (entry.verb.name, entry.label) not in given:
                given.add((entry.verb.name, entry.label))
                yield entry


def _panes_of(screen: Screen[Any], nodes: list[DOMNode]) -> Iterator[DOMNode]:
    """Yield the pane that is shown and all in it that is displayed."""
    for pane in screen.query("#panes > *"):
        if pane.display:
            yield pane
            yield from (child for child in pane.walk_children() if _shown(child))


def _shown(node: DOMNode) -> bool:
    return all(bool(each.display) for each in node.ancestors_with_self)


def _plain(text: str) -> str:
    """Return foreign text as the palette takes it: one line, none of it markup."""
    return escape(one_line(text, NAME_CELLS))


def system_commands(app: App[Any], commands: Commands) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """Yield title, help and function of all that can be done from here: names, this place's verbs, then the rest."""
    for row in commands.controller.stores.fleet.rows.values():
        fleet, one = commands.fleet, [row.id]
        name, title = _plain(row.name), _plain(row.title)
        yield f"chat {name}", title, partial(commands.navigator.open_chat, row.id)
        if row.pid:
            yield f"stop {name}", "asks first", partial(fleet.stop, one)
            yield f"kill {name}", "asks first", partial(fleet.kill, one)
            yield f"restart {name}", "asks first", partial(fleet.restart, one)
        else:
            yield f"start {name}", "shows the plan first", partial(fleet.launch, one)
        yield f"log {name}", "what its process wrote", partial(commands.navigator.open_logs, row.id)
    for entry in entries_here(app.screen):
        key = f"key {entry.key} · " if entry.key else ""
        yield entry.label, f"{key}{entry.why_not or entry.verb.help}", runner(app, entry)
    yield "kill all", "stop every specialist that runs; asks first", commands.fleet.stop_all
    yield "start the starter team", "those named in fleet.starter", lambda: commands.fleet.launch(["starter"])
    for theme in commands.console.themes:
        yield (
            f"theme {theme}",
            "colours of the console",
            partial(commands.console.set_preference, "theme", theme),
        )


def runner(app: App[Any], entry: Entry) -> Callable[[], object]:
    """Return a function that carries an entry out, or says why it has no use now.

    What was to act on the cursor does nothing when another row came under it while the choice was on the screen.
    """
    meant = _under_cursor(entry.node)

    async def run() -> None:
        if entry.why_not:
            app.notify(entry.why_not, markup=False)
        elif entry.verb.name in OF_CURSOR and _under_cursor(entry.node) != meant:
            app.notify("another row came under the cursor meanwhile: nothing was done", markup=False)
        else:
            await app.run_action(entry.action, default_namespace=entry.node)

    return run


def _under_cursor(node: DOMNode) -> object:
    """Return whom a verb at a place means now; `None` where it means nobody in particular."""
    targets = getattr(node, "targets", None)
    return targets() if callable(targets) else None
