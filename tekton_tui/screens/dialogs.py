"""Questions to the operator: what will happen, what it hits, and a safe answer in focus."""

from __future__ import annotations

from typing import ClassVar, Literal

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from tekton_tui.safe_text import literal, one_line
from tekton_tui.wording import size

QuitChoice = Literal["leave", "stop", "cancel"]
PLAN_NAME_CELLS, PLAN_MODEL_CELLS = 13, 18


class Dialog(ModalScreen[str]):
    """A title, lines of content and buttons; `esc` is always the last button, which asks for nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss_with('cancel')", "Cancel", id="dialog.cancel"),
        Binding("right,tab", "next_button", "Next", show=False, id="dialog.next"),
        Binding("left,shift+tab", "previous_button", "Previous", show=False, id="dialog.previous"),
    ]

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
            box.border_title = self._title
            with VerticalScroll(id="dialog-body", can_focus=False):
                yield Static(self._body)
            with Horizontal(id="dialog-buttons"):
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


def confirm(title: str, question: str, names: list[str], verb: str) -> Dialog:
    """Ask before damage: what it hits is listed, Cancel has the focus."""
    lines = [literal(question), *(literal(f"  {one_line(name, 70)}", "bold") for name in names)]
    return Dialog(title, Content("\n").join(lines), [("yes", verb, "error"), ("cancel", "Cancel", "default")])


def quit_dialog(live: list[str]) -> Dialog:
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


def plan_dialog(plan: dict[str, object], why: str) -> Dialog:
    """Show what a launch would do, row by row, before anything starts."""
    items: list[dict[str, object]] = plan["items"]  # type: ignore[assignment]
    lines = [literal(why, "$text-muted"), Content("")] if why else []
    lines += [_plan_line(item) for item in items]
    good = sum(bool(item["ok"]) for item in items)
    memory = f"about {size(_number(plan, 'memory_estimate'))} of {size(_number(plan, 'memory_available'))} free memory"
    lines += [Content(""), literal(f"{good} of {len(items)} can start · {memory}", "$text-muted")]
    lines += [literal(str(note), "$text-warning") for note in plan.get("notes", ())]  # type: ignore[attr-defined]
    buttons = [("cancel", "Cancel", "default")]
    if good:
        buttons.insert(0, ("yes", f"Launch {good}", "primary"))
    return Dialog("Launch plan", Content("\n").join(lines), buttons, focus="yes" if good else "cancel")


def _plan_line(item: dict[str, object]) -> Content:
    name = one_line(str(item["name"]), PLAN_NAME_CELLS).ljust(PLAN_NAME_CELLS)
    if not item["ok"]:
        return Content.assemble(
            Content.styled("✖ ", "$text-error"),
            literal(f"{name} "),
            literal(str(item["problem"]), "$text-error"),
        )
    model = one_line(f"{item.get('provider', '')} {item.get('model', '')}".strip(), 40)
    port = f":{item['port']}" if item.get("port") else "any free port"
    host = str(item.get("host", ""))
    if host and "://" not in host:  # beyond this machine; there the node gives the port
        port = f"on {one_line(host, 24)}"
    return Content.assemble(Content.styled("● ", "$text-success"), literal(f"{name} {port:<14} {model}"))


def _number(plan: dict[str, object], name: str) -> int:
    value = plan.get(name, 0)
    return value if isinstance(value, int) else 0
