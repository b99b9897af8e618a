"""A tool call that waits for the operator: who, what exactly, why; allowed, allowed for good, or denied with a word."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.strip import Strip
from textual.widgets import Button, Input, Static

from backend.schema.events import AskClosed
from backend.schema.tools import QUESTION, Ask, AskOption
from tekton_tui.clock import gateway_time
from tekton_tui.commands.navigator import Choice
from tekton_tui.formatting import span
from tekton_tui.runtime.frame_scheduler import app_of
from tekton_tui.runtime.tokens import ADDED, REMOVED
from tekton_tui.safe_text import literal, one_line
from tekton_tui.screens.dialogs import LongQuestion
from tekton_tui.stores import Stores
from tekton_tui.stores.asks import how_closed
from tekton_tui.transcript.cards import DiffLine, numbered
from tekton_tui.widgets.common.ask_words import MOST_KEYS, arguments_of, behind, is_question, what_it_does


class AskDialog(LongQuestion[Choice]):
    """The ask in full. The focus is on no answer that allows; `esc` leaves it waiting."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "later", "Later", id="ask.later"),
        Binding("a", "answer('allow')", "Allow", id="ask.allow"),
        Binding("A", "answer('always')", "Always", id="ask.always"),
        Binding("x", "answer('deny')", "Deny", id="ask.deny"),
        Binding("i", "say_why", "Deny and say why", id="ask.why"),
        *(
            Binding(str(at), f"option({at})", f"Its answer {at}", show=False, id=f"ask.own-{at}")
            for at in range(1, MOST_KEYS + 1)
        ),
    ]
    EARLY_S = 0.5
    BODY, AROUND_ROWS, MOST_ROWS, SHARE = "#ask-body", 6, 100, 0.8
    DEFAULT_CSS = """
    AskDialog { align: center middle; }
    #ask { width: 90%; max-width: 100; height: auto; max-height: 80%; border: round $secondary; padding: 0 1; background: $surface; }
    #ask-body { height: auto; scrollbar-size-vertical: 1; }
    #ask-why { display: none; height: 1; border: none; background: $panel; padding: 0 1; margin: 1 0 0 0; }
    #ask-why.-shown { display: block; }
    #ask-buttons { height: 1; margin: 1 0 0 0; }
    #ask-own { height: 1; margin: 1 0 0 0; }
    #ask-own Button { width: 5; min-width: 0; margin: 0 1 0 0; }
    #ask-buttons.-below { margin: 0; }
    #ask-buttons Button { width: auto; min-width: 0; margin: 0 1 0 0; }
    """

    def __init__(self, ask: Ask, stores: Stores, *, say_why: bool = False) -> None:
        super().__init__()
        self._ask, self._stores, self._begin_with_why = ask, stores, say_why
        self._gone = False
        """Whether the call waits no more: that is said once."""

    @property
    def around_rows(self) -> int:
        return self.AROUND_ROWS + bool(self._ask.options)

    def compose(self) -> ComposeResult:
        with Vertical(id="ask") as box:
            box.border_title = f" ◆ {self._ask.ai_id.removesuffix('-ai')} {what_it_does(self._ask)} "
            waiting = len(self._stores.asks.asks)
            box.border_subtitle = f" {waiting} wait " if waiting > 1 else None
            with VerticalScroll(id="ask-body", can_focus=False):
                yield AskText(ask_body(self._ask, self._stores), id="ask-text")
            yield Input(placeholder="why not? the model reads it", id="ask-why")
            if self._ask.options:
                with Horizontal(id="ask-own"):
                    for at in range(1, min(len(self._ask.options), MOST_KEYS) + 1):
                        yield Button(str(at), id=f"ask-own-{at}", compact=True)
            with Horizontal(id="ask-buttons", classes="-below" if self._ask.options else ""):
                if self._ask.tool != QUESTION:
                    yield Button("a once", id="ask-allow", compact=True)
                if self._ask.always and self._ask.tool != QUESTION:
                    yield Button("A always", id="ask-always", compact=True)
                yield Button("x no", id="ask-deny", compact=True)
                yield Button("i no, because…", id="ask-say", compact=True)
                yield Button("esc later", id="ask-wait", compact=True)

    def on_mount(self) -> None:
        self.query_one("#ask-wait", Button).focus()
        self._stores.asks.changed.subscribe_widget(self, self._leave_if_gone)
        app_of(self).clear_notifications()  # the notice of this very call would stand on its title
        self.set_interval(1.0, self._tick)
        if self._begin_with_why:
            self.action_say_why()
        self._leave_if_gone()  # between its key and this moment

    def _tick(self) -> None:
        self.query_one(AskText).update(ask_body(self._ask, self._stores), layout=False)

    def _leave_if_gone(self) -> None:
        """Close what somebody else answered, or what its turn took with it; the keys typed now have nothing to answer."""
        asks, ask = self._stores.asks, self._ask
        if ask.id not in asks.asks and not self._gone and self in app_of(self).screen_stack:
            self._gone = True
            closed = asks.answered.get(ask.id) or AskClosed(ask.id, ask.ai_id, "", "")
            self.notify(f"{how_closed(closed)}: {ask.tool}", markup=False)
            self.dismiss(Choice("later"))

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        match event.button.id:
            case "ask-wait":
                self.action_later()
            case "ask-say":
                self.action_say_why()
            case name if name and name.startswith("ask-own-"):
                self.action_option(int(name.removeprefix("ask-own-")))
            case name:
                self.action_answer((name or "").removeprefix("ask-"))

    @on(Input.Submitted)
    def _said(self, event: Input.Submitted) -> None:
        self.dismiss(Choice("deny", event.value))

    def action_answer(self, answer: str) -> None:
        if answer != "deny" and self._ask.tool == QUESTION:
            self.notify("it is a question: its number answers it", markup=False)
        elif answer != "always" or self._ask.always:
            self.dismiss(Choice(answer))

    def action_option(self, number: int) -> None:
        """Answer with an answer of the agent's own."""
        if number <= len(self._ask.options):
            chosen = self._ask.options[number - 1]
            self.dismiss(Choice("allow" if chosen.allows else "deny", option=chosen.id))

    def action_say_why(self) -> None:
        field = self.query_one("#ask-why", Input)
        field.add_class("-shown")
        field.focus()

    def action_later(self) -> None:
        self.dismiss(Choice("later"))


