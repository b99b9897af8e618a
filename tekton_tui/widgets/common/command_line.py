"""The line behind `:`: what may follow stands above it, the likeliest as ghost text in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import Input, Static

from tekton_tui.commands import Commands
from tekton_tui.commands.line import Candidate, Known, Line, NotUnderstood, candidates, read
from tekton_tui.commands.words import carry_out
from tekton_tui.safe_text import literal, one_line
from tekton_tui.verbs import bindings
from tekton_tui.widgets.common.field import Field

MAX_HISTORY: Final = 100
TEXT_CELLS: Final = 30


class CommandLine(Vertical):
    """Hidden until opened; `esc` closes it, and so does whatever else takes the focus.

    Args:
        known: Returns what a line may name now.
        act_here: Carries out a verb at the place behind the line; returns false where it does not hold.
    """

    DEFAULT_CSS = """
    CommandLine { dock: bottom; margin-bottom: 1; height: auto; background: $panel; }
    CommandLine #command-candidates { height: auto; padding: 0 2; text-wrap: nowrap; text-overflow: ellipsis; }
    CommandLine #command-row { height: 1; }
    CommandLine #command-sign, CommandLine #command-help { width: auto; }
    CommandLine #command-line { width: 1fr; height: 1; border: none; background: $panel; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings("command")

    def __init__(
        self,
        commands: Commands,
        known: Callable[[], Known],
        act_here: Callable[[Line], bool],
        *,
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self._commands, self._known, self._act_here = commands, known, act_here
        self._history: list[str] = []
        self._at = 0
        self._before: Widget | None = None
        self._opening = False
        """Whether the focus is on its way here."""
        self.display = False

    def compose(self) -> ComposeResult:
        yield Static("", id="command-candidates")
        with Horizontal(id="command-row"):
            yield Static(Content.styled(" :", "bold $text-accent"), id="command-sign")
            yield Field(
                placeholder="a verb and whom: kill apollo · or a place",
                compact=True,
                id="command-line",
                suggester=_Ghost(self._known),
            )
            yield Static(Content.styled("tab completes  ↑ earlier ", "$text-muted"), id="command-help")

    @property
    def field(self) -> Input:
        return self.query_one("#command-line", Input)

    def open(self) -> None:
        """Show the line and put the keyboard into it."""
        if not self.display:
            self._before = self.screen.focused
        self._at = len(self._history)
        self.display = self._opening = True
        self._show_candidates()
        self.field.focus()

    def action_close(self) -> None:
        self.field.value = ""
        self.display = False
        if self._before is not None and self._before.is_attached:
            self._before.focus()

    def on_descendant_focus(self) -> None:
        self._opening = False

    def on_descendant_blur(self, event: events.DescendantBlur) -> None:
        """Close when the focus went elsewhere: a line nobody writes in would only be in the way."""
        self.call_after_refresh(self._close_unfocused)

    def _close_unfocused(self) -> None:
        if (
            self.display
            and not self._opening
            and not self.has_focus_within
            and self.screen.focused is not None
        ):
            self._before = None
            self.action_close()

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self._show_candidates()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        text = event.value.strip()
        self.action_close()
        if text:
            self._history = [*(line for line in self._history if line != text), text][-MAX_HISTORY:]
            self._run(text)

    def _run(self, text: str) -> None:
        """Run a line; say what there is when it is not understood."""
        known = self._known()
        try:
            line = read(text, known)
        except NotUnderstood as refusal:
            self._commands.notify(str(refusal), failed=True)
            return
        bare = line.verb is not None and not line.ids and not line.text
        if (bare and self._act_here(line)) or carry_out(line, self._commands, known.here):
            return
        word = text.partition(" ")[0]
        missing = "name a specialist" if line.verb and line.verb.takes.startswith("who") else "not here"
        self._commands.notify(f"{word}: {missing}; ? says where it holds", failed=True)

    def _show_candidates(self) -> None:
        listing = self.query_one("#command-candidates", Static)
        text = self.field.value
        found = candidates(text.lstrip(), self._known()) if text.strip() else []
        listing.display = bool(found)
        if found:
            listing.update(Content("\n").join(map(_line, reversed(found))))

    def action_complete(self) -> None:
        """Complete to the best candidate; a word that takes something gets its space."""
        if found := candidates(self.field.value.lstrip(), self._known()):
            self.field.value = f"{found[0].text} " if " " not in found[0].text else found[0].text
            self.field.cursor_position = len(self.field.value)

    def action_history(self, step: int) -> None:
        """Show an earlier line, or a later one."""
        self._at = max(0, min(len(self._history), self._at + step))
        self.field.value = self._history[self._at] if self._at < len(self._history) else ""
        self.field.cursor_position = len(self.field.value)


class _Ghost(Suggester):
    """Offers the best candidate; `→` takes it."""

    def __init__(self, known: Callable[[], Known]) -> None:
        # no cache: who there is changes between two keys
        super().__init__(use_cache=False, case_sensitive=True)
        self._known = known

    async def get_suggestion(self, value: str) -> str | None:
        found = candidates(value, self._known())
        return found[0].text if found and found[0].text.startswith(value) else None


def _line(candidate: Candidate) -> Content:
    return Content.assemble(
        literal(one_line(candidate.text, TEXT_CELLS).ljust(TEXT_CELLS + 1), "bold"),
        literal(one_line(candidate.hint, 200), "$text-muted"),
    )
