"""The composer: a field that grows, completes and keeps a history; knows no specialists, only the names it is given.

The owner listens to `Submitted`, `Cancelled` and `Changed`, gives `names` and `verbs`, and keeps `draft` and
`history` wherever it likes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList, Static, TextArea
from textual.widgets.option_list import Option

from tekton_tui.formatting import number, size
from tekton_tui.safe_text import literal, one_line
from tekton_tui.widgets.common.text_field import pasted
from tekton_tui.widgets.composer.editor import Editor
from tekton_tui.widgets.composer.files import Attached, files_named, path_choices, path_of
from tekton_tui.widgets.composer.text import Choice, Preview, Query, matching, place_in

POPUP_ROWS: Final = 8
POPUP_CELLS: Final = 44
HINT_CELLS: Final = 26
NAME_CELLS: Final = 28
DRAFT_KEPT: Final = "what was written here before is kept: ↑ in the empty field brings it"
"""Of a file's name at most."""

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
        & > .composer-files { display: none; height: auto; max-height: 3; }
        & > .composer-preview { display: none; height: 1; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis; }
        & > .composer-preview.-bad { color: $text-error; }
    }
    """
    UNSEEN_S: ClassVar[float] = 0.5
    """How long a text that was put here stands before `enter` sends it."""

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

        def __init__(self, composer: Composer, text: str, files: Sequence[Attached]) -> None:
            super().__init__(composer)
            self.text = text
            """The whole text, folded pastes in full."""
            self.files = list(files)
            """What goes along."""

    class SentNothing(_About):
        """Posted on enter in an empty field."""

    class Cancelled(_About):
        """Posted on escape when there was no popup to close."""

    class Changed(_About):
        """Posted when the text has changed."""

    def __init__(self, placeholder: Content | str = "", *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.names: Sequence[Choice] = ()
        """What `@` completes."""
        self.verbs: Sequence[Choice] = ()
        """What `/` completes at the start."""
        self.preview: Callable[[str], Preview | None] = _no_preview
        """Returns how a text will be understood; called after each change."""
        self.room: Callable[[], int] = int
        """Returns how many tokens the model has left for the question, 0 when that is unknown."""
        self._offered, self._seen_at = "", 0.0
        """A text that was put here and not written, and from when on it can be sent."""
        self._files: list[Attached] = []
        self._hand_on: Callable[[list[Path]], None] | None = None
        self._file_row = Static("", classes="composer-files")
        self._editor = Editor(placeholder)
        self._preview = Static("", classes="composer-preview")
        self._popup = _Popup()
        self._choices: list[Choice] = []
        self._query: Query | None = None

    def compose(self) -> ComposeResult:
        """Make the popup and the field."""
        yield self._popup
        yield self._file_row
        yield self._editor
        yield self._preview

    # What the owner uses

    def name_escape(self, word: str) -> None:
        """Say in the line of keys what `esc` does now; "" where it leaves the field."""
        self._editor.escape_word = word
        self.refresh_bindings()

    @property
    def draft(self) -> str:
        """The text as it would be sent."""
        return self._editor.expanded

    @draft.setter
    def draft(self, text: str) -> None:
        self._editor.put(text)

    def take_draft(self, text: str) -> bool:
        """Put in what was written before; what is being written by now stays, and `up` in the empty field brings the other.

        Returns whether it was put in.
        """
        if self.empty:
            self.draft = text
        elif text != self.draft:
            editor, before = self._editor, self._editor.take_back

            def take_back() -> str:
                editor.take_back = before
                return text

            editor.take_back = take_back
            return False
        return True

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

    def use_keys(self, *, tab: Callable[[], bool], up: Callable[[], str]) -> None:
        """Have `tab` show what waits for the operator's word, if anything does (it returns that), and `up` in an empty field
        take the text into it that it returns, before the history is asked."""
        self._editor.answers, self._editor.take_back = tab, up

    @property
    def empty(self) -> bool:
        """Whether there is nothing to send."""
        return not self._editor.text.strip() and not self._files

    @property
    def files(self) -> Sequence[Attached]:
        """What goes along with the question."""
        return self._files

    def take_files(self, attach: Callable[[list[Path]], None]) -> None:
        """Complete paths behind `@`, and hand those that are chosen or pasted to `attach`, which reads them."""
        self._hand_on = attach
        self._editor.files_in = files_named

    def add_files(self, files: Sequence[Attached]) -> None:
        """Show files above the field; they go along with what is sent next. One of the same name takes the other's place."""
        names = {file.name for file in files}
        self._files = [*(file for file in self._files if file.name not in names), *files]
        self._show_files()

    def _show_files(self) -> None:
        self._file_row.display = bool(self._files)
        self._file_row.update(_file_words(self._files, self.room()))

    @on(Editor.FileDropped)
    def _drop_file(self, event: Editor.FileDropped) -> None:
        event.stop()
        del self._files[-1:]
        self._show_files()

    @on(Editor.Named)
    def _named(self, event: Editor.Named) -> None:
        event.stop()
        if self._hand_on is not None:
            self._hand_on(event.paths)

    @property
    def choosing(self) -> bool:
        """Whether the popup is open."""
        return self._editor.choosing

    def offer(self, text: str, *, own: bool) -> None:
        """Put in a text that nobody has seen yet: `enter` sends it once it could be read, and what is written replaces it.

        To a text of the operator's `own` it is added.
        """
        self.draft = text
        if not own:
            self._editor.select_all()
        # not to be sent before it is drawn: the offer may come between a key and the next
        self._offered, self._seen_at = text, math.inf
        self.call_after_refresh(self._offer_seen)

    def _offer_seen(self) -> None:
        self._seen_at = time.monotonic() + self.UNSEEN_S

    def focus_field(self) -> None:
        """Put the keyboard into the field."""
        self._editor.focus()

    def insert(self, text: str) -> None:
        """Insert text at the cursor, long text as a chip."""
        self._editor.replace(self._editor.pastes.fold(pasted(text)), *self._editor.selection)

    # What the field says

    @on(Editor.Sent)
    def _sent(self, event: Editor.Sent) -> None:
        event.stop()
        if self._offered != self.draft or time.monotonic() >= self._seen_at:
            self._offered = ""
            self.send()

    def ask_about_files(self, question: str) -> None:
        """Send a question with the files above the field; without words leave them there for one."""
        self.draft = question
        if question:
            self.send()

    def send(self) -> None:
        """Send what is written, with the files above the field."""
        text, files = self.draft, self._files
        if not text.strip() and not files:
            self.post_message(self.SentNothing(self))
            return
        self._editor.remember(text)
        self._editor.put("")
        self._editor.pastes.texts.clear()
        self._files = []
        self._show_files()
        self.post_message(self.Submitted(self, text, files))

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
        self._editor.request_completion()
        self._show_preview()
        self.post_message(self.Changed(self))

    def _show_preview(self) -> None:
        """Show below the field how the text will be understood, and mark a mistake in it."""
        text = self._editor.text
        # with a folded paste the positions of the preview would not be those in the field
        preview = self.preview(text) if text.strip() and text == self.draft else None
        bad = preview is not None and preview.position is not None
        self._preview.display = preview is not None
        self._preview.set_class(bad, "-bad")
        if preview is not None:
            self._preview.update(literal(f"✖ {preview.words}" if bad else preview.words))
        mistake = None if preview is None or preview.position is None else place_in(text, preview.position)
        self._editor.mark_mistake(mistake)

    @on(Editor.CompletionRequested)
    def _complete(self, event: Editor.CompletionRequested) -> None:
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

    @on(Editor.CompletionMoved)
    def _choose(self, event: Editor.CompletionMoved) -> None:
        event.stop()
        if not self._choices:
            return
        here = self._popup.highlighted or 0
        if event.step:
            self._popup.highlighted = (here + event.step) % len(self._choices)
        else:
            self._complete_with(here)

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._complete_with(event.option_index)

    def _complete_with(self, index: int) -> None:
        choice, query = self._choices[index], self._query
        self._close()
        if query is not None and query.kind == "path" and self._hand_on and not choice.value.endswith("/"):
            self._editor.drop_query()
            self._hand_on([path_of(choice.value)])
        else:
            self._editor.complete_with(choice.value)

    def _fitting(self, query: Query | None) -> list[Choice]:
        if query is None:
            return []
        if query.kind == "path":
            return path_choices(query.typed) if self._hand_on is not None else []
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


