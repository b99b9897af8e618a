"""The keys of this screen, made from its bindings: what is not here does not exist."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from tekton_tui.palette import bindings_of, nodes_here
from tekton_tui.safe_text import literal
from tekton_tui.verbs import VERBS
from tekton_tui.widgets.navigation import SCREENS, TITLES

KEY_CELLS = 14
MOVING = frozenset({"up", "down", "left", "right", "home", "end", "pageup", "pagedown"})
_KEYS = {
    "vertical_line": "|", "slash": "/", "colon": ":", "question_mark": "?", "equals_sign": "=",
    "greater_than_sign": ">", "space": "space",
}  # fmt: skip


class HelpScreen(ModalScreen[None]):
    """`esc` closes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "dismiss", "Close", id="help.close")
    ]

    def __init__(self, behind: Screen[Any]) -> None:
        super().__init__()
        self._behind = behind

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help") as box:
            box.border_title = "Keys"
            box.border_subtitle = "esc closes"
            yield Static(self._content())

    def _content(self) -> Content:
        lines: list[Content] = []
        for title, node in self._places():
            entries = bindings_of(node)
            if entries:
                lines += [
                    Content.styled(title, "bold $text-primary"),
                    *(_line(binding) for binding in entries),
                    Content(""),
                ]
        screens = "  ".join(f"{number} {TITLES[name]}" for number, name in enumerate(SCREENS, 1))
        lines += [Content.styled("Screens", "bold $text-primary"), literal(screens), Content("")]
        lines.append(Content.styled("In a composer", "bold $text-primary"))
        lines += [
            _row("enter", "send"), _row("ctrl+j", "new line"), _row("@name text", "ask somebody else; @auto whoever suits"),
            _row("a | b", "run a pipeline"), *(_row(f"/{verb.name}", verb.help) for verb in VERBS),
        ]  # fmt: skip
        return Content("\n").join(lines)

    def _places(self) -> list[tuple[str, DOMNode]]:
        """Return where keys act: what has verbs, nearest the focus first, what only moves, then everywhere."""
        nodes = [node for node in nodes_here(self._behind)[:-1] if bindings_of(node)]
        return [(_title(node), node) for node in sorted(nodes, key=_only_moves)] + [("Everywhere", self.app)]


def _only_moves(node: DOMNode) -> bool:
    """Tell whether a place has no verbs of its own, only the keys everybody tries first."""
    return all(binding.key.partition(",")[0] in MOVING for binding in bindings_of(node))


def key_name(binding: Binding) -> str:
    """Return a binding's first key as a person would say it."""
    first = binding.key.partition(",")[0]
    return binding.key_display or _KEYS.get(first, first)


def _line(binding: Binding) -> Content:
    return _row(key_name(binding), binding.description)


def _row(key: str, words: str) -> Content:
    return Content.assemble(literal(f"  {key:<{KEY_CELLS}}", "$text-accent"), literal(words))


def _title(node: DOMNode) -> str:
    names = {
        "FleetPane": "Fleet",
        "ChatView": "Conversation",
        "ChatPane": "Chat",
        "TeamPane": "Team Chat",
        "Race": "Race",
        "LineView": "Lines",
        "FleetGrid": "Grid",
        "LaneBoard": "Lanes",
    }
    name = type(node).__name__
    return names.get(name, name.removesuffix("Pane"))
