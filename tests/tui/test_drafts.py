"""What is being written is kept, and nothing that was kept is written over unread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backend.schema.errors import TektonError
from backend.schema.params import Cancel, GetPreference, PutPreference
from backend.schema.results import CancelResult, Preference, PreferenceKey
from tekton_tui.app import TektonApp
from tekton_tui.commands import drafts
from tekton_tui.runtime.preferences import read_preferences
from tekton_tui.widgets.composer.composer import Composer
from tests.tui.conftest import settle, until
from tests.tui.fake_client import FakeClient, live, snapshot
from tests.tui.test_chat_screen import waiting, withdrawn
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
AWAY = TektonError("the gateway does not answer", code="backend_lost")


@pytest.fixture(autouse=True)
def saved_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "SAVE_DELAY_S", 0.0)


def saved(client: FakeClient, place: str) -> list[object]:
    return [call.value for call in client.called(PutPreference) if call.key == f"draft:{place}"]


@pytest.mark.parametrize("writes", [True, False])
@pytest.mark.parametrize("place", ["team", "apollo-ai"])
async def test_a_draft_that_could_not_be_read_comes_with_the_connection_and_is_not_written_over(
    console: Maker, place: str, writes: bool
) -> None:
    app, client = console(live("apollo"))
    client.answers[GetPreference] = AWAY
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.navigator.show("team") if place == "team" else app.navigator.open_chat(place)
        await settle(pilot, 10)
        if writes:
            await pilot.press(*"new")
            await settle(pilot)
        assert saved(client, place) == []
        client.answers[GetPreference] = lambda params: Preference(
            params.key, "an old thought" if params.key == f"draft:{place}" else None
        )
        client.send(client.first)
        await settle(pilot)
        composer = next(one for one in app.query(Composer) if one.is_on_screen)
        if not writes:
            assert composer.draft == "an old thought"
            return
        await until(pilot, lambda: saved(client, place)[-1:] == ["new"])
        await pilot.press("ctrl+u", "up")
        await settle(pilot)
        assert composer.draft == "an old thought"


async def test_questions_that_were_held_stay_beside_one_that_is_held_before_they_could_be_read(
    console: Maker,
) -> None:
    app, client = console(live("apollo"))
    client.answers[GetPreference] = AWAY

    def cancel(params: Cancel) -> CancelResult:
        client.send(withdrawn(params.target))
        return CancelResult(params.target, True, 0, 1.0)

    client.answers[Cancel] = cancel
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.navigator.open_chat("apollo-ai")
        await settle(pilot, 10)
        waiting(client, "Second?")
        await settle(pilot, 10)
        await pilot.press("escape")
        await settle(pilot, 10)
        assert "1 held    Second?" in screen_text(app)
        client.answers[GetPreference] = lambda params: Preference(
            params.key, '["First?"]' if params.key == "draft:held:apollo-ai" else None
        )
        client.send(client.first)
        await until(pilot, lambda: saved(client, "held:apollo-ai") != [])
        await settle(pilot)
        assert "2 held    First?" in screen_text(app)
        assert all(
            "First?" in str(value) and "Second?" in str(value) for value in saved(client, "held:apollo-ai")
        )


@pytest.mark.parametrize("sent", [True, False])
async def test_a_draft_kept_in_the_file_is_gone_from_it_once_the_backend_has_a_newer_one(
    tmp_path: Path, sent: bool
) -> None:
    client = FakeClient(snapshot(live("apollo")))
    client.answers[PutPreference] = AWAY
    app = TektonApp(client.connect, preferences=read_preferences(tmp_path))
    kept = tmp_path / "state" / "drafts.json"
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.navigator.open_chat("apollo-ai")
        await settle(pilot, 10)
        await pilot.press(*"half")
        await until(pilot, lambda: kept.exists() and "half" in kept.read_text())
        client.answers[PutPreference] = lambda params: PreferenceKey(params.key)
        await pilot.press("enter" if sent else "x")
        await until(pilot, lambda: not kept.exists())
    assert saved(client, "apollo-ai")[-1:] == (["half"] if sent else ["halfx"])


async def test_a_draft_that_was_sent_while_the_line_was_down_does_not_come_back(
    console: Maker, tmp_path: Path
) -> None:
    kept = {"draft:apollo-ai": "an old thought"}
    answers = {
        GetPreference: lambda params: Preference(params.key, kept.get(params.key)),
        PutPreference: lambda params: (kept.update({params.key: params.value}), PreferenceKey(params.key))[1],
    }
    for last in (False, True):
        client = FakeClient(snapshot(live("apollo")))
        client.answers |= answers  # type: ignore[arg-type]
        app = TektonApp(client.connect, preferences=read_preferences(tmp_path))
        async with app.run_test(size=(100, 30)) as pilot:
            await settle(pilot)
            app.navigator.open_chat("apollo-ai")
            await settle(pilot, 10)
            composer = app.query_one("#chat-apollo-ai Composer", Composer)
            assert composer.draft == ("" if last else "an old thought")
            client.answers[PutPreference] = AWAY
            composer.draft = ""
            await settle(pilot)
    assert kept["draft:apollo-ai"] is None and not (tmp_path / "state" / "drafts.json").exists()
