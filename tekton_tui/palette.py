"""Every action the console knows, for the palette and the help: taken from the bindings, so that none is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.dom import DOMNode

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


def system_commands(app: TektonApp) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """Yield title, help and function of every action reachable from here: this place's first, then the app's."""
    given: set[str] = set()
    nodes: list[DOMNode] = [*(app.focused.ancestors_with_self if app.focused else []), app]
    for node in nodes:
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
