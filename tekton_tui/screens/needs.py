"""Place 4: what waits for the operator, most urgent first; what was put away; and the whole error log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from backend.schema.attention import AttentionItem
from backend.schema.events import AskClosed
from backend.schema.params import GetLogs, ListMessages
from backend.schema.results import LogText, MessageList
from backend.schema.states import LIVE
from backend.schema.tools import QUESTION, Ask
from tekton_tui.commands import Commands
from tekton_tui.commands.navigator import Choice
from tekton_tui.formatting import log_words
from tekton_tui.runtime.latest import Latest
from tekton_tui.safe_text import literal, one_line
from tekton_tui.screens.ask import AskDialog, AskText, ask_body
from tekton_tui.screens.errors import ErrorsPane
from tekton_tui.stores import Stores
from tekton_tui.stores.asks import how_closed
from tekton_tui.verbs import bindings
from tekton_tui.widgets.common.ask_words import is_question, what_it_does
from tekton_tui.widgets.common.empty import EmptyState
from tekton_tui.widgets.common.needs_list import KEYS, SIGNS, TABS, Keys, NeedsHead, NeedsList

CLOCK_S = 10.0
LIST_SHARE = 0.45
"""Of the height that the list may take; the card of what the cursor is on has the rest."""
WIDE: Final = 150
"""Cells from which log or conversation stand beside what the queue says."""
REST_S: Final = 0.25
"""The cursor rests this long before anything is read."""
CARD_ROWS: Final = 11  # of head, air and card, without list and log
LOW: Final = 12
"""With fewer rows there is no air, and the card has a row at least."""
ASK_KEYS: Final = (
    ("a", "once"),
    ("A", "always"),
    ("x", "no"),
    ("i", "no, because"),
    ("space", "mark"),
    ("⏎", "chat"),
)

MEANT: Final = {"a": "acknowledge", "x": "stop", "s": "start", "l": "log", "⏎": "open"}
"""Verbs of the keys that rows and card name."""
OF_ERRORS: Final = frozenset({"previous-tab", "next-tab", "back", "acknowledge-all"})
"""Verbs that hold on the tab of all errors too; that tab has its own for the rest."""
OF_ITEMS: Final = frozenset("open write acknowledge its-answers mark start stop log copy snooze".split())
"""Verbs on what is under the cursor."""


class NeedsPane(Vertical):
    """The queue, and a card with all of what the cursor is on."""

    DEFAULT_CSS = """
    NeedsList { height: auto; margin: 1 0; scrollbar-size-vertical: 1; }
    #needs-card { height: auto; min-height: 5; padding: 0 1; scrollbar-size-vertical: 1; }
    #needs-card Static { height: auto; max-width: 110; }
    #needs-columns { height: auto; layout: vertical; }
    #needs-more { margin-top: 1; }
    NeedsPane.-wide #needs-columns { layout: horizontal; }
    NeedsPane.-wide #needs-columns Static { width: 1fr; margin: 0 2 0 0; }
    #needs-empty { height: 1fr; }
    #errors { height: 1fr; }
    """

    BINDINGS: ClassVar[list[BindingType]] = bindings("needs")

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._tab = 0
        self._sent: set[str] = set()
        """Ids of the asks that were answered here; they leave the list at once."""
        self._shown = ""
        self._shown_at = 0.0
        """Which item came under the cursor by itself, and when: keys typed before it could be read do not answer it."""
        self._reading = Latest(commands.controller)
        self._more_of = ""
        """Id of the item of which more is shown than the queue says: its log, or the conversation it is from."""

    def compose(self) -> ComposeResult:
        yield NeedsHead(self._stores)
        empty = EmptyState(self._stores, id="needs-empty")
        empty.can_focus = True
        yield empty
        yield NeedsList(self._keys_of, id="needs-list")
        with (
            VerticalScroll(id="needs-card", classes="framed", can_focus=False),
            Container(id="needs-columns"),
        ):
            yield AskText("", id="needs-text")
            yield Static("", id="needs-more")
        yield ErrorsPane(self._stores, self._commands, id="errors")

    def on_mount(self) -> None:
        self._stores.attention.changed.subscribe_widget(self, self._fill)
        self._stores.errors.changed.subscribe_widget(self, self._fill)
        self._stores.asks.changed.subscribe_widget(self, self._fill)
        self._stores.asks.closed.subscribe_widget(self, self._was_answered)
        self.set_interval(CLOCK_S, self._tick)
        self._fill()

    def on_resize(self) -> None:
        self.set_class(self.size.width >= WIDE, "-wide")
        self._fit(len(self._list.items))

    def _fit(self, items: int) -> None:
        """Give the card what the list leaves, and the list at most its share."""
        low = self.size.height < LOW
        room = self.size.height - (1 if low else 3)  # the head, and a row above and below the list
        rows = min(items + 1, max(4, int(room * LIST_SHARE)))
        self._list.styles.height = rows
        self._list.styles.margin = (0, 0) if low else (1, 0)
        card = self.query_one("#needs-card")
        card.styles.min_height = 3 if low else 5
        card.styles.max_height = max(3 if low else 5, room - rows)

    def on_show(self) -> None:
        """What is under the cursor now could not be read before."""
        self._shown, self._shown_at = (self._list.current.id if self._list.current else ""), time.monotonic()

    def _tick(self) -> None:
        if self.is_on_screen and self._tab < 2:
            self.query_one(NeedsList).refresh()
            self._show_card()

    def _was_answered(self, event: AskClosed) -> None:
        """Say by whom a call was answered that another console answered, or its turn took away."""
        mine = event.id in self._sent
        self._sent.discard(event.id)
        if not mine and self.is_on_screen and self.screen.is_current and event.by:
            self._commands.notify(how_closed(event))

    @property
    def _list(self) -> NeedsList:
        return self.query_one(NeedsList)

    def focus_content(self) -> None:
        if self._tab == 2:
            self.query_one(ErrorsPane).focus_content()
        else:
            empty = self.query_one("#needs-empty")
            (empty if empty.display else self._list).focus()

    def targets(self) -> list[str]:
        """Return whom a verb on specialists means."""
        item = self._list.current if self._tab < 2 else None
        return [item.who] if item is not None and item.who in self._stores.fleet.rows else []

    def go_to(self, where: str) -> None:
        """Show the error log with the cursor on the newest failure of a specialist."""
        self._show_tab(2)
        self.query_one(ErrorsPane).go_to(where)

    def go_to_item(self, item_id: str) -> None:
        """Show the queue with the cursor on an item."""
        self._show_tab(0)
        self._list.go_to(item_id)

    def _show_tab(self, tab: int) -> None:
        self._tab = tab % len(TABS)
        self._fill()
        self.focus_content()
        self.refresh_bindings()

    def _fill(self) -> None:
        attention, errors = self._stores.attention, self._stores.errors
        gone = {f"asks:{name}" for name in (*self._stores.asks.answered, *self._sent)}
        waiting = [item for item in attention.open() if item.id not in gone]
        snoozed = attention.snoozed()
        self.query_one(NeedsHead).show(
            waiting, len(snoozed), len(errors.records) or errors.unacknowledged, self._tab
        )
        shown = (waiting, snoozed, [])[self._tab]
        empty = self.query_one(EmptyState)
        had_focus = empty.has_focus or self._list.has_focus
        empty.display = self._tab < 2 and not shown
        self._list.display = self._tab < 2 and bool(shown)
        self.query_one("#needs-card").display = self._list.display
        self.query_one(ErrorsPane).display = self._tab == 2
        if empty.display:
            empty.show_text(*(("Nothing waits for you.", "Who is down, what failed and what was answered unseen comes here.")
                              if self._tab == 0 else ("Nothing is put away.", "Z puts an item away for a while.")))  # fmt: skip
        if self._tab < 2:
            before = self._list.current
            self._fit(len(shown))
            self._list.show(shown)
            after = self._list.current
            if before is not None and after is not None and after.id != before.id:
                self._shown, self._shown_at = after.id, time.monotonic()
        # list and empty state take each other's place, and a widget that is hidden loses the focus
        if had_focus and self._tab < 2:
            self.focus_content()

    def _read_more(self, item: AttentionItem) -> None:
        """Show what tells more of an item, once the cursor rests on it."""
        if item.id == self._more_of:
            return
        self._more_of = item.id
        self._reading.forget()
        turns = [
            turn for turn in self._stores.turns.of_specialist(item.who) if item.kind in ("asks", "stalled")
        ]
        self._show_more(_said(turns[0].prompt, turns[0].content) if turns else [])
        if not turns:
            self.set_timer(REST_S, lambda: self._request_more(item))

    def _request_more(self, item: AttentionItem) -> None:
        def show(read: LogText | MessageList) -> None:
            if self.is_attached and item.id == self._more_of:
                self._show_more(_log(read) if isinstance(read, LogText) else _exchange(read, item.request_id))

        row, records = self._stores.fleet.rows.get(item.who), self._stores.errors.records
        told = any(number in records and records[number].evidence for number in item.errors)
        if item.id != self._more_of or not self.is_on_screen or told:  # evidence is the end of the log
            return
        if item.kind in ("down", "error") and row is not None and row.transport != "api":
            # the newest lines tell why: no more of them than are seen without scrolling
            room = max(2, self.size.height - self._list.size.height - CARD_ROWS)
            self._reading.request(GetLogs(item.who, room), show, quiet=True)
        elif item.session_id:
            self._reading.request(ListMessages(item.session_id), show, quiet=True)

    def _show_more(self, lines: list[Content]) -> None:
        more = self.query_one("#needs-more", Static)
        more.display = bool(lines)
        more.update(Content("\n").join(lines))

    def on_needs_list_moved(self) -> None:
        self.query_one("#needs-card").scroll_home(animate=False)
        self._show_card()
        self.refresh_bindings()  # the line of keys says what they do here

    def _show_card(self) -> None:
        item = self._list.current
        if item is None:
            return
        card = self.query_one("#needs-card")
        card.set_class(item.kind == "asks", "-asks")
        sign, _ = SIGNS[item.kind]
        asks = self._asks()
        title = f"{sign} {item.who.removesuffix('-ai')} · {item.short}"
        if asks:
            title = f"{sign} {item.who.removesuffix('-ai')} {what_it_does(asks[0])}"
        if len(asks) > 1:
            title = f"{sign} {len(asks)} calls of {asks[0].tool}, answered together"
        card.border_title = literal(title)
        keys = (
            list(ASK_KEYS)
            if asks
            else [*self._keys_of(item), *(() if item.kind == "asks" else (("a", "seen"),))]
        )
        if asks and (not asks[0].always or asks[0].tool == QUESTION):
            keys.remove(("A", "always"))
        if asks and asks[0].tool == QUESTION:
            keys.remove(("a", "once"))
        if len(asks) == 1 and asks[0].options:
            keys.insert(0, ("c", "choose"))
        keys.append(("Z", "bring back" if item.snoozed_until else "snooze"))
        card.border_subtitle = Content(" · ").join(
            Content.assemble((key, "bold $text-primary"), (f" {word}", "$text-muted")) for key, word in keys
        )
        text = Content("\n").join(self._card(item))
        if len(asks) == 1:
            text = ask_body(asks[0], self._stores)
        elif asks:
            text = Content("\n").join(
                literal(f"{ask.ai_id.removesuffix('-ai')}  {one_line(ask.arguments, 2_000)}") for ask in asks
            )
        card.query_one("#needs-text", Static).update(text)
        self._read_more(item)

    def _asks(self) -> list[Ask]:
        """Return the calls that an answer is given to: the marked ones, else that of the cursor."""
        item, known = self._list.current, self._stores.asks.asks
        marked = [one.id for one in self._list.items if one.id in self._list.marked]
        ids = marked or ([item.id] if item is not None else [])
        return [ask for name in ids if (ask := known.get(name.removeprefix("asks:"))) is not None]

    def key_words(self) -> dict[str, str]:
        """Return what the keys with two meanings do with the item under the cursor."""
        if self._asks() and self._tab < 2:
            return {"acknowledge": "allow", "acknowledge_all": "always", "stop": "deny"}
        return {"acknowledge": "seen", "acknowledge_all": "all seen", "stop": "stop"}

    def why_not(self, verb: str) -> str:
        """Return why a verb has no use on the item under the cursor now."""
        if self._tab == 2:
            return "" if verb in OF_ERRORS else "that is for what waits: [ goes there"
        if self._list.current is None:
            return "nothing waits here" if verb in OF_ITEMS else ""
        return self._why_not(verb, self._list.current, self._asks())

    def _keys_of(self, item: AttentionItem) -> Keys:
        """Return the keys of a kind of item that have a use on this one."""
        asks = [ask] if (ask := self._stores.asks.asks.get(item.id.removeprefix("asks:"))) else []
        keys = [key for key in KEYS[item.kind] if not self._why_not(MEANT[key[0]], item, asks)]
        return tuple(key for key in keys if key != ("a", "allow") or not any(map(is_question, asks)))

    def _why_not(self, verb: str, item: AttentionItem, asks: list[Ask]) -> str:
        """Return why a verb has no use on an item that asks for the answers given; empty if it has one."""
        row = self._stores.fleet.rows.get(item.who)
        match verb:
            case "write" | "its-answers" if not asks:
                return "only what asks you is answered"
            case "start" if row is None or row.state in LIVE:
                return (
                    f"{row.name} runs: nothing to start"
                    if row is not None
                    else "nobody is to be started here"
                )
            case "stop" if not asks and (row is None or not row.pid):
                return (
                    f"{row.name} does not run: nothing to stop"
                    if row is not None
                    else "nobody is to be stopped here"
                )
            case "log" if row is None or row.transport == "api":
                return "no process of ours wrote a log here"
            case _:
                return ""

    def _answer(self, choice: Choice) -> None:
        """Answer; a key typed before the call could be read changes nothing."""
        asks = self._asks()
        item = self._list.current
        early = AskDialog.EARLY_S > 0 and time.monotonic() < self._shown_at + AskDialog.EARLY_S
        if early and not self._list.marked and item is not None and item.id == self._shown:
            self.query_one("#needs-card").border_subtitle = literal(
                "it came here just now: read it, then press again", "$warning"
            )
            return
        if choice.answer != "deny" and any(ask.tool == QUESTION for ask in asks):
            self._commands.notify("it is a question: c shows its answers", failed=True)
            return
        if choice.answer == "always" and any(not ask.always for ask in asks):
            self._commands.notify("no rule can be written for this call: allow it once", failed=True)
            return
        # before the backend has confirmed: the next key must not answer the same call again
        self._sent |= {ask.id for ask in asks}
        self._list.dealt_with |= {f"asks:{ask.id}" for ask in asks}
        self._list.marked.clear()

        def not_sent(ask: Ask) -> None:
            self._sent.discard(ask.id)
            self._fill()

        self._commands.asks.answer(asks, choice, not_sent)
        self._fill()

    def _card(self, item: AttentionItem) -> list[Content]:
        since = time.strftime("%H:%M:%S", time.localtime(item.since)) if item.since else "today"
        lines = [
            literal(one_line(item.why, 2_000)),
            literal(f"since {since}{f' · {item.count} times' if item.count > 1 else ''}", "$text-muted"),
        ]
        row = self._stores.fleet.rows.get(item.who)
        if row is not None:
            lines.append(literal(f"{row.title} · {row.model_display} · {row.provider}", "$text-muted"))
        for number in item.errors:
            record = self._stores.errors.records.get(number)
            if record is not None and record.evidence:
                lines += [literal(""), *_logged(record.evidence.splitlines()[-8:])]
        return lines

    def on_needs_list_chosen(self) -> None:
        self.action_open()

    def on_needs_head_tab_chosen(self, event: NeedsHead.TabChosen) -> None:
        self._show_tab(event.tab)

    def action_open(self) -> None:
        if self._tab < 2 and (item := self._list.current):
            self._commands.attention.open(item)

    def action_acknowledge(self) -> None:
        if self._tab < 2 and (item := self._list.current):
            if self._asks():
                self._answer(Choice("allow"))
            elif item.kind == "asks":
                self._commands.notify("this question is answered in the chat: ⏎ opens it", failed=True)
            else:
                self._list.dealt_with.add(item.id)
                self._commands.attention.acknowledge([item])

    def action_acknowledge_all(self) -> None:
        if self._tab < 2 and self._asks():
            self._answer(Choice("always"))
        else:
            self._commands.attention.acknowledge_all()

    def action_say_why(self) -> None:
        """Deny the call under the cursor with a word for the model."""
        item = self._list.current if self._tab < 2 else None
        if item is not None and (ask := self._stores.asks.asks.get(item.id.removeprefix("asks:"))):
            self._commands.asks.show(ask, say_why=True)

    def action_options(self) -> None:
        """Show the call under the cursor alone, with the answers of the agent's own, each behind its key."""
        item = self._list.current if self._tab < 2 else None
        if item is not None and (ask := self._stores.asks.asks.get(item.id.removeprefix("asks:"))):
            self._commands.asks.show(ask)

    def action_mark(self) -> None:
        """Mark the call under the cursor to be answered with others of the same tool, or unmark it."""
        item, known = self._list.current, self._stores.asks.asks
        if self._tab >= 2 or item is None:
            return
        marked = self._list.marked
        ask = known.get(item.id.removeprefix("asks:"))
        others = [one for name in marked if (one := known.get(name.removeprefix("asks:"))) is not None]
        if item.id in marked:
            marked.discard(item.id)
        elif ask is None:
            self._commands.notify("only tool calls are answered together", failed=True)
            return
        elif any(one.tool != ask.tool for one in others):
            self._commands.notify(
                f"only calls of one tool are answered together: {others[0].tool} is marked", failed=True
            )
            return
        else:
            marked.add(item.id)
        self._list.action_move(1)
        self._list.refresh()
        self._show_card()

    def action_next(self) -> None:
        """Go to the next that waits, from the last to the first."""
        if self._tab < 2 and (items := self._list.items):
            at = items.index(self._list.current) if self._list.current in items else -1
            self._list.go_to(items[(at + 1) % len(items)].id)

    def action_read(self, pages: int) -> None:
        """Show more of the card, or what stood before."""
        card = self.query_one("#needs-card")
        card.scroll_relative(y=pages * max(1, card.size.height - 1), animate=False)

    def action_snooze(self) -> None:
        if self._tab < 2 and (item := self._list.current):
            self._list.dealt_with.add(item.id)
            self._commands.attention.snooze(item)

    def action_start(self) -> None:
        if targets := [name for name in self.targets() if self._stores.fleet.rows[name].state not in LIVE]:
            self._commands.fleet.launch(targets)

    def action_stop(self) -> None:
        if self._tab < 2 and self._asks():
            self._answer(Choice("deny"))
        elif targets := self.targets():
            self._commands.fleet.stop(targets)

    def action_logs(self) -> None:
        if targets := self.targets():
            self._commands.navigator.open_logs(targets[0])

    def action_copy(self) -> None:
        if self._tab < 2 and (item := self._list.current):
            self._commands.copy(f"{item.who}: {item.short}: {item.why}", "what waits")

    def action_tab(self, step: int) -> None:
        self._show_tab(self._tab + step)

    def action_back(self) -> None:
        self._commands.navigator.show("fleet")


def _said(question: str, answer: str) -> list[Content]:
    """Return a question and what was answered, each below its name."""
    asked = [literal("asked", "$text-secondary"), literal(question)] if question else []
    return asked + ([literal("answered", "$text-primary"), literal(answer)] if answer else [])


def _exchange(read: MessageList, request_id: str) -> list[Content]:
    """Return a turn's question and answer; members of a team have their question in common."""
    whose = (request_id, request_id.partition("/")[0])
    asked = [m.content for m in read.messages if m.role == "user" and m.request_id in whose]
    answers = [m.content for m in read.messages if m.role != "user" and m.request_id == request_id]
    return _said("".join(asked[:1]), "".join(answers[-1:]))


def _log(read: LogText) -> list[Content]:
    return [literal("its log", "$text-primary"), *_logged(read.lines)] if read.lines else []


def _logged(lines: Sequence[str]) -> list[Content]:
    return [literal(one_line(log_words(line), 400), "$text-muted") for line in lines]
