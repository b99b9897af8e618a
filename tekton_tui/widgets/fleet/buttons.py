"""The buttons on the grid's border. The keys do the same; these are for the mouse."""

from __future__ import annotations

from typing import Final

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Button

BUTTONS: Final = {"launch": "Launch", "launch-all": "Launch all", "kill": "Kill", "kill-all": "Kill all"}
"""Names of the buttons, with their labels."""
NEED_LIVE: Final = ("kill", "kill-all")
BUTTONS_WIDTH: Final = 60
"""With fewer columns there are no buttons: an `all` that does not say what it does to all ends the wrong ones."""

MENU: tuple[tuple[str, str, str], ...] = (
    ("chat", "Chat", "opens its conversation"), ("mark", "Mark", "for the next verb"),
    ("launch", "Launch", "shows the plan"), ("stop", "Stop", "lets it finish what it can"), ("kill", "Kill", "at once; asks"),
    ("restart", "Restart", "stops and starts it"), ("logs", "Log", "what its process wrote"), ("model", "Model", "chooses another"),
    ("describe", "Describe", "role, persona, all facts"), ("pipe", "Pipe", "begins a chain with it"),
    ("copy", "Copy name", ""), ("yank", "Copy as JSON", "with all facts"),
)  # fmt: skip
"""What can be done with a row: the pane's action, its name, and what it does."""
WHILE_STOPPED = {"launch", "mark", "logs", "model", "describe", "copy", "yank"}
"""Of these, what has a use while it does not run."""


class FleetButtons(Horizontal):
    """Launch, Launch all, Kill, Kill all."""

    class Pressed(Message):
        """Posted when a button was clicked; `name` is what it does, as in the name of the action."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def compose(self) -> ComposeResult:
        for name, label in BUTTONS.items():
            button = Button(label, id=f"button-{name}", compact=True)
            button.can_focus = False  # the keys do the same; tab goes from pane to pane
            yield button

    def enable(self, live: bool) -> None:
        """Have those that end somebody in force only while somebody lives."""
        for name in NEED_LIVE:
            self.query_one(f"#button-{name}", Button).disabled = not live

    def place(self, width: int, row: int, end: int) -> None:
        """Stand on a row, up to `end` cells from the right of `width`, or nowhere without the room."""
        self.display = width >= BUTTONS_WIDTH
        cells = 1 + sum(len(label) + 3 for label in BUTTONS.values())
        # on the grid's border, where no layout would put it
        self.styles.offset = (max(0, width - cells - end), row)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.post_message(self.Pressed((event.button.id or "").removeprefix("button-").replace("-", "_")))
