"""The navigator of the console: shows screens, overlays and questions for commands that know no widgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from textual.app import App
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import ContentSwitcher

from backend.schema.records import FleetPlan
from backend.schema.results import SpecialistCreated, SpecialistDetail
from backend.schema.sent import SentReport
from backend.schema.tools import Ask
from tekton_tui.commands import Answer, Commands
from tekton_tui.commands.navigator import Choice, R
from tekton_tui.runtime.controller import Controller
from tekton_tui.runtime.input_queue import InputQueue, is_field
from tekton_tui.screens.registry import ADDRESSES, SCREENS, place_of
from tekton_tui.widgets.common.header import Header
from tekton_tui.widgets.common.screen_bar import ScreenBar


@runtime_checkable
class FocusesContent(Protocol):
    """A pane: it knows which of its widgets has the keyboard when nobody chose one."""

    def focus_content(self) -> None:
        """Give that widget the focus."""
        ...


@runtime_checkable
class HasTargets(Protocol):
    """A screen on which verbs without a name mean somebody."""

    def targets(self) -> list[str]:
        """Return the ids of whom they mean."""
        ...


@runtime_checkable
class TakesLines(Protocol):
    """A screen with a conversation, in which a line can be carried out."""

    def run_line(self, text: str) -> bool:
        """Carry out a line; return whether a conversation is open."""
        ...


class ScreenNavigator:
    """Implements `commands.Navigator` over an app with `#panes`, a switcher, and a `ScreenBar`.

    A screen's widget is made, and its module imported, when it is first shown: the first paint waits for none.
    """

    commands: Commands
    """Given to each screen; set once, before the first screen is shown."""
    input_queue: InputQueue
    """Told what is opening, so that keys wait for it; set once as well."""

    def __init__(self, app: App[None], controller: Controller) -> None:
        self._app, self._controller = app, controller
        self._stores = controller.stores

    # screens

    def show(self, screen: str) -> None:
        if screen == "errors":  # a tab of what waits
            self.open_errors()
            return
        if ADDRESSES.get(screen) == "system":
            self._show("system", lambda pane: pane.show_tab(screen))
            return
        screen = ADDRESSES.get(screen, screen)
        # The error log says what the notices say, and they would cover its evidence.
        if screen == "needs":
            self._app.clear_notifications()
        switcher = self._app.query_one("#panes", ContentSwitcher)
        if not switcher.query(f"#{screen}"):
            # made at first use, which imports its module: the first paint waits for one screen instead of eight
            switcher.mount(SCREENS[screen].make(self._stores, self.commands))
        switcher.current = screen
        self._app.query_one(ScreenBar).current = place_of(screen)
        self.show_small(self._app.has_class("-small"))
        self._with(screen, lambda pane: self._focus(screen))
        self._hold_keys(screen, switcher)

    def _hold_keys(self, screen: str, switcher: ContentSwitcher) -> None:
        """Have keys wait until a screen has its focus, or has been drawn and has nothing to give it to."""
        pane = self.pane(screen)
        drawn: list[bool] = []

        def ready() -> bool:
            if switcher.current != screen:
                return True
            if not pane.is_mounted or getattr(pane, "opening", False):
                return False
            focused = self._app.focused
            return (focused is not None and pane in focused.ancestors) or bool(drawn)

        # the first refresh lays it out, the second one has drawn it
        pane.call_after_refresh(pane.call_after_refresh, drawn.append, True)
        self.input_queue.opening(SCREENS[screen].title, ready)

    def show_small(self, small: bool) -> None:
        """Name the place in the header where no row of places stands."""
        bar = self._app.query_one(ScreenBar)
        self._app.query_one(Header).small = SCREENS[bar.current].short if small else ""

    def pane(self, screen: str) -> Any:
        """Return a screen's widget. It must have been shown once."""
        screen = ADDRESSES.get(screen, screen)
        return self._app.query_one(f"#panes > #{screen}", Widget)

    def targets(self) -> list[str]:
        """Return the ids of whom a verb without a name means on the screen that is shown."""
        switcher = self._app.query_one("#panes", ContentSwitcher)
        pane = switcher.visible_content
        return pane.targets() if isinstance(pane, HasTargets) else []

    def _focus(self, screen: str) -> None:
        if self._app.query_one("#panes", ContentSwitcher).current == screen:
            self.pane(screen).focus_content()

    def _show(self, screen: str, then: Callable[[Any], None]) -> None:
        self.show(screen)
        self._with(screen, then)

    def _with(self, screen: str, then: Callable[[Any], None]) -> None:
        """Call `then` with a screen's widget: now, or once it is mounted."""
        pane = self.pane(screen)
        if pane.is_mounted:
            then(pane)
        else:
            # a pane composes with the refresh after its mount: before that none of its widgets can be found
            pane.call_after_refresh(then, pane)

    def open_chat(self, ai_id: str, session_id: str = "", sought: str = "") -> None:
        self._show("chat", lambda pane: pane.open_tab(ai_id, session_id, sought))

    def if_still_here(self, what: str, then: Callable[[R], None]) -> Callable[[R], None]:
        panes, screens, field = self._where()

        def show(result: R) -> None:
            now, above, writes = self._where()
            # a dialog that has closed since is no other place; one that was opened, or a field being written in, is
            if now != panes or set(above) - set(screens) or (writes is not None and writes is not field):
                self._controller.notify(f"{what} is not shown: you went elsewhere")
            else:
                then(result)

        return show

    def _where(self) -> tuple[str | None, list[Screen[Any]], Widget | None]:
        """Return the place that is shown, the screens in front of it, and the field that is being written in."""
        focused = self._app.focused
        return (
            self._app.query_one("#panes", ContentSwitcher).current,
            list(self._app.screen_stack),
            focused if is_field(focused) else None,
        )

    def expect_chat(self, ai_id: str = "") -> Callable[[bool], bool]:
        state: list[bool] = []  # whether it can be shown, once that is known
        where = self._app.query_one("#panes", ContentSwitcher).current

        def waited_for() -> bool:
            here = self._app.query_one("#panes", ContentSwitcher).current == where
            return here and not self._app.screen.is_modal and not is_field(self._app.focused)

        def there() -> bool | None:
            if not state:
                return False if waited_for() else None
            if not state[0] or self._app.query_one("#panes", ContentSwitcher).current != "chat":
                return None
            pane, focused = self.pane("chat"), self._app.focused
            if getattr(pane, "opening", True) or not (focused is not None and pane in focused.ancestors):
                return False
            return True if not ai_id or pane.targets() == [ai_id] else None

        def comes(can: bool) -> bool:
            state[:] = [can and waited_for()]
            return state[0]

        who = f" with {ai_id.removesuffix('-ai')}" if ai_id else ""
        self.input_queue.hold_text(f"the conversation{who}", there)
        return comes

    def run_in_conversation(self, line: str) -> bool:
        pane = self._app.query_one("#panes", ContentSwitcher).visible_content
        if not isinstance(pane, TakesLines):
            return False
        return pane.run_line(line)

    def open_team(self, ids: Sequence[str] = ()) -> None:
        self._show("team", lambda pane: pane.address(list(ids)))

    def find_conversations(self, words: str) -> None:
        self._show("sessions", lambda pane: pane.take_text(words) if words else None)

    def open_team_session(self, session_id: str) -> None:
        self._show("team", lambda pane: pane.show_session(session_id))

    def open_team_answer(self, session_id: str, request_id: str) -> None:
        self._show("team", lambda pane: pane.show_answer(session_id, request_id))

    def open_pipes(self, draft: str = "") -> None:
        self._show("pipes", lambda pane: pane.draft(draft))

    def pipe_text(self, text: str, source: str = "") -> None:
        self._show("pipes", lambda pane: pane.take_input(text, source))

    def open_errors(self, where: str = "") -> None:
        self._show("needs", lambda pane: pane.go_to(where))

    def open_needs(self, item_id: str) -> None:
        self._show("needs", lambda pane: pane.go_to_item(item_id))

    def go_to_specialist(self, ai_id: str) -> None:
        self._show("fleet", lambda pane: pane.show_grid().go_to(ai_id))

    def show_launched(self, ids: Sequence[str]) -> None:
        self._with("fleet", lambda pane: pane.show_launched(ids))

    def show_created(self, ai_id: str) -> bool:
        if self._app.query_one("#panes", ContentSwitcher).current != "fleet":
            return False
        self._with("fleet", lambda pane: pane.show_created(ai_id))
        return True

    # overlays

    def open_new_specialist(self, name: str, then: Callable[[SpecialistCreated], None]) -> None:
        from tekton_tui.screens.new_specialist import NewSpecialistScreen

        self._app.push_screen(
            NewSpecialistScreen(self._controller, name), lambda made: then(made) if made else None
        )

    def open_logs(self, ai_id: str) -> None:
        from tekton_tui.screens.logs import LogScreen

        self._app.push_screen(LogScreen(self._controller, ai_id))

    def open_description(self, specialist: SpecialistDetail) -> None:
        from tekton_tui.screens.text import describe_screen

        self._app.push_screen(describe_screen(specialist))

    def open_sent(self, report: SentReport) -> None:
        from tekton_tui.screens.sent import sent_screen

        self._app.push_screen(sent_screen(report))

    def choose_model(self, ids: Sequence[str], *, fetch: bool = False) -> None:
        from tekton_tui.screens.models import ModelScreen

        self._app.push_screen(ModelScreen(self._controller, list(ids), fetch=fetch))

    def open_switcher(self) -> None:
        from tekton_tui.screens.switcher import SwitcherScreen, go_to

        self._app.push_screen(
            SwitcherScreen(self._controller),
            lambda chosen: go_to(chosen, self._stores, self),
        )

    def choose_saved_pipeline(self, then: Callable[[str], None], keep: str = "") -> None:
        from tekton_tui.screens.saved import SavedScreen

        self._app.push_screen(SavedScreen(self._controller, keep), lambda text: then(text) if text else None)

    def compare(self, left: Answer, right: Answer) -> None:
        from tekton_tui.screens.compare import compare_screen

        self._app.push_screen(compare_screen(left, right))

    def open_help(self) -> None:
        from tekton_tui.screens.help import HelpScreen

        def carry_out(run: Callable[[], object] | None) -> None:
            if run is not None:
                # once the help is gone: what runs may open a screen of its own
                self._app.call_later(run)

        self._app.push_screen(HelpScreen(self._app.screen), carry_out)

    def open_settings(self) -> None:
        from tekton_tui.screens.settings import SettingsScreen

        self._app.push_screen(SettingsScreen(self.commands.console, self._controller))

    def jump(self) -> None:
        """Let the operator go to anything on the screen by one letter."""
        from tekton_tui.screens.jump import JumpScreen, spots_of

        spots = spots_of(self._app.screen)

        def go(at: int | None) -> None:
            if at is not None:
                spots[at].go()

        if spots:
            self._app.push_screen(JumpScreen(spots), go)

    # questions

    def confirm(
        self, title: str, question: str, names: Sequence[str], verb: str, then: Callable[[], None]
    ) -> None:
        from tekton_tui.screens.dialogs import confirm

        self._app.push_screen(
            confirm(title, question, names, verb), lambda answer: then() if answer == "yes" else None
        )

    def confirm_launch(self, plan: FleetPlan, why: str, then: Callable[[str], None]) -> None:
        from tekton_tui.screens.dialogs import plan_dialog

        self._app.push_screen(plan_dialog(plan, why), lambda answer: then(answer or "cancel"))

    def choose(
        self, title: str, choices: Sequence[tuple[str, str, str]], then: Callable[[str], None]
    ) -> None:
        from tekton_tui.screens.choice import ChoiceScreen

        self._app.push_screen(ChoiceScreen(title, choices), lambda answer: then(answer) if answer else None)

    def open_ask(self, ask: Ask, then: Callable[[Choice], None], *, say_why: bool = False) -> None:
        from tekton_tui.screens.ask import AskDialog

        self._app.push_screen(
            AskDialog(ask, self._controller.stores, say_why=say_why),
            lambda choice: then(choice) if choice else None,
        )

    def ask_quit(self, live: Sequence[str], then: Callable[[str], None]) -> None:
        from tekton_tui.screens.dialogs import quit_dialog

        self._app.push_screen(quit_dialog(live), lambda answer: then(answer or "cancel"))

    # the terminal

    def copy_to_clipboard(self, text: str) -> None:
        self._app.copy_to_clipboard(text)

    def exit(self) -> None:
        self._app.exit()
