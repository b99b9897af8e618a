"""Questions to the operator: what will happen, what it hits, and a safe answer in focus."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import ClassVar, TypeVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Static

from backend.schema.records import FleetPlan, LaunchPlanItem, ModelCandidate
from tekton_tui.formatting import size
from tekton_tui.runtime.layout_once import Modal
from tekton_tui.safe_text import literal, literal_line, one_line

PLAN_NAME_CELLS = 13
MOST_CANDIDATES = 4
LOOPBACK = "127.0.0.1"
T = TypeVar("T")


class Question(Modal[T]):
    """A screen whose keys decide something: those typed before it could be read are ignored."""

    EARLY_S: ClassVar[float] = 0.3
    """How long after it is drawn it ignores keys, in seconds."""

    # before it is drawn every key is too early
    _drawn_at = math.inf

    def on_mount(self) -> None:
        self.call_after_refresh(self._drawn)

    def _drawn(self) -> None:
        self._drawn_at = time.monotonic()

    def too_early(self, moment: float) -> bool:
        """Return whether a key of this moment (monotonic, seconds) was typed too early."""
        return self.EARLY_S > 0 and moment < self._drawn_at + self.EARLY_S


class LongQuestion(Question[T]):
    """A question whose text is scrolled where it does not fit above its buttons; those stay in sight."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,pageup", "read(-1)", "Read back", show=False, id="dialog.up"),
        Binding("down,pagedown", "read(1)", "Read on", show=False, id="dialog.down"),
    ]
    BODY: ClassVar[str]
    """Selects what is scrolled."""
    AROUND_ROWS: ClassVar[int] = 5
    """Rows of the frame, the buttons and what else is always there."""
    MOST_ROWS: ClassVar[int] = 30
    SHARE: ClassVar[float] = 0.9
    """How much of the screen the question may take."""

    @property
    def around_rows(self) -> int:
        """Rows of this very question that are no part of its body."""
        return self.AROUND_ROWS

    def on_resize(self, event: events.Resize) -> None:
        room = int(event.size.height * self.SHARE) - self.around_rows
        self.query_one(self.BODY).styles.max_height = max(1, min(self.MOST_ROWS, room))

    def action_read(self, step: int) -> None:
        """Show more of what does not fit."""
        body = self.query_one(self.BODY)
        body.scroll_relative(y=step * max(1, body.size.height - 2), animate=False)


BUTTON_CELLS, BUTTONS_CELLS = 7, 70
"""What a button takes beside its label, and what 80 columns leave for all of them: more are packed."""


class Dialog(LongQuestion[str]):
    """A title, lines of content and buttons; `esc` is always the last button, which asks for nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss_with('cancel')", "Cancel", id="dialog.cancel"),
        Binding("right,tab", "next_button", "Next", show=False, id="dialog.next"),
        Binding("left,shift+tab", "previous_button", "Previous", show=False, id="dialog.previous"),
    ]
    BODY = "#dialog-body"

    def __init__(
        self,
        title: str,
        body: Content,
        buttons: list[tuple[str, str, str]],
        *,
        focus: str = "cancel",
    ) -> None:
        """`buttons` are `(answer, label, variant)`; `focus` names the answer that has the focus."""
        super().__init__()
        self._title, self._body, self._buttons, self._focus = title, body, buttons, focus

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog") as box:
            box.border_title = literal_line(self._title)
            box.border_subtitle = "←→ choose · ⏎ does it · esc cancels"
            with VerticalScroll(id="dialog-body", can_focus=False):
                yield Static(self._body)
            cells = sum(len(label) + BUTTON_CELLS for _, label, _ in self._buttons)
            with Horizontal(id="dialog-buttons", classes="-packed" if cells > BUTTONS_CELLS else ""):
                for answer, label, variant in self._buttons:
                    yield Button(label, id=f"answer-{answer}", variant=variant, compact=True)  # type: ignore[arg-type]

    def on_mount(self) -> None:
        self.query_one(f"#answer-{self._focus}", Button).focus()

    @on(Button.Pressed)
    def _answered(self, event: Button.Pressed) -> None:
        self.dismiss((event.button.id or "").removeprefix("answer-"))

    def action_dismiss_with(self, answer: str) -> None:
        self.dismiss(answer)

    def action_next_button(self) -> None:
        self.focus_next(Button)

    def action_previous_button(self) -> None:
        self.focus_previous(Button)


def confirm(title: str, question: str, names: Sequence[str], verb: str) -> Dialog:
    """Ask before damage: what it hits is listed, Cancel has the focus."""
    lines = [literal(question), *(literal(f"  {one_line(name, 70)}", "bold") for name in names)]
    return Dialog(title, Content("\n").join(lines), [("yes", verb, "error"), ("cancel", "Cancel", "default")])


def quit_dialog(live: Sequence[str]) -> Dialog:
    """Ask what becomes of the fleet."""
    if not live:
        body = literal("Nothing runs. The backend ends with the console.")
        return Dialog(
            "Quit", body, [("stop", "Quit", "primary"), ("cancel", "Cancel", "default")], focus="stop"
        )
    names = ", ".join(live)
    body = literal(
        f"{len(live)} specialists run: {names}.\n\n"
        "Leave them running, and find them with their conversations when you come back, or stop them all?"
    )
    buttons = [
        ("leave", "Leave running", "primary"),
        ("stop", "Stop all", "error"),
        ("cancel", "Cancel", "default"),
    ]
    return Dialog("Quit", body, buttons)


class PlanDialog(Dialog):
    """The launch plan; `f` fetches the embedded model first, `m` takes another model, `g` another group."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "dismiss_with('fetch')", "Fetch the embedded model", id="plan.fetch"),
        Binding("m", "dismiss_with('model')", "Another model", id="plan.model"),
        Binding("g", "dismiss_with('group')", "Another group", id="plan.group"),
    ]