class AskText(Static):
    """Shows what `ask_body` returns; the rows of a diff are tinted to their ends."""

    def render_line(self, y: int) -> Strip:
        strip = super().render_line(y)
        last = next(reversed(list(strip)), None)
        ground = last.style.background_style if last is not None and last.style else None
        return strip.extend_cell_length(self.size.width, ground)


def ask_body(ask: Ask, stores: Stores) -> Content:
    """Return all of a call: its arguments as they would run, what it changes, since when, what waits behind it, and what
    answering "always" would mean."""
    hint = {True: " · its server says it only reads", None: ""}.get(ask.read_only, "")
    names = {name for name, _ in arguments_of(ask)}
    waits = f"  waits {span(max(0.0, gateway_time() - ask.since))} of {span(ask.until - ask.since)}{_behind_words(ask, stores)}"
    lines = [
        Content.assemble(literal(ask.tool, "bold"), literal(waits, "$text-muted")),
        *(
            Content.assemble(literal(f"  {name}  ", "$text-muted"), literal(value))
            for name, value in arguments_of(ask)
        ),
        *([] if names else [literal("  without arguments", "$text-muted")]),
        *map(_diff_line, numbered(ask.diff)),
        Content(""),
    ]
    if ask.options:
        affair = "" if is_question(ask) else "  what always means there is its own affair"
        lines.append(literal(f"its own answers{affair}", "$text-muted"))
        lines += [_own_answer(ask, at, option) for at, option in enumerate(ask.options, 1)]
    if ask.why:
        lines.append(Content.assemble(literal("in answer to  ", "$text-muted"), literal(f"“{ask.why}”")))
    lines.append(literal(f"asked because  {ask.reason}{hint}", "$text-muted"))
    if is_question(ask):
        return Content("\n").join(lines)
    always = f"allow {ask.always}" if ask.always else "no rule can be written for this call: once only"
    whose = f"  for {ask.ai_id.removesuffix('-ai')}" if ask.always else ""
    lines.append(
        Content.assemble(
            literal("always means  ", "$text-muted"), literal(always), literal(whose, "$text-muted")
        )
    )
    return Content("\n").join(lines)


def _own_answer(ask: Ask, at: int, option: AskOption) -> Content:
    """Return an answer of the agent's own behind its key, in the agent's words; what "always" means is its affair."""
    key = str(at) if at <= MOST_KEYS else " "
    return Content.assemble(
        literal(f"  {key}  ", "bold $text-primary"),
        literal(one_line(option.name or option.id, 200)),
        literal(f"  {one_line(option.kind_words, 40)}" if not is_question(ask) else "", "$text-muted"),
    )


def _behind_words(ask: Ask, stores: Stores) -> str:
    found = behind(ask, stores)
    return f" · behind it {found}" if found else ""


def _diff_line(line: DiffLine) -> Content:
    tone = {"+": ADDED, "-": REMOVED}.get(line.sign, "$text-muted")
    if line.sign == "@":
        return literal(f"  {line.text}", tone)
    return Content.assemble(
        literal(f"{line.number:>6} ", "$text-muted"), literal(f"{line.sign} {line.text}", tone)
    )
