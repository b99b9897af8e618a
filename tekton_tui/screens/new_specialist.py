"""The form for a specialist of one's own: its fields, what is wrong with them, and its prompt as a model will see it.

What it would be is the backend's word, asked while one writes. Knows no files: the gateway writes it where it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final, NamedTuple

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Button, Input, Label, Static, TextArea

from backend.schema.errors import TektonError
from backend.schema.params import CreateSpecialist, PreviewSpecialist
from backend.schema.results import SpecialistCreated, SpecialistDraft
from tekton_tui.runtime.controller import Controller
from tekton_tui.runtime.frame_scheduler import app_of
from tekton_tui.runtime.layout_once import Modal
from tekton_tui.safe_text import literal, one_line
from tekton_tui.screens.dialogs import confirm
from tekton_tui.verbs import bindings
from tekton_tui.widgets.common.field import Field
from tekton_tui.widgets.common.text_field import TextField

BESIDE: Final = 100
"""Columns from which the preview stands at the right of the form; with fewer it stands below."""
NARROW: Final = 60
"""Columns below which the line of keys names only those that end the form."""
LOW: Final = 30
"""Rows below which the form takes all of them."""
QUIET_S: Final = 0.15
"""How long nothing is typed before the backend is asked."""
MAX_SHOWN_CHARS: Final = 20_000
"""Of a prompt, what is shown; it is sent in full."""


class _Line(NamedTuple):
    """A field of one line: its name in the action, its title, and what is said while it is empty."""

    name: str
    title: str
    hint: str


LINES: Final = (
    _Line("name", "Name", "critic: small letters, digits, -"),
    _Line("title", "Title", "Code critic; empty: made of the name"),
    _Line("capabilities", "Good at", "code review, tests"),
)
LAST_LINES: Final = (
    _Line("provider", "Provider", "empty: the fleet's"),
    _Line("model", "Model", "empty: the fleet's"),
)
PERSONA_HINT: Final = "You are the critic. You read a change and name what can break, the worst first."


class NewSpecialistScreen(Modal[SpecialistCreated | None]):
    """Dismissed with what was created, or with nothing. `ctrl+s` creates; `esc` asks if anything would be lost."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("new")
    DEFAULT_CSS = """
    NewSpecialistScreen { align: center middle; }
    #new-box { width: 96%; max-width: 150; height: 94%; background: $surface; border: round $primary; padding: 0 1; }
    #new-box { border-title-color: $text-primary; }
    #new-sides { height: 1fr; scrollbar-size-vertical: 1; }
    #new-form { height: auto; }
    .new-row { height: 1; }
    .new-row Label { width: 10; color: $text-muted; }
    .new-row Field { width: 1fr; height: 1; border: none; background: $panel; }
    .new-problem { display: none; height: auto; padding-left: 10; color: $text-error; }
    #new-persona-title { height: 1; color: $text-muted; }
    #new-persona { height: 5; background: $panel; padding: 0; }
    #new-preview { height: 1fr; min-height: 6; border-top: solid $scrollbar-hover; scrollbar-size-vertical: 1; }
    #new-preview:focus { border-top: solid $primary; background-tint: transparent; }
    #new-prompt { height: auto; }
    #new-note { display: none; height: auto; max-height: 3; color: $text-error; }
    #new-buttons { height: 1; align-horizontal: right; }
    #new-buttons Button { width: auto; padding: 0 2; }
    #new-box.-low { height: 100%; }
    #new-sides.-beside { layout: horizontal; overflow: hidden; }
    .-beside #new-form { width: 1fr; height: 1fr; }
    .-beside #new-persona { height: 1fr; min-height: 6; }
    .-beside #new-preview { width: 1fr; border-top: none; border-left: solid $scrollbar-hover; padding: 0 1; margin-left: 1; }
    .-beside #new-preview:focus { border-top: none; border-left: solid $primary; }
    """

    def __init__(self, controller: Controller, name: str = "") -> None:
        super().__init__()
        self._controller, self._first_name = controller, name
        self._changed: set[str] = set()
        """Fields that were written in: what is missing elsewhere is not said before its time."""
        self._timer: Timer | None = None
        self._looking = self._look_again = self._creating = False

    def compose(self) -> ComposeResult:
        with Vertical(id="new-box") as box:
            box.border_title = "New specialist"
            with VerticalScroll(id="new-sides", can_focus=False):
                with Vertical(id="new-form"):
                    yield from self._lines(LINES)
                    yield Static(literal("Persona: its system prompt"), id="new-persona-title")
                    yield TextField(PERSONA_HINT, id="new-persona")
                    yield Static(id="new-persona-problem", classes="new-problem")
                    yield from self._lines(LAST_LINES)
                with VerticalScroll(id="new-preview"):
                    yield Static(id="new-prompt")
            yield Static(id="new-note")
            with Horizontal(id="new-buttons"):
                yield Button("Create", id="new-create", variant="primary", compact=True)
                yield Button("Close", id="new-close", compact=True)

    def _lines(self, lines: tuple[_Line, ...]) -> Iterator[Any]:
        for line in lines:
            value = self._first_name if line.name == "name" else ""
            yield Horizontal(
                Label(line.title),
                Field(value, placeholder=line.hint, id=f"new-{line.name}", compact=True),
                classes="new-row",
            )
            yield Static(id=f"new-{line.name}-problem", classes="new-problem")

    def on_mount(self) -> None:
        self.query_one("#new-name").focus()
        self._ask()

    def on_resize(self, event: events.Resize) -> None:
        self.query_one("#new-sides").set_class(event.size.width >= BESIDE, "-beside")
        box = self.query_one("#new-box")
        box.set_class(event.size.height < LOW, "-low")
        tab = "tab next field · " if event.size.width >= NARROW else ""
        box.border_subtitle = f"{tab}ctrl+s creates · esc closes"

    # what is written

    def _text(self, name: str) -> str:
        return self.query_one(f"#new-{name}", Input).value

    def _fields(self) -> dict[str, Any]:
        """Return the fields as the actions take them."""
        return {
            **{line.name: self._text(line.name) for line in (*LINES, *LAST_LINES)},
            "capabilities": [
                word for each in self._text("capabilities").split(",") if (word := each.strip())
            ],
            "persona": self.query_one(TextField).text,
        }

    @property
    def _is_written(self) -> bool:
        fields = self._fields()
        return fields.pop("name").strip() not in ("", self._first_name) or any(fields.values())

    @on(Input.Changed)
    @on(TextArea.Changed)
    def _write(self, event: Input.Changed | TextArea.Changed) -> None:
        name = (event.control.id or "").removeprefix("new-")
        if name in self._changed or self._fields().get(name):
            self._changed.add(name)
        self._say("")
        if self._timer is not None:
            self._timer.stop()
        # every key begins the pause anew: asked for each letter the backend would answer for words half written
        self._timer = self.set_timer(QUIET_S, self._ask)

    # what it would be

    def _ask(self) -> None:
        """Ask what it would be now; one question at a time, and the newest text has the last word."""
        if self._looking:
            self._look_again = True
            return
        self._looking = True
        self._controller.spawn(self._look())

    async def _look(self) -> None:
        try:
            draft = await self._controller.call(PreviewSpecialist(**self._fields()))
        except TektonError as error:
            if self.is_attached:
                self._say(error.message)
        else:
            if self.is_attached:
                self._show(draft)
        self._looking, again = False, self._look_again
        self._look_again = False
        if again and self.is_attached:
            self._ask()

    def _show(self, draft: SpecialistDraft) -> None:
        problems = {problem.field: problem.message for problem in draft.problems}
        for name in self._fields():
            label = self.query_one(f"#new-{name}-problem", Static)
            words = problems.get(name, "") if name in self._changed else ""
            label.display = bool(words)
            label.update(literal(one_line(words)))
            if words and self.focused is self.query_one(f"#new-{name}"):
                label.call_after_refresh(label.scroll_visible, animate=False)
        self.query_one("#new-prompt", Static).update(_preview(draft))

    def _say(self, words: str) -> None:
        note = self.query_one("#new-note", Static)
        note.display = bool(words)
        note.update(literal(one_line(words)))

    # verbs

    @on(Button.Pressed, "#new-create")
    def action_create(self) -> None:
        """Have it written; what is wrong is said beside its field, and nothing is lost."""
        if not self._creating:
            self._creating = True
            self._controller.spawn(self._create())

    async def _create(self) -> None:
        fields = self._fields()
        try:
            made = await self._controller.call(CreateSpecialist(**fields))
        except TektonError as error:
            self._creating = False
            if self.is_attached:
                self._refused(error.message)
        else:
            if self.is_attached:
                self.dismiss(made)

    def _refused(self, words: str) -> None:
        """Say all that is wrong, and go to the first of it."""
        self._changed.update(self._fields())
        self._say(words)
        field = words.partition(":")[0]
        if field in self._fields():
            self.query_one(f"#new-{field}").focus()
        self._ask()

    @on(Input.Submitted)
    def _next(self) -> None:
        self.focus_next()

    @on(Button.Pressed, "#new-close")
    def action_close(self) -> None:
        """Leave; ask first if what was written would be lost."""
        if not self._is_written:
            self.dismiss(None)
            return
        name = one_line(self._text("name") or "a specialist without a name", 60)
        lost = f"{name}: {len(self.query_one(TextField).text):,} characters of persona"

        def answered(answer: str | None) -> None:
            if answer == "yes":
                self.dismiss(None)

        question = "What you wrote is kept nowhere and would be lost:"
        app_of(self).push_screen(confirm("Close the form", question, [lost], "Throw it away"), answered)


def _preview(draft: SpecialistDraft) -> Content:
    """Return the prompt as a model sees it, and the head of the file it would stand in."""
    prompt = draft.prompt
    count = f"{len(prompt.split()):,} words" if prompt else "what you write as its persona stands here"
    lines = [
        Content.assemble(
            literal("The model will see  ", "bold $text-primary"), literal(count, "$text-muted")
        ),
        literal(prompt[:MAX_SHOWN_CHARS]),
    ]
    if (rest := len(prompt) - MAX_SHOWN_CHARS) > 0:
        lines.append(literal(f"… {rest:,} more characters", "$text-muted"))
    if draft.where:
        head = draft.text.split("\n---\n")[0].removeprefix("---\n")
        lines += [
            Content(""),
            Content.assemble(
                literal("Its file  ", "bold $text-primary"), literal(one_line(draft.where), "$text-muted")
            ),
            literal(head, "$text-muted"),
        ]
    return Content("\n").join(lines)
