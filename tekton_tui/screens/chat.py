"""Place 2: a tab for each specialist, its conversation, and what it does right now."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widgets import ContentSwitcher

from backend.schema.params import GetPreference, PutPreference
from backend.schema.results import Preference
from backend.schema.states import LIVE
from tekton_tui.commands import Commands
from tekton_tui.stores import Stores
from tekton_tui.transcript import warm
from tekton_tui.verbs import bindings
from tekton_tui.widgets.chat.chat_view import ChatView
from tekton_tui.widgets.chat.tabs import ChatTabs
from tekton_tui.widgets.common.empty import EmptyState

LAST = "chat:last"
"""Under which the backend keeps who was talked to last."""
LAST_S = 0.5
"""How long its answer is waited for, in seconds."""
HEAD = "numa-ai"
"""The platform's overseer: whom a first conversation is with."""


class ChatPane(Vertical):
    """The tabs and the views behind them; a view is made when its tab is first shown."""

    DEFAULT_CSS = """
    #chat-tabs { height: 1; background: $background; }
    #chat-views { height: 1fr; }
    #chat-views > ChatView { height: 1fr; }
    """

    BINDINGS: ClassVar[list[BindingType]] = bindings("chat-tabs")

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._opened: list[str] = []
        self.opening = False
        """Whether a conversation is on its way to the screen: keys wait for it."""
        self._comes: Callable[[bool], bool] | None = None
        """Takes whether there is somebody to write to, where that was asked for before the backend had said."""

    def compose(self) -> ComposeResult:
        yield ChatTabs(self._stores, id="chat-tabs")
        yield EmptyState(self._stores, id="chat-empty")
        yield ContentSwitcher(id="chat-views")

    def on_mount(self) -> None:
        # the first answer with code would wait for the import of the highlighter: it is done while nobody waits
        self.call_after_refresh(warm)
        self._stores.fleet.summary_changed.subscribe_widget(self, self._follow_fleet)
        self._stores.connection.changed.subscribe_widget(self, self._follow_fleet)
        self._follow_fleet()

    @property
    def current(self) -> ChatView | None:
        shown = self.query_one(ContentSwitcher).current
        return self.query_one(f"#{shown}", ChatView) if shown else None

    def open_tab(self, ai_id: str, session_id: str = "", sought: str = "") -> None:
        """Show a specialist's conversation, making its tab if there is none; `session_id` names an earlier one."""
        if ai_id not in self._opened:
            self._opened.append(ai_id)
        self.opening = True
        # the tab is drawn at once; building its conversation takes longer
        self.call_after_refresh(self._show, ai_id, session_id, sought)

    def on_show(self) -> None:
        self._stores.turns.read(self.query_one(ChatTabs).current)

    def on_hide(self) -> None:
        self._stores.turns.leave(self.query_one(ChatTabs).current)

    def focus_content(self) -> None:
        if self.current is not None:
            self.current.focus_composer()
        elif self._stores.fleet.rows or self._stores.connection.state != "attaching":
            self.opening = True
            self.call_after_refresh(self._open_first)
        else:
            # what is written waits for somebody to write to; the rest of the screen stays alive meanwhile
            self._comes = self._commands.navigator.expect_chat()

    def _open_expected(self) -> None:
        """Show somebody if that was asked for before the backend had said who there is."""
        comes, self._comes = self._comes, None
        if comes is not None and comes(bool(self._stores.fleet.live())):
            self.focus_content()

    def _open_first(self) -> None:
        """Show who was talked to last, unless somebody was named meanwhile."""
        if not self._opened:
            self._commands.controller.request(
                GetPreference(LAST), self._open_last, otherwise=self._open_last, quiet=True
            )
            self.set_timer(LAST_S, self._open_last)  # keys wait: a slow backend must not have them dropped

    def _open_last(self, last: Preference | None = None) -> None:
        """Show who was talked to last if that one runs, else the platform's head, else the first that runs."""
        live = [row.id for row in self._stores.fleet.live()]
        if self._opened or not self.is_attached:
            return
        wanted = (last.value if last is not None else None, HEAD)
        if first := next((ai_id for ai_id in wanted if ai_id in live), next(iter(live), None)):
            self.open_tab(first)
        else:
            self.opening = False

    def targets(self) -> list[str]:
        """Return whom a verb means: whose conversation is shown."""
        return [self.current.ai_id] if self.current is not None else []

    def take_text(self, text: str) -> bool:
        """Put text that was typed or pasted outside of a field into the composer that is shown."""
        return self.current is not None and self.current.take_text(text)

    def run_line(self, text: str) -> bool:
        """Carry out a line in the conversation that is shown, if one is."""
        if self.current is not None:
            self.current.run_line(text)
        return self.current is not None

    def draft(self, text: str) -> None:
        if self.current is not None:
            self.current.put_draft(text)

    async def _show(self, ai_id: str, session_id: str, sought: str) -> None:
        switcher = self.query_one(ContentSwitcher)
        name = f"chat-{ai_id}"
        if made := not switcher.query(f"#{name}"):
            view = ChatView(ai_id, self._stores, self._commands, session_id, sought, id=name)
            await switcher.mount(view)
        switcher.current = name
        self._follow_fleet()
        tabs = self.query_one(ChatTabs)
        if tabs.current != ai_id:
            tabs.current = ai_id
            self._commands.controller.request(PutPreference(LAST, ai_id), quiet=True)
        if self.is_on_screen:
            self._stores.turns.read(ai_id)
        view = self.query_one(f"#{name}", ChatView)
        tabs.session = view.title
        if session_id and not made:
            view.use_session(session_id, sought)
        if not made:
            view.take_offer()
        if not sought:
            view.focus_composer()
        self.opening = False

    def _follow_fleet(self) -> None:
        """Keep a tab for each that runs and each that was opened, in the catalogue's order."""
        if (rows := self._stores.fleet.rows.values()) or self._stores.connection.stale:
            self._open_expected()
        ids = [row.id for row in rows if row.state in LIVE or row.id in self._opened]
        self.query_one(ChatTabs).ids = ids
        empty = self.query_one(EmptyState)
        empty.display = self.query_one(ContentSwitcher).current is None
        if empty.display:
            empty.show_text(
                "No conversation is open.", "Launch somebody on the fleet screen (1), then Enter on a row."
            )

    @on(ChatTabs.SwitchRequested)
    def _switch(self) -> None:
        self._commands.navigator.open_switcher()

    @on(ChatView.Titled)
    def _titled(self, event: ChatView.Titled) -> None:
        event.stop()
        if event.view is self.current:
            self.query_one(ChatTabs).session = event.view.title

    @on(ChatTabs.Chosen)
    def _chosen(self, event: ChatTabs.Chosen) -> None:
        self.open_tab(event.ai_id)

    def action_step(self, step: int) -> None:
        tabs = self.query_one(ChatTabs)
        if tabs.ids:
            # without a current one any step leads to the first
            index = tabs.ids.index(tabs.current) if tabs.current in tabs.ids else -step
            self.open_tab(tabs.ids[(index + step) % len(tabs.ids)])
