"""Every action the console knows, for the palette and the help: taken from the bindings, so that none is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import Screen

if TYPE_CHECKING:
    from tekton_tui.app import TektonApp


def bindings_of(node: DOMNode) -> list[Binding]:
    """Return a widget's own bindings with the operator's keys, in the order they are declared, each action once."""
    seen: dict[str, Binding] = {}
    bindings = node._bindings.copy()  # pyright: ignore[reportPrivateUsage]
    order = [binding.action for _, binding in bindings]
    bindings.apply_keymap(node.app._keymap)  # pyright: ignore[reportPrivateUsage]
    for keys in bindings.key_to_bindings.values():
        for binding in keys:
            if binding.description and "scroll" not in binding.action and "page_" not in binding.action:
                seen.setdefault(binding.action, binding)
    return sorted(seen.values(), key=lambda binding: order.index(binding.action))


def nodes_here(screen: Screen[Any]) -> list[DOMNode]:
    """Return what has keys on a screen: the focus and what it lies in, what else is shown beside it, then the app."""
    focused = screen.focused
    nodes: list[DOMNode] = list(focused.ancestors_with_self) if focused else [screen]
    nodes = [node for node in nodes if node is not screen and node is not screen.app]
    beside = [node for node in _panes_of(screen, nodes) if node not in nodes]
    ours = [node for node in (*nodes, *beside) if type(node).__module__.startswith("tekton_tui")]
    kinds: dict[type, DOMNode] = {}
    for node in ours:
        kinds.setdefault(type(node), node)
    return [*kinds.values(), screen.app]


def _panes_of(screen: Screen[Any], nodes: list[DOMNode]) -> Iterator[DOMNode]:
    """Yield the pane that is shown and all in it that is displayed."""
    for pane in screen.query("#panes > *"):
        if pane.display:
            yield pane
            yield from (child for child in pane.walk_children() if _shown(child))


def _shown(node: DOMNode) -> bool:
    return all(bool(each.display) for each in node.ancestors_with_self)


def system_commands(app: TektonApp) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """Yield title, help and function of every action reachable from here: this place's first, then the app's."""
    given: set[str] = set()
    for node in nodes_here(app.screen):
        for binding in bindings_of(node):
            title = binding.description
            if title in given or "app." in binding.action:
                continue
            given.add(title)
            key = binding.key_display or binding.key.partition(",")[0]
            yield title, f"key {key}", _runner(app, node, binding.action)
    yield "Kill all", "stop every specialist that runs", app.commands.kill_all
    yield (
        "Launch starter team",
        "the specialists named in fleet.starter",
        lambda: app.commands.launch(["starter"]),
    )
    for theme in sorted(app.available_themes):
        yield f"Theme: {theme}", "colours of the console", _theme(app, theme)


def _runner(app: TektonApp, node: DOMNode, action: str) -> Callable[[], object]:
    async def run() -> None:
        await app.run_action(action, default_namespace=node)

    return run


def _theme(app: TektonApp, theme: str) -> Callable[[], object]:
    def choose() -> None:
        app.choose("theme", theme)

    return choose
