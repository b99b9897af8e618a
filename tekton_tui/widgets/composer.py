"""Where the operator writes: a field that grows, completes and remembers; knows no specialists, only names given.

The owner listens to `Submitted`, `Cancelled` and `Changed`, gives `names` and `verbs`, and keeps `draft` and
`history` wherever it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList, Static, TextArea
from textual.widgets.option_list import Option

from tekton_tui.safe_text import literal, one_line
from tekton_tui.widgets.composer_editor import Editor
from tekton_tui.widgets.composer_text import Choice, Query, Reading, matching, place_in

POPUP_ROWS: Final = 8
POPUP_CELLS: Final = 44
HINT_CELLS: Final = 26

__all__ = ["Choice", "Composer", "teaching_placeholder"]


class _Popup(OptionList, can_focus=False):
    """The list of completions above the field; never takes the focus."""


class Composer(Vertical):
    """A multi-line field with completion, history and folded pastes.

    Args:
        placeholder: Shown while it is empty; `teaching_placeholder` makes one that teaches `@ / |`.
    """

    DEFAULT_CSS = """
    Composer {
        height: auto;
        border: round $panel;
        border-title-color: $text-muted;
        border-subtitle-color: $text-muted;
        padding: 0 1;
        background: $background;
        &:focus-within { border: round $primary; border-title-color: $text-primary; border-title-style: bold; }
        & > _Popup {
            display: none;
            overlay: screen;
            constrain: inside;
            width: auto;
            min-width: 24;
            max-width: 60;
            height: auto;
            max-height: 10;
            border: round $primary;
            background: $surface;
            padding: 0;
            scrollbar-size-vertical: 1;
        }
        & > _Popup.-open { display: block; }
        & > .composer-reading { display: none; height: 1; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis; }
        & > .composer-reading.-bad { color: $text-error; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = []

    class _About(Message):
        def __init__(self, composer: Composer) -> None:
            super().__init__()
            self.composer = composer

        @property
        def control(self) -> Composer:
            """The composer it came from."""
            return self.composer

    class Submitted(_About):
        """Posted when the text was sent; the field is empty again."""

        def __init__(self, composer: Composer, text: str) -> None:
            super().__init__(composer)
            self.text = text
            """The whole text, folded pastes in full."""

    class Cancelled(_About):
        """Posted on escape when there was no popup to close."""

    class Changed(_About):
        """Posted when the text has changed."""

    def __init__(
        self,
        placeholder: Content | str = "",
        *,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self.names: Sequence[Choice] = ()
        """What `@` completes."""
        self.verbs: Sequence[Choice] = ()
        """What `/` completes at the start."""
        self.read: Callable[[str], Reading | None] = _no_reading
        """Says how a text will be understood; asked after each change."""
        self._editor = Editor(placeholder)
        self._reading = Static("", classes="composer-reading")
        self._popup = _Popup()
        self._choices: list[Choice] = []
        self._query: Query | None = None

    def compose(self) -> ComposeResult:
        """Make the popup and the field."""
        yield self._popup
        yield self._editor
        yield self._reading

    # What the owner uses

    @property
    def draft(self) -> str:
        """The text as it would be sent."""
        return self._editor.expanded

    @draft.setter
    def draft(self, text: str) -> None:
        self._editor.put(text)

    @property
    def history(self) -> list[str]:
        """Texts sent before, oldest first."""
        return list(self._editor.sent)

    @history.setter
    def history(self, texts: Sequence[str]) -> None:
        self._editor.sent = list(texts)

    @property
    def placeholder(self) -> Content | str:
        """What is shown while the field is empty."""
        return self._editor.placeholder

    @placeholder.setter
    def placeholder(self, placeholder: Content | str) -> None:
        self._editor.placeholder = placeholder

    @property
    def empty(self) -> bool:
        """Whether there is nothing to send."""
        return not self._editor.text.strip()

    @property
    def choosing(self) -> bool:
        """Whether the popup is open."""
        return self._editor.choosing

    def focus_field(self) -> None:
        """Put the keyboard into the field."""
        self._editor.focus()

    def insert(self, text: str) -> None:
        """Insert text at the cursor, long text as a chip."""
        self._editor.replace(self._editor.pastes.fold(text), *self._editor.selection)

    # What the field says

    @on(Editor.Sent)
    def _send(self, event: Editor.Sent) -> None:
        event.stop()
        text = self.draft
        if not text.strip():
            return
        self._editor.remember(text)
        self._editor.put("")
        self._editor.pastes.texts.clear()
        self.post_message(self.Submitted(self, text))

    @on(Editor.Cancelled)
    def _cancel(self, event: Editor.Cancelled) -> None:
        event.stop()
        if self.choosing:
            self._close()
        else:
            self.post_message(self.Cancelled(self))

    @on(TextArea.Changed)
    def _change(self, event: TextArea.Changed) -> None:
        event.stop()
        self._editor.look()
        self._tell_reading()
        self.post_message(self.Changed(self))

    def _tell_reading(self) -> None:
        """Say below the field how the text will be understood, and mark a mistake in it."""
        text = self._editor.text
        reading = self.read(text) if text.strip() and text == self.draft else None
        bad = reading is not None and reading.position is not None
        self._reading.display = reading is not None
        self._reading.set_class(bad, "-bad")
        if reading is not None:
            self._reading.update(literal(f"✖ {reading.words}" if bad else reading.words))
        mistake = None if reading is None or reading.position is None else place_in(text, reading.position)
        self._editor.mark_mistake(mistake)

    @on(Editor.Asked)
    def _complete(self, event: Editor.Asked) -> None:
        event.stop()
        self._query = event.query
        self._choices = self._fitting(event.query)
        if not self._choices:
            self._close()
            return
        self._popup.clear_options()
        self._popup.add_options([Option(_prompt(choice, event.query)) for choice in self._choices])
        self._popup.highlighted = 0
        rows = min(POPUP_ROWS, len(self._choices)) + 3  # its border, and the title of the field below
        self._popup.styles.offset = (self._editor.cursor_screen_offset.x - self.content_region.x, -rows)
        self._popup.add_class("-open")
        self._editor.choosing = True

    @on(Editor.Chose)
    def _choose(self, event: Editor.Chose) -> None:
        event.stop()
        if not self._choices:
            return
        here = self._popup.highlighted or 0
        if event.step:
            self._popup.highlighted = (here + event.step) % len(self._choices)
        else:
            self._take(here)

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._take(event.option_index)

    def _take(self, index: int) -> None:
        choice = self._choices[index]
        self._close()
        self._editor.take(choice.value)

    def _fitting(self, query: Query | None) -> list[Choice]:
        if query is None:
            return []
        found = matching(self.names if query.kind == "name" else self.verbs, query.typed)
        # What is complete needs no completion.
        return [] if len(found) == 1 and found[0].value == query.typed else found

    def _close(self) -> None:
        self._choices = []
        self._popup.remove_class("-open")
        self._editor.choosing = False


def teaching_placeholder(lead: str) -> Content:
    """Return a placeholder that says what can be written: "Ask apollo…   @ address  / command  | pipe"."""
    caps = Content.assemble(("@", "$text-primary"), " address  ", ("/", "$text-primary"), " command  ")
    return Content.assemble(one_line(lead), "   ", caps, ("|", "$text-primary"), " pipe")


def _no_reading(text: str) -> Reading | None:
    return None


def _prompt(choice: Choice, query: Query | None) -> Content:
    sign = "/" if query is not None and query.kind == "verb" else "@"
    hint = one_line(choice.hint, HINT_CELLS)
    value = one_line(choice.value, POPUP_CELLS - HINT_CELLS)
    return Content.assemble((sign, "$text-primary"), value.ljust(16), ("  " + hint, "$foreground 60%"))
