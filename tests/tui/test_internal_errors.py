"""What fails in the console itself: said once, written down, and the console goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.schema.params import GetOrchestration
from tekton_tui.app import TektonApp
from tekton_tui.runtime.preferences import read_preferences
from tekton_tui.stores import Signal
from tests.tui.conftest import settle
from tests.tui.fake_client import FakeClient, live, snapshot
from tests.tui.test_console import screen_text

HOSTILE = "no \x1b]52;c;aGk=\x07 [@click=app.quit]way[/]"


def break_down(*given: object) -> None:
    raise ZeroDivisionError(HOSTILE)


async def test_a_listener_that_fails_is_told_once_and_the_others_and_the_console_go_on(
    tmp_path: Path,
) -> None:
    client = FakeClient(snapshot(live("apollo")))
    app = TektonApp(client.connect, preferences=read_preferences(tmp_path))
    heard: list[set[str]] = []
    app.stores.fleet.changed.subscribe(break_down)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.stores.fleet.changed.subscribe(heard.append)
        client.changed(live("numa"))
        client.changed(live("athena"))
        await settle(pilot)
        assert heard and app.is_running
        notices = [notice.message for notice in app._notifications]
        [told] = [words for words in notices if "ZeroDivisionError" in words]
        assert "test_internal_errors.py" in told and "console.log" in told and "\x1b" not in told
        await pilot.press("5")
        await settle(pilot)
        assert "ZeroDivisionError: no ␛]52" in screen_text(app)
    log = tmp_path / "logs" / "console.log"
    assert log.read_text().count("Traceback") == 1 and "in break_down" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


async def test_an_answer_whose_reader_fails_does_not_end_the_console() -> None:
    client = FakeClient(snapshot(live("apollo")))
    app = TektonApp(client.connect)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.controller.request(GetOrchestration(), break_down)
        await settle(pilot)
        assert any("ZeroDivisionError" in notice.message for notice in app._notifications)
        assert app.is_running


def test_without_a_loop_a_listeners_failure_is_raised() -> None:
    signal: Signal[[]] = Signal()
    signal.subscribe(break_down)
    with pytest.raises(ZeroDivisionError):
        signal.emit()