def _file_words(files: Sequence[Attached], room: int) -> Content:
    """Return the files as chips with size and guessed tokens, what they take together, and the key that drops the last."""
    parts: list[Content | str | tuple[str, str]] = []
    for file in files:
        tokens = "" if file.tokens is None else f" ≈{number(file.tokens)} tok"
        parts.append(literal(f" ▪ {one_line(file.name, NAME_CELLS)} {size(file.size)}{tokens} ", "on $panel"))
        parts.append(" ")
    together = sum(file.tokens or 0 for file in files)
    if room and together > room:
        parts.append((f" ≈{number(together)} tok, {number(room)} left ", "$text-error"))
    elif room and together:
        parts.append((f" of {number(room)} left ", "$text-muted"))
    return Content.assemble(*parts, ("⌫", "bold $text-primary"), (" drop", "$text-muted"))


def _no_preview(text: str) -> Preview | None:
    return None


def _prompt(choice: Choice, query: Query | None) -> Content:
    sign = {"verb": "/", "path": ""}.get(query.kind if query is not None else "", "@")
    hint = one_line(choice.hint, HINT_CELLS)
    value = one_line(choice.value, POPUP_CELLS - HINT_CELLS)
    return Content.assemble((sign, "$text-primary"), value.ljust(16), ("  " + hint, "$foreground 60%"))
