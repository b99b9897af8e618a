"""The line of keys at the bottom: those of the focus first, as many as fit whole; `?` always stands at its end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, Protocol, runtime_checkable

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.dom import DOMNode
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

ALWAYS: Final = ("open_help", "app.open_help")
"""The action that is never left out: it shows all the others."""
LAST: Final = ("app.command_palette", "command_palette")
"""Shown when there is room left."""


@runtime_checkable
class NamesKeys(Protocol):
    """A widget whose keys do different things at different times, and that says so."""

    def key_words(self) -> dict[str, str]:
        """Return what actions do now, where it differs from what their bindings say."""
        ...


class KeyLine(Footer):
    """A footer that leaves out what does not fit, from the end; a key that has no use now is dim."""

    def compose(self) -> ComposeResult:
        if not self._bindings_ready:
            return
        entries = sorted(self._entries(), key=lambda entry: entry[0].action in LAST)
        last = [entry for entry in entries if entry[0].action in ALWAYS]
        first = [entry for entry in entries if entry[0].action not in ALWAYS]
        room = self.size.width - sum(self._cells(binding) for binding, _, _ in last)
        shown: list[tuple[Binding, bool, str]] = []
        for entry in first:
            room -= self._cells(entry[0])
            if room < 0:
                break
            shown.append(entry)
        shown += last
        self.styles.grid_size_columns = max(1, len(shown))
        for binding, enabled, tooltip in shown:
            yield FooterKey(
                binding.key,
                self.app.get_key_display(binding),
                binding.description,
                binding.action,
                disabled=not enabled,
                tooltip=tooltip or binding.tooltip,
            ).data_bind(compact=Footer.compact)

    def on_resize(self, event: events.Resize) -> None:
        self.call_after_refresh(self.recompose)

    def _entries(self) -> Iterator[tuple[Binding, bool, str]]:
        """Yield the bindings to show, nearest to the focus first, each action once, in the order they are declared."""
        nodes: dict[DOMNode, list[str]] = {}
        found: dict[str, tuple[int, int, Binding, bool, str]] = {}
        words: dict[DOMNode, dict[str, str]] = {}
        for node, binding, enabled, tooltip in self.screen.active_bindings.values():
            if node not in nodes:
                words[node] = node.key_words() if isinstance(node, NamesKeys) else {}
                nodes[node] = [declared.action for _, declared in node._bindings]  # pyright: ignore[reportPrivateUsage]
            actions = nodes[node]
            if (binding.show or binding.action in LAST) and binding.action in actions:
                place = (list(nodes).index(node), actions.index(binding.action))
                said = replace(binding, description=words[node].get(binding.action, binding.description))
                found.setdefault(binding.action, (*place, said, enabled, tooltip))
        for _, _, binding, enabled, tooltip in sorted(found.values(), key=lambda entry: entry[:2]):
            yield binding, enabled, tooltip

    def _cells(self, binding: Binding) -> int:
        """Return the cells a key takes in the compact line, with the space after it."""
        return cell_len(self.app.get_key_display(binding)) + cell_len(binding.description) + 2
