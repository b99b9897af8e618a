"""The form that stands in the fleet's place while nothing runs: which model answers, who is started, what is asked first.

Knows nothing of how a launch goes on: `FleetCommands.begin` does that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from textwrap import wrap
from typing import ClassVar, Final, Literal, NamedTuple

from textual import events
from textual.app import RenderResult
from textual.binding import BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from backend.schema.params import Launch
from backend.schema.records import FIRST_QUESTIONS, FleetPlan, LaunchPlanItem, ModelCandidate, ProviderChoice
from backend.schema.results import LaunchReport
from tekton_tui.commands import Commands
from tekton_tui.formatting import size
from tekton_tui.runtime.latest import Latest
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import Stores
from tekton_tui.verbs import bindings, ordered
from tekton_tui.widgets.fleet.model_rows import NAME_CELLS, away_row, model_row

STARTER: Final = "starter"
QUESTIONS: Final = (("numa", "What is this machine short of?"), *FIRST_QUESTIONS)
"""Whom to ask what first; the stand-in is offered only what it answers well."""
MEASURE: Final = 92
"""Cells of the form, where there are so many."""
ROLE_CELLS = 13
MOST_MODELS: Final = 6
"""Models that are shown; more would push the team out of sight, and stand behind F4."""
MOST_AWAY: Final = 2
"""Models that do not answer and are named all the same, with why."""
COUNTS: Final = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ENTER: Final = (" ⏎ ", "bold $background on $primary")
Kind = Literal["", "model", "member", "start", "question"]


class _Row(NamedTuple):
    """A row of the form: what is on it, and what a click or the cursor means there."""

    content: Content
    kind: Kind = ""
    number: int = 0


class FirstRun(Widget, can_focus=True):
    """One cursor goes through models and members; space takes the one and ticks the other, Enter starts."""

    DEFAULT_CSS = "FirstRun { height: 1fr; width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = ordered(bindings("first"), ("open", "up", "mark", "add", "back"))

    class Later(Message):
        """Posted when the operator wants the grid instead."""

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._planning = Latest(commands.controller)
        self._group = STARTER
        self._plan: FleetPlan | None = None
        self.took_s = 0.0
        """How long the look took, in seconds."""
        self._asked = False
        self._away: set[str] = set()
        """Ids of members that are not to be started."""
        self._model: tuple[str, str, str] | None = None
        """Provider and model that were taken here; `None` leaves what the platform has."""
        self._question = 0
        self._own = ""
        """A first question of the operator's, typed or pasted here."""
        self._at = 0
        self.came: tuple[str, float] = ("", 0.0)
        """See `MovesByItself`."""
        self._rows: list[_Row] = []
        self._top = 0

    def on_mount(self) -> None:
        fleet = self._stores.fleet
        fleet.summary_changed.subscribe_widget(self, lambda: self._redraw())
        fleet.offered.subscribe_widget(self, lambda offer: self.look())

    # what there is

    def look(self) -> None:
        """Ask the backend what could answer and how the launch would go; what is known stays until then."""
        self._asked = True
        began = time.monotonic()

        def planned(report: LaunchReport) -> None:
            if report.plan is not None and self.is_attached:
                first = self._plan is None
                self._plan, self.took_s = report.plan, time.monotonic() - began
                if first:
                    self._at = next((at for at, one in enumerate(self.models) if self._is_taken(one)), 0)
                self._redraw()

        self._planning.request(Launch([self._group], dry_run=True), planned, otherwise=self._not_planned)

    def _not_planned(self) -> None:
        self._asked = False

    def show(self) -> None:
        """Look when it is shown for the first time."""
        if not self._asked and not self._stores.connection.stale:
            self.look()

    @property
    def models(self) -> list[ModelCandidate]:
        """The best that can be taken, and what is; what is named in the configuration also where it was not found."""
        if self._plan is None:
            return []
        found = [one for one in self._plan.candidates if one.usable]
        now = self._now
        if now is not None and not any(now.means(one) for one in found):
            own = ModelCandidate(
                now.provider, now.model, now.address, now.display, 0, now.reason, usable=True
            )
            found.insert(0, own)
        return [*found[:MOST_MODELS], *(one for one in found[MOST_MODELS:] if self._is_taken(one))]

    def _is_now(self, one: ModelCandidate) -> bool:
        return self._now is not None and self._now.means(one)

    @property
    def _weights(self) -> str:
        """Name of the embedded model, where it would answer and has to be fetched first."""
        model = self.model
        embedded = model is not None and model.provider == "embedded"
        return self._plan.missing_weights if self._plan is not None and embedded else ""

    @property
    def _now(self) -> ProviderChoice | None:
        """What the platform has now."""
        platform = self._stores.fleet.platform
        return platform.provider if platform is not None else None

    @property
    def _items(self) -> Sequence[LaunchPlanItem]:
        return self._plan.items if self._plan is not None else ()

    @property
    def chosen(self) -> list[LaunchPlanItem]:
        """Whom Enter starts."""
        return [item for item in self._items if item.ok and item.id not in self._away]

    @property
    def model(self) -> ModelCandidate | None:
        """What answers after Enter: what was taken here, else what the platform has."""
        return next((one for one in self.models if self._is_taken(one)), None)

    @property
    def _untaken(self) -> ModelCandidate | None:
        """The model under the cursor, if it is not the one that answers: Enter takes it first."""
        here = self.models[self._at] if self._at < len(self.models) else None
        return None if here is None or self._is_taken(here) else here

    def key_words(self) -> dict[str, str]:
        """Return what Enter and space do on the row of the cursor."""
        model = self._at < len(self.models)
        words = {"mark": "take" if model else "tick"}
        return words | {"begin": "take it"} if self._untaken is not None else words

    def _is_taken(self, one: ModelCandidate) -> bool:
        return self._is_now(one) if self._model is None else _named(one) == self._model

    @property
    def question(self) -> tuple[str, str] | None:
        """Who is asked what first; `None` when none of those who could be is started."""
        names = {item.name for item in self.chosen}
        model = self.model
        known = FIRST_QUESTIONS if model is not None and model.stand_in else QUESTIONS
        fitting = [(item.name, self._own) for item in self.chosen[:1] if self._own]
        fitting += [one for one in known if one[0] in names]
        return fitting[self._question % len(fitting)] if fitting else None

    # drawing

    def render(self) -> RenderResult:
        width, height = self.size
        if width < 8 or height < 1:
            return ""
        cells = min(MEASURE, width - 4)
        left = max(2, (width - MEASURE) // 2)
        self._rows = _fitting(self._form(cells), height, self._cursor)
        # in the middle where there is much room, else near the top, where one looks
        self._top = max(0, min((height - len(self._rows)) // 2, 1 if height < 30 else height))
        lines = [Content("")] * self._top
        for row in self._rows:
            here = (row.kind, row.number) == self._cursor
            line = row.content.truncate(cells, ellipsis=True)
            if here:
                line = Content.assemble(line, " " * max(0, cells - line.cell_length)).stylize(
                    "on $cursor-row" if self.has_focus else "on $panel"
                )
            lines.append(Content.assemble(" " * left, line))
        return Content("\n").join(lines)

    @property
    def _cursor(self) -> tuple[Kind, int]:
        models = len(self.models)
        return ("model", self._at) if self._at < models else ("member", self._at - models)

    def _form(self, cells: int) -> list[_Row]:
        plan, blank = self._plan, _Row(Content(""))
        if plan is None:
            words = "looking at this machine…" if self._asked else "the backend does not say: R looks again"
            return [
                _Row(Content.assemble(("Who should answer?", "bold"), literal(f"   {words}", "$text-muted")))
            ]
        took = f" in {self.took_s:.1f} s" if self.took_s >= 0.05 else ""
        rows = [
            _Row(
                Content.assemble(
                    ("Who should answer?", "bold"),
                    (f"   found on this machine{took} · ", "$text-muted"),
                    ("R", "bold $text-primary"),
                    (" looks again", "$text-muted"),
                )
            ),
            blank,
            *self._model_rows(plan, cells),
            blank,
            _Row(self._team_title()),
            blank,
            *(row for at, item in enumerate(plan.items) for row in self._member_rows(at, item, cells)),
            *(_Row(literal(f"   {note}", "$text-warning")) for note in plan.notes),
            blank,
            *self._start_rows(cells),
        ]
        if self.size.height >= 30:
            rows += [blank, _Row(literal(self._cost_words(plan), "$text-muted"))]
        return rows

    def _model_rows(self, plan: FleetPlan, cells: int) -> list[_Row]:
        taken = self._is_taken
        rows = [
            _Row(model_row(one, cells, taken=taken(one)), "model", at) for at, one in enumerate(self.models)
        ]
        if (more := sum(one.usable for one in plan.candidates) - len(self.models)) > 0:
            rows.append(_Row(literal(f"   and {more:,} more: F4", "$text-muted")))
        away = [one for one in plan.candidates if not one.usable and not self._is_now(one)][:MOST_AWAY]
        rows += [_Row(away_row(one)) for one in away]
        if not plan.candidates:
            rows.append(_Row(literal("   nothing answers here: `tekton doctor` says why", "$text-warning")))
        return rows

    def _team_title(self) -> Content:
        plan, count = self._plan, len(self._items)
        job = next((job for job in plan.jobs if job.name == self._group), None) if plan is not None else None
        what = job.title.lower() if job is not None else f"{_count(count)} for a start"
        keys = [("space", "ticks"), *([("O", "other job")] if plan is not None and plan.jobs else [])]
        keys.append(("S", f"all {len(self._stores.fleet.rows)}"))
        named = [
            Content.assemble((key, "bold $text-primary"), (f" {word}", "$text-muted")) for key, word in keys
        ]
        return Content.assemble(
            ("And who is there?", "bold"),
            (f"   {what} · ", "$text-muted"),
            literal(" · ", "$text-muted").join(named),
        )

    def _member_rows(self, at: int, item: LaunchPlanItem, cells: int) -> list[_Row]:
        """Return a member's row; why one cannot be started has as many as it takes."""
        if item.ok:
            return [_Row(self._member_row(item, cells), "member", at)]
        name = one_line(item.name, NAME_CELLS - 1).ljust(NAME_CELLS)
        lead = Content.assemble((" ✖ ", "$text-error"), name)
        why = wrap(one_line(item.problem), max(8, cells - lead.cell_length)) or [""]
        rows = [_Row(Content.assemble(lead, literal(why[0], "$text-error")), "member", at)]
        return rows + [
            _Row(Content.assemble(" " * lead.cell_length, (words, "$text-error"))) for words in why[1:]
        ]

    def _member_row(self, item: LaunchPlanItem, cells: int) -> Content:
        name = one_line(item.name, NAME_CELLS - 1).ljust(NAME_CELLS)
        ticked = item.id not in self._away
        row = self._stores.fleet.rows.get(item.id)
        role = one_line(item.short or item.title, ROLE_CELLS - 1).ljust(ROLE_CELLS)
        does = item.model_problem or _clause(
            row.description if row is not None else "", cells - len(name + role) - 3
        )
        tone = "$text-muted" if ticked else "$text-disabled"
        return Content.assemble(
            (" ✓ ", "$text-success") if ticked else "   ",
            literal(name, "$text" if ticked else "$text-disabled"),
            literal(role, "$text-primary" if ticked else "$text-disabled"),
            literal(does, "$text-warning" if item.model_problem else tone),
        )

    def _start_rows(self, cells: int) -> list[_Row]:
        count, model, first = len(self.chosen), self.model, self.question
        if (here := self._untaken) is not None:
            name = one_line(here.display or here.model, 40)
            return [_Row(Content.assemble(ENTER, f" take {name}, then start"), "start")]
        if self._commands.fleet.beginning:
            words = f"starting: what you write now goes to {first[0]}" if first is not None else "starting…"
            return [_Row(literal(words, "$text-warning"), "start")]
        if not count:
            return [_Row(literal("Tick somebody to start.", "$text-warning"))]
        whom = f"the {_count(count)}" if count > 1 else self.chosen[0].name
        name = f" with {one_line(model.display or model.model, 24)}" if model is not None else ""
        if self._weights:
            pull = self._stores.fleet.services.get(f"pull {self._weights}")
            if pull is not None and pull.state == "busy":
                return [_Row(literal(f"fetching {self._weights}: {one_line(pull.detail)}", "$text-warning"))]
            return [_Row(Content.assemble(ENTER, f" fetch the model (93 MB), then start {whom}"), "start")]
        if first is None:
            return [_Row(Content.assemble(ENTER, f" start {whom}{name}"), "start")]
        who, words = first
        asked = Content.assemble(
            "then ", ("⏎", "bold $text-primary"), f" asks {who}: ",
            Content.styled(f"“{one_line(words, max(8, cells - 38))}”", "italic"),
            ("   tab", "bold $text-primary"), (" another", "$text-muted"),
        )  # fmt: skip
        line = Content.assemble(ENTER, f" start {whom}{name}, ", asked)
        if line.cell_length <= cells:
            return [_Row(line, "start")]
        return [
            _Row(Content.assemble(ENTER, f" start {whom}{name}"), "start"),
            _Row(Content.assemble("    ", asked), "question"),
        ]

    def _cost_words(self, plan: FleetPlan) -> str:
        model, count = self.model, len(self.chosen)
        stays = "Nothing leaves this machine."
        if model is not None and model.paid:
            stays = f"Every question goes to {model.provider} and is paid by token."
        elif model is not None and model.provider == "openai":
            stays = f"Questions go to {model.address}."
        memory = size(plan.memory_estimate) if plan.memory_estimate else ""
        free = f" of {size(plan.memory_available)} free" if plan.memory_available else ""
        about = f", about {memory}{free} memory" if memory else ""
        return f"{stays} {count} process{'es' * (count != 1)}{about}."

    # keys and mouse

    def action_move(self, step: int) -> None:
        last = len(self.models) + len(self._items) - 1
        self._at = max(0, min(last, self._at + step))
        self._redraw()

    def _redraw(self) -> None:
        self.refresh()
        self.refresh_bindings()

    def action_mark(self) -> None:
        """Take the model under the cursor, or tick the member."""
        kind, at = self._cursor
        if kind == "model" and at < len(self.models):
            one = self.models[at]
            self._model = _named(one)
        elif kind == "member" and at < len(self._items) and self._items[at].ok:
            self._away ^= {self._items[at].id}
        self._redraw()

    def action_question(self) -> None:
        self._question += 1
        self.refresh()

    def ask_first(self, text: str) -> None:
        """Offer the operator's own words as the first question; they stay in the composer, unsent."""
        if text.strip():
            self._own, self._question = text.strip(), 0
        self.refresh()

    def action_look(self) -> None:
        self._plan = None
        self.look()
        self.refresh()

    def action_group(self) -> None:
        """Choose a job, and with it who is started."""
        platform = self._stores.fleet.platform
        jobs = self._plan.jobs if self._plan is not None else []
        if platform is None or not jobs:
            self._commands.notify("there are no groups for jobs")
            return
        choices = [
            (STARTER, "To begin with", ", ".join(platform.starter)),
            *((job.name, job.title, ", ".join(job.members)) for job in jobs),
        ]

        def chosen(name: str) -> None:
            self._group, self._away = name, set()
            self.look()

        self._commands.navigator.choose("for which job", choices, chosen)

    def action_fetch(self) -> None:
        self._commands.navigator.choose_model([item.id for item in self.chosen], fetch=True)

    def action_begin(self) -> None:
        """Take the model under the cursor; with that done start those ticked, and offer the first question."""
        if self._untaken is not None:
            self.action_mark()
            return
        if not self.chosen:
            self._commands.notify("nobody is ticked: space ticks the row of the cursor", failed=True)
            return
        model = self.model
        same = model is None or self._is_now(model)
        ids = [item.id for item in self.chosen]
        question = self.question
        own = question is not None and question[1] == self._own
        self._commands.fleet.begin(ids, None if same else model, question, self._weights, own=own)
        self.refresh()

    def action_later(self) -> None:
        self.post_message(self.Later())

    def spots(self) -> list[tuple[int, int, Callable[[], object]]]:
        """Return the rows of models and members, and what puts the cursor on each."""
        rows = [(at + self._top, row) for at, row in enumerate(self._rows) if row.kind in ("model", "member")]
        return [(0, y, partial(self._put_cursor, row)) for y, row in rows]

    def _put_cursor(self, row: _Row) -> None:
        self._at = row.number + (len(self.models) if row.kind == "member" else 0)
        self._redraw()

    def on_click(self, event: events.Click) -> None:
        """A model is taken, a member ticked, the last rows do what they say."""
        at = event.y - self._top
        if not 0 <= at < len(self._rows):
            return
        row = self._rows[at]
        if row.kind == "start":
            self.action_begin()
        elif row.kind == "question":
            self.action_question()
        elif row.kind:
            self._put_cursor(row)
            self.action_mark()


def _named(one: ModelCandidate) -> tuple[str, str, str]:
    """Return what tells a model from all others: two servers may offer the same."""
    return one.provider, one.model, one.address


def _clause(text: str, cells: int) -> str:
    """Return as many whole clauses of a sentence as fit, at least one."""
    text = one_line(text).rstrip(".")
    while len(text) > cells and (cut := max(text.rfind(sign) for sign in (", ", ": ", "; "))) > 0:
        text = text[:cut]
    return text


def _count(number: int) -> str:
    return COUNTS[number] if number < len(COUNTS) else str(number)


def _fitting(rows: list[_Row], height: int, cursor: tuple[Kind, int]) -> list[_Row]:
    """Return rows that fit: without the air, then those around the cursor and what Enter does."""
    if len(rows) > height:
        rows = [row for row in rows if row.content.plain]
    if len(rows) <= height:
        return rows
    last = [row for row in rows if row.kind == "start"][:1]
    above = [row for row in rows if row.kind not in ("start", "question")]
    room = max(0, height - len(last))
    at = next((number for number, row in enumerate(above) if (row.kind, row.number) == cursor), 0)
    first = max(0, min(at - room + 1, len(above) - room))
    return above[first : first + room] + last
