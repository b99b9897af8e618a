"""Pipelines kept under a name: take one, keep the one at hand, rename, remove. The backend holds them for all consoles."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from backend.schema.params import ListSavedPipelines, RemovePipeline, SavePipeline
from backend.schema.records import SavedPipeline
from backend.schema.results import SavedPipelineList
from tekton_tui.runtime.controller import Controller
from tekton_tui.runtime.frame_scheduler import app_of
from tekton_tui.runtime.latest import Latest
from tekton_tui.safe_text import literal, one_line
from tekton_tui.screens.dialogs import Question, confirm
from tekton_tui.verbs import bindings
from tekton_tui.widgets.common.field import Field

NAME_CELLS, TEXT_CELLS = 18, 44


class SavedScreen(Question[str]):
    """Dismissed with a pipeline's text, or with nothing on `esc`. `keep` is a text to be given a name at once."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("saved")

    def __init__(self, controller: Controller, keep: str = "") -> None:
        super().__init__()
        self._controller, self._keep = controller, keep
        self._listing = Latest(controller)
        self._rows: list[tuple[str, str]] = []
        self._renaming = ""

    def compose(self) -> ComposeResult:
        with Vertical(id="saved-box") as box:
            box.border_title = "Saved pipelines"
            box.border_subtitle = "enter takes it · r renames · D removes · esc closes"
            yield Static("", id="saved-note")
            yield Field(id="saved-name", compact=True, max_length=40)
            yield OptionList(id="saved-list", markup=False)

    def on_mount(self) -> None:
        field = self.query_one("#saved-name", Input)
        field.display = bool(self._keep)
        if self._keep:
            field.placeholder = "a name for it, e.g. review"
            field.focus()
        self._load()

    @property
    def _current(self) -> tuple[str, str] | None:
        at = self.query_one("#saved-list", OptionList).highlighted
        return self._rows[at] if at is not None and at < len(self._rows) else None

    def _load(self) -> None:
        self._listing.request(ListSavedPipelines(), self._loaded)

    def _loaded(self, listed: SavedPipelineList) -> None:
        if not self.is_attached:
            return
        self._rows = [(saved.name, saved.pipeline) for saved in listed.saved]
        listing = self.query_one("#saved-list", OptionList)
        at = listing.highlighted or 0
        listing.clear_options()
        listing.add_options(Option(_line(name, text)) for name, text in self._rows)
        if self._rows:
            listing.highlighted = min(at, len(self._rows) - 1)
        # a name is being written: the list must not take the keys
        if not self.query_one("#saved-name").display:
            listing.focus()
        self._say()

    def _say(self) -> None:
        """Show what the field is for, or how the first pipeline is saved."""
        words = ""
        if self._renaming:
            words = f"another name for {self._renaming}"
        elif self._keep:
            words = f"keep {self._keep}"
        elif not self._rows:
            words = "None is saved. Write a pipeline or choose a run, then ctrl+s keeps it."
        note = self.query_one("#saved-note", Static)
        note.display = bool(words)
        note.update(literal(one_line(words, 64), "$text-muted"))

    @on(OptionList.OptionSelected)
    def _chosen(self) -> None:
        if self._current:
            self.dismiss(self._current[1])

    @on(Input.Submitted, "#saved-name")
    def _named(self, event: Input.Submitted) -> None:
        name = event.value.strip()
        old, text = self._renaming, self._keep
        if old:
            text = dict(self._rows)[old]
        if name and name != old:
            self._save(name, text, old)
        elif name == old:
            self._close_field()

    def _save(self, name: str, text: str, old: str) -> None:
        """Save a text; what has the name already goes only after a yes."""
        taken = dict(self._rows).get(name)
        if taken is not None and taken != text:
            app_of(self).push_screen(
                confirm("Replace", f"{name} is saved already:", [taken], "Replace"),
                lambda answer: self._send(name, text, old, replace=True) if answer == "yes" else None,
            )
        else:
            self._send(name, text, old)

    def _send(self, name: str, text: str, old: str, *, replace: bool = False) -> None:
        def saved(pipeline: SavedPipeline) -> None:
            self._controller.notify(f"saved as {pipeline.name}")
            if old:
                self._controller.request(RemovePipeline(old), lambda removed: self._load())
            elif self.is_attached:
                self._load()
            if self.is_attached:
                self._close_field()

        self._controller.request(SavePipeline(name, text, replace=replace), saved)

    def _close_field(self) -> None:
        self._renaming = self._keep = ""
        self.query_one("#saved-name").display = False
        self.query_one("#saved-list").focus()
        self._say()

    def action_rename(self) -> None:
        if self._current is None:
            return
        self._renaming = self._current[0]
        field = self.query_one("#saved-name", Input)
        field.value, field.display = self._renaming, True
        field.focus()
        self._say()

    def action_remove(self) -> None:
        if self._current is None:
            return
        name, text = self._current
        app_of(self).push_screen(
            confirm("Remove", f"This forgets the saved pipeline {name}:", [text], "Remove"),
            lambda answer: (
                self._controller.request(RemovePipeline(name), lambda removed: self._load())
                if answer == "yes"
                else None
            ),
        )

    def action_back(self) -> None:
        """Leave the field, then the list."""
        if self.query_one("#saved-name").display and self._rows:
            self._close_field()
        else:
            self.dismiss("")


def _line(name: str, text: str) -> Content:
    return Content.assemble(
        literal(one_line(name, NAME_CELLS).ljust(NAME_CELLS + 1), "bold"),
        literal(one_line(text, TEXT_CELLS), "$text-muted"),
    )