def plan_dialog(plan: FleetPlan, why: str) -> Dialog:
    """Show what a launch would do, row by row, before anything starts; `why` tells why the provider was chosen.

    Models that could answer instead, and groups for jobs, are offered where the plan has any.
    """
    lines = [literal(why, "$text-muted")] if why else []
    good = sum(item.ok for item in plan.items)
    memory = f"about {size(plan.memory_estimate)} of {size(plan.memory_available)} free memory"
    silent = sum(item.ok and bool(item.model_problem) for item in plan.items)
    answer = "none" if silent == good else f"only {good - silent}"
    answers = f", {answer} can answer yet" if silent else ""
    lines += [
        Content.assemble(
            literal(f"{good} of {len(plan.items)} can start", "$text-muted"),
            literal(answers, "$text-warning"),
            literal(f" · {memory}", "$text-muted"),
        ),
    ]
    lines += [literal(note, "$text-warning") for note in plan.notes]
    cells = max((len(_port(item)) for item in plan.items), default=0)
    lines += [Content(""), *(_plan_line(item, cells) for item in plan.items)]
    now = plan.provider
    others = [one for one in plan.candidates if one.usable and not (now is not None and now.means(one))]
    lines += [Content(""), *(_candidate_line(one) for one in others[:MOST_CANDIDATES])] if others else []
    buttons = [("cancel", "Cancel", "default")]
    if plan.jobs:
        buttons.insert(0, ("group", "g Other group", "default"))
    if others:
        buttons.insert(0, ("model", "m Other model", "default"))
    if good:
        buttons.insert(0, ("yes", f"Launch {good}", "primary"))
    focus = "yes" if good else "cancel"
    if good and plan.missing_weights:
        fetch = ("fetch", "f Fetch, launch", "primary")
        buttons[:1] = [fetch] if silent == good else [fetch, ("yes", f"Launch {good}", "default")]
        focus = "fetch"
    return PlanDialog("Launch plan", Content("\n").join(lines), buttons, focus=focus)


def _candidate_line(one: ModelCandidate) -> Content:
    facts = " · ".join([*([size(one.size)] if one.size else []), *(["paid"] if one.paid else []), one.why])
    name = one_line(one.display or one.model, 24)
    return Content.assemble(literal(f"or {name} ", "bold"), literal(one_line(facts, 70), "$text-muted"))


def _port(item: LaunchPlanItem) -> str:
    # On another host the node chooses the port.
    if item.host not in ("", LOOPBACK) and "://" not in item.host:
        return f"on {one_line(item.host, 24)}"
    return f":{item.port}" if item.port else "free port"


def _plan_line(item: LaunchPlanItem, port_cells: int) -> Content:
    name = one_line(item.name, PLAN_NAME_CELLS).ljust(PLAN_NAME_CELLS)
    if item.code == "already_running":
        return literal(f"✓ {name} {item.problem}", "$text-muted")
    if not item.ok:
        return Content.assemble(
            Content.styled("✖ ", "$text-error"), literal(f"{name} "), literal(item.problem, "$text-error")
        )
    model = one_line(f"{item.provider} {item.model}".strip(), 40)
    role = f"{one_line(item.short, 12):<13}" if item.short else ""
    if role:
        model = one_line(model, 28)
    sign = (
        Content.styled("◐ ", "$text-warning") if item.model_problem else Content.styled("● ", "$text-success")
    )
    return Content.assemble(
        sign,
        literal(f"{name} "),
        literal(role, "$text-muted"),
        literal(f"{_port(item):<{port_cells}} {model}"),
    )
