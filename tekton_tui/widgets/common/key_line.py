"""The line of keys: those nearest the focus first, as many as fit whole; `? keys` always at the right end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, cast

from textual import events
from textual.app import RenderResult
from textual.binding import ActiveBinding, Binding
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widget import Widget

from tekton_tui.runtime.frame_scheduler import app_of
from tekton_tui.runtime.input_queue import is_field
from tekton_tui.safe_text import literal
from tekton_tui.verbs import NamesKeys, SaysWhyNot, key_sign, verb_of

ALWAYS: Final = "app.help"
"""Id of the binding that is never left out: it shows all the others."""
GAP: Final = 2


class Key(NamedTuple):
    """A key that is shown: how it is written, what it does, the key itself, whether it has a use now."""

    sign: str
    label: str
    key: str
    useful: bool

    @property
    def cells(self) -> int:
        return Content(f"{self.sign} {self.label}").cell_length


class KeyLine(Widget):
    """One row, redrawn when the focus or what its keys do has changed. A click does what the key does."""

    DEFAULT_CSS = "KeyLine { dock: bottom; height: 1; background: $footer-background; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.shown: list[Key] = []
        """What is shown, in order; `? keys` is the last."""
        self._spans: list[tuple[int, int, str]] = []

    def on_mount(self) -> None:
        # what has the focus decides which keys there are
        cast(Any, self.screen).bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, screen: Screen[Any]) -> None:
        self.refresh()

    def render(self) -> RenderResult:
        keys = list(self._keys())
        last = [key for key, binding in keys if binding.id == ALWAYS][:1]
        room = self.size.width - sum(key.cells + 2 for key in last)
        self.shown, self._spans = [], []
        parts: list[Content] = []
        at = 1
        for key, binding in keys:
            if binding.id == ALWAYS:
                continue
            if at + key.cells > room:
                break
            parts += [_drawn(key), Content(" " * GAP)]
            self.shown.append(key)
            self._spans.append((at, at + key.cells, key.key))
            at += key.cells + GAP
        for key in last:
            start = self.size.width - key.cells - 1
            parts += [Content(" " * (start - at)), _drawn(key)]
            self.shown.append(key)
            self._spans.append((start, start + key.cells, key.key))
        return Content.assemble(" ", *parts)

    def _keys(self) -> Iterator[tuple[Key, Binding]]:
        """Yield the bindings to show, nearest to the focus first, each verb once, in the order they are declared."""
        nodes: dict[DOMNode, list[str]] = {}
        found: dict[str, tuple[int, int, Key, Binding]] = {}
        for node, binding, enabled, _ in self._active():
            if node not in nodes:
                nodes[node] = [declared.action for _, declared in node._bindings]  # pyright: ignore[reportPrivateUsage]
            name = (binding.id or binding.action).rpartition(".")[2]
            if not binding.show or binding.action not in nodes[node] or name in found:
                continue
            words = node.key_words() if isinstance(node, NamesKeys) else {}
            verb = verb_of(binding.id)
            useful = enabled and not (verb and isinstance(node, SaysWhyNot) and node.why_not(verb.name))
            sign = binding.key_display or key_sign(binding.key)
            if binding.id == ALWAYS and is_field(self.screen.focused):
                sign = "F1"  # the question mark is text there
            key = Key(sign, words.get(binding.action, binding.description), binding.key, useful)
            place = (list(nodes).index(node), nodes[node].index(binding.action))
            found[name] = (*place, key, binding)
        for _, _, key, binding in sorted(found.values(), key=lambda entry: entry[:2]):
            yield key, binding

    def _active(self) -> list[ActiveBinding]:
        """Return the bindings in force. Lists of Textual's take Enter themselves: what it does there is the table's verb."""
        active = dict(self.screen.active_bindings)
        held = active.get("enter")
        if held is not None and not held.binding.id and not is_field(self.screen.focused):
            for node, bindings in self.screen._modal_binding_chain:  # pyright: ignore[reportPrivateUsage]
                for key, binding in bindings:
                    if key == "enter" and verb_of(binding.id) is not None:
                        return [*active.values(), ActiveBinding(node, binding, True, "")]
        return list(active.values())

    def on_click(self, event: events.Click) -> None:
        for start, end, key in self._spans:
            if start <= event.x < end:
                app_of(self).simulate_key(key)


def _drawn(key: Key) -> Content:
    if not key.useful:
        return literal(f"{key.sign} {key.label}", "$text-disabled")
    return Content.assemble(
        Content.styled(key.sign, "bold $footer-key-foreground"),
        literal(f" {key.label}", "$footer-description-foreground"),
    )
