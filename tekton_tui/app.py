"""The console's app: makes stores, controller, commands and the frame around the screens, and wires them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from textual import events, on
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.filter import LineFilter
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import ContentSwitcher

from backend.schema.attention import AttentionItem
from tekton_tui.commands import Commands, ConsoleCommands
from tekton_tui.commands.line import Known, Line
from tekton_tui.commands.palette import entries_here, entries_of, runner, system_commands
from tekton_tui.navigation import FocusesContent, ScreenNavigator
from tekton_tui.runtime.cluster_widths import ClusterWidths
from tekton_tui.runtime.controller import Connect, Controller
from tekton_tui.runtime.frame_scheduler import FrameScheduler
from tekton_tui.runtime.gc_scheduler import GcScheduler
from tekton_tui.runtime.input_queue import HARMLESS, InputQueue, is_displayed
from tekton_tui.runtime.internal_errors import InternalErrors
from tekton_tui.runtime.notifications import Notifier
from tekton_tui.runtime.partial_compositor import PartialUpdateScreen
from tekton_tui.runtime.preferences import Preferences
from tekton_tui.runtime.themes import DARK_NAME, THEMES
from tekton_tui.runtime.tokens import cursor_of
from tekton_tui.safe_text import literal
from tekton_tui.screens.registry import ADDRESSES, SCREENS
from tekton_tui.stores import Stores
from tekton_tui.verbs import EVERYWHERE, bindings
from tekton_tui.widgets.common.command_line import CommandLine
from tekton_tui.widgets.common.header import Header
from tekton_tui.widgets.common.key_line import KeyLine
from tekton_tui.widgets.common.screen_bar import ScreenBar

NOTICE_S, FAILURE_NOTICE_S = 4, 8
"""How long notices stay on the screen."""


RIGHT_BUTTON = 3
FULL_SIZE = (80, 24)
"""Columns and rows from which everything is shown."""


class MainScreen(PartialUpdateScreen):
    """The screen around all panes. What is hidden does not keep the focus.

    A widget gets the focus it asked for a moment later. A pane may show another widget in its place by then, or be left:
    keys would go to what nobody sees.
    """

    _passed_on = False
    """Whether a pane was asked who gets the focus in place of a hidden widget, and nobody in sight has it yet."""

    def set_focus(
        self, widget: Widget | None, scroll_visible: bool = True, from_app_focus: bool = False
    ) -> None:
        before = self.focused
        super().set_focus(widget, scroll_visible, from_app_focus)
        if widget is None or is_displayed(widget):
            self._passed_on &= widget is None
        else:
            # behind a refresh, for a class that was set just now may show it
            self.call_after_refresh(self._leave_hidden, widget, before)

    def _reset_focus(self, widget: Widget, avoiding: list[Widget] | None = None) -> None:
        """Take the focus from a widget that goes, or that was hidden: Textual would give it to another beside it, if any."""
        if avoiding or not self._leave_hidden(widget):
            super()._reset_focus(widget, avoiding)

    def _leave_hidden(self, widget: Widget, before: Widget | None = None) -> bool:
        """Take the focus from a widget that is hidden still, if its pane can say who gets it, or `before` is in sight."""
        if widget is not self.focused or is_displayed(widget):
            return False
        nodes = [node for node in widget.ancestors if isinstance(node, Widget) and is_displayed(node)]
        pane = next((node for node in nodes if isinstance(node, FocusesContent)), None)
        if pane is None and before is not None and is_displayed(before):
            self.set_focus(before)
        elif pane is not None and not self._passed_on:
            self._passed_on = True
            self.set_focus(None)
            pane.focus_content()
        else:
            return False
        return True


class TektonApp(App[None]):
    """The console. It paints before it connects."""

    CSS_PATH = "app.tcss"
    TITLE = "tekton"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(row.key, f"show_screen('{row.name}')", row.title, show=False, id=f"go.{row.name}")
            for row in SCREENS.values()
            if row.key
        ),
        *bindings(EVERYWHERE),
    ]

    def __init__(
        self,
        connect: Connect,
        *,
        theme: str = "",
        preferences: Preferences | None = None,
        elsewhere: str = "",
    ) -> None:
        """`theme` is for this run and goes before the preferences; `elsewhere` is the address of a gateway that is not the
        home's own, which `connect` would start.
        """
        super().__init__()
        self.preferences = preferences or Preferences()
        self._sized = False
        """Whether it had a size before: the first one is painted anyway."""
        self.stores = Stores()
        self.stores.connection.starts_here = not elsewhere
        if elsewhere:
            self.stores.connection.to(elsewhere.partition(",")[0].strip())
        self.controller = Controller(self.stores, connect)
        self._set_themes(theme or self.preferences.theme)
        self.navigator = ScreenNavigator(self, self.controller)
        self.commands = self.navigator.commands = Commands.build(
            self.controller,
            self.navigator,
            ConsoleCommands(self.controller, self.navigator, self.preferences, sorted(self.available_themes)),
        )
        self.frame_scheduler = FrameScheduler()
        self.input_queue = InputQueue(self, self._hand_on, lambda words: self._show_notice(words, False))
        self.navigator.input_queue = self.input_queue
        self._gc_scheduler = GcScheduler(lambda: bool(self.stores.turns.turns))
        self.internal_errors = InternalErrors(self.stores, self._show_notice, self.preferences.log)
        self._notifier = Notifier(self, self.stores, self.preferences)
        self._cluster_widths: ClusterWidths | None = None
        self._waiting_at = ""
        """Id of the item that `e` went to last."""

    def compose(self) -> ComposeResult:
        yield Header(self.stores, id="header")
        yield ScreenBar([row for row in SCREENS.values() if row.key], self.stores, id="navigation")
        yield ContentSwitcher(id="panes")
        yield CommandLine(self.commands, self._known, self._act_here, id="command")
        yield KeyLine()

    def _set_themes(self, theme: str) -> None:
        """Choose the theme before the style sheet is first parsed, so that it is parsed once."""
        for own in THEMES:
            self.register_theme(own)
        self.theme = theme if theme in self.available_themes else DARK_NAME
        if theme and theme != self.theme:
            self.preferences.problems.append(f"there is no theme {theme!r}; f2 shows those there are")
        self.set_class(self.preferences.density == "compact", "-compact")
        # `App.__init__` has made these of Textual's default theme already.
        self.stylesheet.set_variables(self.get_css_variables())

    def on_mount(self) -> None:
        # what is typed while the first screen is still being made waits for it
        self.input_queue.opening("the console", lambda: bool(self.query("#panes > *")))
        self._measure_clusters()
        self.internal_errors.install()
        self.controller.notice.subscribe(self._show_notice)
        self.preferences.changed.subscribe(self._preference_changed)
        self._notifier.start()
        self.stores.turns.shown.subscribe(self.commands.attention.seen)
        self.stores.attention.came.subscribe(self._item_came)
        self.stores.turns.ended.subscribe(lambda turn: self._gc_scheduler.note_activity())
        self.call_after_refresh(self._show_first_screen)

    def _measure_clusters(self) -> None:
        """Ask the terminal how wide it draws what terminals disagree about, before anything is drawn."""
        # without a terminal nobody would answer, and the question would stand in what is written
        if self._driver is not None and not self.is_headless:
            report = partial(self._show_notice, failed=True)
            self._cluster_widths = ClusterWidths(self._driver.write, report)
            self._cluster_widths.ask()

    def on_cursor_position(self, event: events.CursorPosition) -> None:
        if self._cluster_widths is not None:
            self._cluster_widths.answered(event.x)

    def _show_first_screen(self) -> None:
        """Show the first screen once the frame around it is painted: its modules are imported meanwhile."""
        if self._exit:
            return  # asked to end while it started: nothing can be shown any more
        self.navigator.show("fleet")
        self._apply_keymap()
        self.call_after_refresh(self._start_controller)

    def _apply_keymap(self) -> None:
        """Put the operator's keys in force, and report what of the preferences cannot be."""
        if self.preferences.keymap:
            from tekton_tui.runtime.keymap import resolve_keymap

            keymap, problems = resolve_keymap(self.preferences.keymap, self.preferences.source)
            self.set_keymap(keymap)
            self.preferences.problems += problems
        for problem in self.preferences.problems:
            self._show_notice(problem, True)

    @property
    def few_colours(self) -> bool:
        """Whether the terminal shows 256 colours or fewer."""
        return self.console.color_system in ("256", "standard")

    def get_css_variables(self) -> dict[str, str]:
        """Return the theme's variables, with the ground of the row under the cursor."""
        known = super().get_css_variables()
        cursor = cursor_of(known["background"], known["primary"], few_colours=self.few_colours)
        # line-drawn widgets read the theme's variables, not the style sheet's
        self.theme_variables = {**self.theme_variables, "cursor-row": cursor}
        return {**known, "cursor-row": cursor}

    def refresh_css(self, animate: bool = True) -> None:
        """Apply the style sheet anew; before the first screen there is nothing yet to apply it to, and it is parsed anyway."""
        if self.screen_stack:
            super().refresh_css(animate)

    def _preference_changed(self, name: str) -> None:
        if name == "theme":
            self.theme = self.preferences.theme
        self.set_class(self.preferences.density == "compact", "-compact")
        # signs are replaced when a line is drawn: what does not change would keep the strips it was drawn with
        if name == "ascii":
            self._draw_anew()
        self._notifier.write_title()

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Return what every drawn line goes through: with `ascii` our signs as well."""
        filters = [*super().get_line_filters()]
        if self.preferences.ascii:
            from tekton_tui.runtime.ascii_signs import AsciiSigns

            filters.append(AsciiSigns())
        return filters

    def _draw_anew(self) -> None:
        """Have every widget drawn anew, also where nothing of it has changed."""
        for screen in self.screen_stack:
            for widget in (screen, *screen.query("*")):
                widget._styles_cache.clear()  # pyright: ignore[reportPrivateUsage]
                widget.refresh()

    def _start_controller(self) -> None:
        """Begin to talk to the backend, after the first frame."""
        self._gc_scheduler.start()
        self._run_controller()

    def _run_controller(self) -> None:
        self.run_worker(self.controller.run(), name="controller", exclusive=True, exit_on_error=True)

    def on_resize(self, event: events.Resize) -> None:
        """Below 80×24 leave out the row of places and whatever stands beside the one pane."""
        small = event.size.width < FULL_SIZE[0] or event.size.height < FULL_SIZE[1]
        self.set_class(small, "-small")
        self.navigator.show_small(small)
        resized, self._sized = self._sized, True
        if resized and self.screen_stack:
            # It forgets what it cuts off, and where it had another size for a moment no layout differs from the one before.
            self.screen.call_after_refresh(self.screen.refresh)

    def get_driver_class(self) -> type[Driver]:
        """Return a driver for which a paste is one thing, whatever is in it."""
        from tekton_tui.runtime.drivers import exact

        return exact(super().get_driver_class())

    def get_default_screen(self) -> Screen[None]:
        return MainScreen(id="_default")

    def _watch_app_focus(self, focus: bool) -> None:
        """Leave the keyboard where it is when another window is used: what is typed or pasted while that is not known yet, and
        what still waits, belongs where it was written. Textual would take the focus away."""
        self.screen.update_node_styles()

    async def on_event(self, event: events.Event) -> None:
        """Handle keys and the mouse before frames of streams."""
        if isinstance(event, events.InputEvent):
            # Before Textual acts on it, so that no frame of a stream comes between a key and what it changes.
            self.frame_scheduler.pause_for_input()
            self._gc_scheduler.note_activity()
        if isinstance(event, (events.Key, events.Paste)) and not event.is_forwarded:
            await self.input_queue.put(event)
        else:
            await super().on_event(event)

    async def _hand_on(self, event: events.Event) -> None:
        """Have Textual act on what the queue lets through."""
        if isinstance(self.screen, PartialUpdateScreen):
            self.screen.hurry()
        await super().on_event(event)

    async def on_unmount(self) -> None:
        # first the clocks, which would draw on a screen that goes away; last the client, which drafts and held calls need
        self._gc_scheduler.stop()
        self.frame_scheduler.stop()
        self._notifier.stop()
        await self.commands.undo.flush()
        await self.commands.drafts.flush()
        await self.controller.close()

    def leave(self, code: int) -> None:
        """Exit with this code as soon as the loop comes to it; may be called from a signal handler or another thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(partial(self.exit, return_code=code))

    def _handle_exception(self, error: Exception) -> None:
        """End with a traceback, unless it ends already: what opens meanwhile does not find its own widgets any more."""
        if self.is_running and not self._exit:
            super()._handle_exception(error)

    def _show_notice(self, text: str, failed: bool) -> None:
        """Show a notice, unless the same one is on the screen; its text is never markup."""
        plain = literal(text).plain
        if any(notice.message == plain and not notice.has_expired for notice in self._notifications):
            return  # what is refused for one reason is often asked for in several calls
        self.notify(
            plain,
            severity="error" if failed else "information",
            markup=False,
            timeout=FAILURE_NOTICE_S if failed else NOTICE_S,
        )

    # the command line

    def _known(self) -> Known:
        """Return what a line behind `:` may name now."""
        fleet = self.stores.fleet
        names = {name: name for name in (*SCREENS, *ADDRESSES)}
        return Known(
            fleet.rows,
            frozenset(fleet.marked),
            tuple(self.navigator.targets()),
            names,
            tuple(self.commands.console.themes),
        )

    def _act_here(self, line: Line) -> bool:
        """Carry out a verb at the place that is shown, if it holds there."""
        for entry in entries_here(self.screen):
            if entry.verb is line.verb:
                # behind the closing of the line: the verb acts on what has the focus then
                self.call_later(runner(self, entry))
                return True
        return False

    # the mouse

    @on(events.Click)
    def _clicked(self, event: events.Click) -> None:
        """Offer what can be done with what is under a right click."""
        if event.button == RIGHT_BUTTON and event.widget is not None and not self.screen.is_modal:
            self._open_menu(event.widget)

    def _open_menu(self, widget: Widget) -> None:
        nodes = [node for node in widget.ancestors_with_self if node is not self]
        entries = [
            entry
            for node in nodes
            for entry in entries_of(node)
            if entry.verb.name not in HARMLESS and entry.verb.name != "back"
        ]
        if entries:
            choices = [
                (str(number), entry.label, f"{entry.key:<7}{entry.why_not or entry.verb.help}")
                for number, entry in enumerate(entries)
            ]

            runners = [runner(self, entry) for entry in entries]

            def carry_out(number: str) -> None:
                self.call_later(runners[int(number)])

            self.navigator.choose("what", choices, carry_out)

    # keys

    def action_show_screen(self, name: str) -> None:
        self.navigator.show(name)

    def action_switch(self) -> None:
        """Go to somebody, or to another conversation."""
        self.navigator.open_switcher()

    def action_open_help(self) -> None:
        self.navigator.open_help()

    def action_command_line(self) -> None:
        self.query_one(CommandLine).open()

    def action_reconnect(self) -> None:
        """Attach anew: to this home's backend, which is started if it is gone, or to the gateway elsewhere."""
        if self.stores.connection.stale:
            self._run_controller()
        else:
            self._show_notice(f"nothing to do: {self.stores.connection.state}", False)

    def action_settings(self) -> None:
        self.navigator.open_settings()

    def action_undo(self) -> None:
        self.commands.undo.take_back()

    def action_jump(self) -> None:
        """Show letters over what can be gone to."""
        self.navigator.jump()

    @on(Header.ModelChosen)
    def action_use_model(self) -> None:
        """Ask which model is to answer for all."""
        self.commands.models.choose()

    def action_next_error(self, step: int) -> None:
        """Walk through what waits for the operator, the most urgent first, each where it can be dealt with."""
        if self.commands.asks.open():
            return
        waiting = [item.id for item in self.stores.attention.open() if item.kind != "asks"]
        if not waiting:
            known = self.stores.fleet.platform is not None
            words = "nothing waits for you" if known else "nobody is known yet: the backend has not answered"
            self._show_notice(words, False)
            return
        # at the first time forwards begins with the most urgent, backwards with the last
        at = waiting.index(self._waiting_at) + step if self._waiting_at in waiting else 0 if step > 0 else -1
        self._waiting_at = waiting[at % len(waiting)]
        item = self.stores.attention.items[self._waiting_at]
        if item.kind == "done":
            self.commands.attention.open(item)
        else:
            self.navigator.open_needs(item.id)

    def _item_came(self, item: AttentionItem) -> None:
        """An answer that came while its conversation is on the screen has been seen."""
        # the backend does not know what is on this screen
        if item.kind == "done" and item.who == self.stores.turns.reading:
            self.commands.attention.seen(item.who)

    async def action_quit(self) -> None:
        self.commands.console.quit()

    @on(ScreenBar.Chosen)
    def _screen_chosen(self, event: ScreenBar.Chosen) -> None:
        self.navigator.show(event.name)

    def get_system_commands(self, screen: Screen[Any]) -> Any:
        """Offer every action in the palette."""
        yield from (SystemCommand(*command) for command in system_commands(self, self.commands))
