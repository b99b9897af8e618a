"""The console, put together: stores, desk, screens. What they do is theirs; nothing is decided here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from textual import events, on
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import ContentSwitcher

from tekton_tui.attention import Attention
from tekton_tui.commands import Commands
from tekton_tui.desk import Connect, Desk
from tekton_tui.failures import Failures
from tekton_tui.palette import system_commands
from tekton_tui.panes import PANES
from tekton_tui.patching import PatchScreen
from tekton_tui.preferences import Preferences
from tekton_tui.rubbish import Rubbish
from tekton_tui.safe_text import literal
from tekton_tui.stores import Stores
from tekton_tui.themes import DARK_NAME, TEKTON_DARK, TEKTON_LIGHT
from tekton_tui.tick import FrameTick
from tekton_tui.widgets.command_line import CommandLine
from tekton_tui.widgets.header import HeaderLine
from tekton_tui.widgets.key_line import KeyLine
from tekton_tui.widgets.navigation import SCREENS, Navigation

MIN_WIDTH, MIN_HEIGHT = 80, 24


class TektonApp(App[None]):
    """Give it a way to connect; it paints before it is used."""

    CSS_PATH = "app.tcss"
    TITLE = "tekton"
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(number), f"show_pane('{name}')", name.title(), show=False, id=f"go.{name}")
          for number, name in enumerate(SCREENS, 1)),
        *(Binding(f"alt+{number}", f"chat_tab({number})", f"Chat tab {number}", show=False, id=f"go.tab-{number}")
          for number in range(1, 10)),
        Binding("colon", "command_line", "Command", key_display=":", id="app.command", show=False),
        Binding("question_mark", "open_help", "Keys", key_display="?", id="app.help"),
        Binding("f1", "open_help", "Keys", id="app.help-while-writing"),
        Binding("e", "next_error(1)", "Next error", show=False, id="app.next-error"),
        Binding("E", "next_error(-1)", "Previous error", show=False, id="app.previous-error"),
        Binding("f5", "reconnect", "Connect again", show=False, id="app.reconnect"),
        Binding("f2", "settings", "Settings", show=False, id="app.settings"),
        Binding("ctrl+q", "quit", "Quit", id="app.quit", priority=True),
    ]  # fmt: skip

    def __init__(self, connect: Connect, *, theme: str = "", preferences: Preferences | None = None) -> None:
        """`theme` holds for this run and goes before the preferences."""
        super().__init__()
        self.preferences = preferences or Preferences()
        self.stores = Stores()
        self.desk = Desk(self.stores, connect)
        self.commands = Commands(self, self.desk)
        self.frame_tick = FrameTick()
        self._rubbish = Rubbish(lambda: bool(self.stores.turns.turns))
        self.failures = Failures(self.stores, self.tell, self.preferences.log)
        self._attention = Attention(self, self.stores, self.preferences)
        self._error_at = -1
        self._dress(theme or self.preferences.theme)

    def compose(self) -> ComposeResult:
        yield HeaderLine(self.stores, id="header")
        yield Navigation(self.stores, id="navigation")
        yield ContentSwitcher(id="panes")
        yield CommandLine(id="command-line")
        yield KeyLine(show_command_palette=False, compact=True)

    def _dress(self, theme: str) -> None:
        """Choose the theme before the style sheet is first read: it is then read once."""
        self.register_theme(TEKTON_DARK)
        self.register_theme(TEKTON_LIGHT)
        self.theme = theme if theme in self.available_themes else DARK_NAME
        if theme and theme != self.theme:
            self.preferences.problems.append(f"there is no theme {theme!r}; f2 shows those there are")
        self.set_class(self.preferences.density == "compact", "-compact")
        self.stylesheet.set_variables(self.get_css_variables())

    def on_mount(self) -> None:
        self.failures.listen()
        self.desk.notice.subscribe(self.tell)
        self._attention.start()
        self.stores.turns.ended.subscribe(lambda turn: self._rubbish.stir())
        self.call_after_refresh(self._open_up)

    def _open_up(self) -> None:
        """Show the first screen, once the frame around it is painted: its modules are imported meanwhile."""
        self.show_pane("fleet")
        self._take_preferences()
        self.call_after_refresh(self._start_desk)

    def _take_preferences(self) -> None:
        """Put the operator's keys in force, and say what of the wishes cannot be."""
        if self.preferences.keymap:
            from tekton_tui.keymap import grant

            keymap, problems = grant(self.preferences.keymap, self.preferences.source)
            self.set_keymap(keymap)
            self.preferences.problems += problems
        for problem in self.preferences.problems:
            self.tell(problem, True)

    def choose(self, name: str, value: Any) -> None:
        """Set a preference, from now on and at the next start."""
        try:
            self.preferences.choose(name, value)
        except OSError as error:
            self.tell(f"{name} holds for now only: {error}", True)
        if name == "theme":
            self.theme = value
        self.set_class(self.preferences.density == "compact", "-compact")
        self._attention.write_title()

    def _start_desk(self) -> None:
        """Begin to talk to the backend, after the first frame."""
        self._rubbish.start()
        self.run_worker(self.desk.run(), name="desk", exclusive=True, exit_on_error=True)

    def get_default_screen(self) -> Screen[None]:
        return PatchScreen(id="_default")

    async def on_event(self, event: events.Event) -> None:
        """Let keys go before streams."""
        if isinstance(event, events.InputEvent):
            self.frame_tick.give_way()
            self._rubbish.stir()
        await super().on_event(event)

    async def on_unmount(self) -> None:
        self._rubbish.stop()
        self.frame_tick.stop()
        self._attention.stop()
        await self.commands.flush_drafts()
        await self.desk.close()

    # what commands need

    def pane(self, name: str) -> Any:
        """Return a screen's widget; it is made when it is first shown."""
        return self.query_one(f"#{name}", Vertical)

    def show_pane(self, name: str) -> None:
        """Go to a screen. The ledger of errors says what notices say, and they would lie over its evidence."""
        if name == "errors":
            self.clear_notifications()
        switcher = self.query_one("#panes", ContentSwitcher)
        if not switcher.query(f"#{name}"):
            switcher.mount(PANES[name](self.stores, self.commands, id=name))
        switcher.current = name
        self.query_one(Navigation).current = name
        self.in_pane(name, lambda pane: self._focus_pane(name))

    def in_pane(self, name: str, act: Callable[[Any], None]) -> None:
        """Do something with a screen's widget: now, or once it is made."""
        pane = self.pane(name)
        if pane.is_mounted:
            act(pane)
        else:
            pane.call_after_refresh(act, pane)

    def _focus_pane(self, name: str) -> None:
        if self.query_one("#panes", ContentSwitcher).current == name:
            self.pane(name).focus_content()

    def tell(self, text: str, bad: bool) -> None:
        """Show a notice; its text is never markup."""
        self.notify(
            literal(text).plain,
            severity="error" if bad else "information",
            markup=False,
            timeout=8 if bad else 4,
        )

    def leave(self) -> None:
        self.exit()

    def open_help(self) -> None:
        from tekton_tui.screens.help import HelpScreen

        self.push_screen(HelpScreen(self.screen))

    # keys

    def action_show_pane(self, name: str) -> None:
        self.show_pane(name)

    def action_chat_tab(self, number: int) -> None:
        self.show_pane("chat")
        self.in_pane("chat", lambda pane: pane.open_number(number))

    def action_open_help(self) -> None:
        self.open_help()

    def action_command_line(self) -> None:
        self.query_one(CommandLine).open()

    def action_reconnect(self) -> None:
        """Try once more to attach, after a refusal; a link that was lost comes back by itself."""
        if self.stores.connection.state == "failed":
            self.run_worker(self.desk.run(), name="desk", exclusive=True, exit_on_error=True)
        else:
            self.tell(f"nothing to do: {self.stores.connection.state}", False)

    def action_settings(self) -> None:
        from tekton_tui.screens.settings import SettingsScreen

        self.push_screen(SettingsScreen(self, self.stores, self.desk))

    def action_next_error(self, step: int) -> None:
        """Walk through the failures nobody has acknowledged, newest first."""
        unseen = [record for record in self.stores.errors.newest_first() if not record.acknowledged]
        if not unseen:
            self.tell("no unacknowledged errors", False)
            return
        self._error_at = (self._error_at + step) % len(unseen)
        self.commands.open_errors(unseen[self._error_at].where)

    async def action_quit(self) -> None:
        self.commands.quit()

    @on(Navigation.Chosen)
    def _navigated(self, event: Navigation.Chosen) -> None:
        self.show_pane(event.name)

    @on(CommandLine.Entered)
    def _entered(self, event: CommandLine.Entered) -> None:
        event.run(self)

    def get_system_commands(self, screen: Screen[Any]) -> Any:
        """Offer every action in the palette."""
        yield from (SystemCommand(*command) for command in system_commands(self))

    def focused_widget(self) -> Widget | None:
        return self.focused
