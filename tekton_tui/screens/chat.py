"""Screen 2: a tab for each specialist, its conversation, and what it does right now."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import ContentSwitcher

from tekton_tui.commands import Commands
from tekton_tui.hearing import hear
from tekton_tui.stores import Stores
from tekton_tui.stores.fleet import LIVE
from tekton_tui.transcript import warm
from tekton_tui.widgets.chat_view import ChatView
from tekton_tui.widgets.empty import EmptyState
from tekton_tui.widgets.tabs import ChatTabs


class ChatPane(Vertical):
    """The tabs and the views behind them; a view is made when its tab is first shown."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+pageup", "step(-1)", "Previous tab", show=False, id="chat.previous"),
        Binding("ctrl+pagedown", "step(1)", "Next tab", show=False, id="chat.next"),
    ]

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._opened: list[str] = []

    def compose(self) -> ComposeResult:
        yield ChatTabs(self._stores, id="chat-tabs")
        yield EmptyState(id="chat-empty")
        yield ContentSwitcher(id="chat-views")

    def on_mount(self) -> None:
        self.call_after_refresh(warm)
        hear(self, self._stores.fleet.summary_changed, self._follow_fleet)
        self._follow_fleet()

    @property
    def current(self) -> ChatView | None:
        shown = self.query_one(ContentSwitcher).current
        return self.query_one(f"#{shown}", ChatView) if shown else None

    def open_tab(self, ai_id: str, session_id: str = "", sought: str = "") -> None:
        """Show a specialist's conversation, making its tab if there is none; `session_id` names an earlier one."""
        if ai_id not in self._opened:
            self._opened.append(ai_id)
        self.call_after_refresh(self._show, ai_id, session_id, sought)

    def focus_content(self) -> None:
        if self.current is not None:
            self.current.focus_composer()
        else:
            self.call_after_refresh(self._open_first)

    def _open_first(self) -> None:
        """Show the first that runs, unless somebody was named meanwhile."""
        if not self._opened and (live := self._stores.fleet.live()):
            self.open_tab(live[0].id)

    def open_number(self, number: int) -> None:
        """Show the tab with this number, counted from 1."""
        tabs = self.query_one(ChatTabs).ids
        if 0 < number <= len(tabs):
            self.open_tab(tabs[number - 1])

    def draft(self, text: str) -> None:
        if self.current is not None:
            self.current.put_draft(text)

    async def _show(self, ai_id: str, session_id: str, sought: str) -> None:
        switcher = self.query_one(ContentSwitcher)
        name = f"chat-{ai_id}"
        if not switcher.query(f"#{name}"):
            await switcher.mount(ChatView(ai_id, self._stores, self._commands, id=name))
        switcher.current = name
        self._follow_fleet()
        tabs = self.query_one(ChatTabs)
        tabs.current = ai_id
        view = self.query_one(f"#{name}", ChatView)
        if session_id:
            view.use_session(session_id, sought)
        if not sought:
            view.focus_composer()

    def _follow_fleet(self) -> None:
        """Keep a tab for each that runs and each that was opened, in the catalogue's order."""
        rows = self._stores.fleet.rows.values()
        ids = [row.id for row in rows if row.state in LIVE or row.id in self._opened]
        self.query_one(ChatTabs).ids = ids
        empty = self.query_one(EmptyState)
        empty.display = self.query_one(ContentSwitcher).current is None
        if empty.display:
            empty.say(
                "No conversation is open.", "Launch somebody on the fleet screen (1), then Enter on a row."
            )

    @on(ChatTabs.Chosen)
    def _chosen(self, event: ChatTabs.Chosen) -> None:
        self.open_tab(event.ai_id)

    def action_step(self, step: int) -> None:
        tabs = self.query_one(ChatTabs)
        if tabs.ids:
            index = tabs.ids.index(tabs.current) if tabs.current in tabs.ids else -step
            self.open_tab(tabs.ids[(index + step) % len(tabs.ids)])
