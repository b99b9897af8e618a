"""Place 6: its tabs, by keys and by words, and what each says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from backend.schema.params import ListModels
from backend.schema.results import Model, ProviderList, ProviderModels
from tekton_tui.app import TektonApp
from tests.tui.conftest import settle
from tests.tui.fake_client import FakeClient, live, ten_minutes
from tests.tui.test_command_line import type_command
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
MODELS = ProviderList(
    [
        ProviderModels("ollama", True, "", [Model("qwen3:30b", "Qwen3 30B", 19_000_000_000, 40_960, "")]),
        ProviderModels("openai", False, "no key is set", []),
    ]
)


def filled(console: Maker) -> tuple[TektonApp, FakeClient]:
    app, client = console(live("apollo", model="qwen3:30b"), live("athena"))
    client.first.history = ten_minutes()
    client.answers[ListModels] = MODELS
    return app, client


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("gateway", "Listens"),
        ("models", "used by apollo"),
        ("hosts", "2 run"),
        ("system", "Listens"),
    ],
)
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_each_tab_is_reached_by_its_word(
    console: Maker, word: str, words: str, size: tuple[int, int]
) -> None:
    app, _client = filled(console)
    async with app.run_test(size=size) as pilot:
        await type_command(app, pilot, word)
        assert words in screen_text(app)
        assert "Gateway  Models  Hosts  Settings  Doctor" in screen_text(app)


async def test_brackets_go_through_the_tabs_and_what_is_not_there_says_why(console: Maker) -> None:
    app, client = filled(console)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("6")
        await settle(pilot)
        for words in ("no key is set", "cpu", "tekton config show", "tekton doctor", "Listens"):
            await pilot.press("right_square_bracket")
            await settle(pilot)
            assert words in screen_text(app)
        await pilot.press(*["left_square_bracket"] * 3)
        await settle(pilot)
        assert "athena" in screen_text(app) and client.called(ListModels)
        await pilot.press("escape")
        await settle(pilot)
        assert "Fleet ·" in screen_text(app)


async def until(app: TektonApp, pilot: Pilot[Any], words: str) -> str:
    """Return the screen once it shows these words: a command of the command line takes a moment."""
    for _ in range(500):
        if words in (text := screen_text(app)):
            return text
        await settle(pilot)
    raise AssertionError(f"{words!r} did not come:\n{screen_text(app)}")


async def test_settings_say_where_each_comes_from_and_doctor_what_is_wrong_and_how_it_is_fixed(
    console: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text("# mine\n[gateway]\nport = 8123\n")
    monkeypatch.setenv("TEKTON_HOME", str(home))
    monkeypatch.setenv("TEKTON_REGISTER_AI", "false")
    app, _client = filled(console)
    async with app.run_test(size=(120, 40)) as pilot:
        await type_command(app, pilot, "config")
        text = await until(app, pilot, "gateway.port")
        row = next(line for line in text.splitlines() if "gateway.port" in line)
        assert row.split() == ["gateway.port", "8123", "config.toml:3"]
        assert "$TEKTON_REGISTER_AI" in text
        (home / "config.toml").write_text("[gateway]\nport = 8124\n")
        await pilot.press("R")
        text = await until(app, pilot, "8124")
        assert "config.toml:2" in text
        await pilot.press("right_square_bracket")
        text = await until(app, pilot, "✖ the AI lifecycle is on")
        assert "fix: set TEKTON_REGISTER_AI=true" in text and "✓ Python" in text
        (home / "config.toml").write_text("[gateway]\nport = true\n")
        await pilot.press("left_square_bracket")
        assert "gateway.port" in await until(app, pilot, "expected")


async def test_of_a_gateway_elsewhere_no_command_is_run_here(console: Maker) -> None:
    app, _client = filled(console)
    app.stores.connection.starts_here = False
    async with app.run_test(size=(80, 24)) as pilot:
        await type_command(app, pilot, "doctor")
        assert "The backend runs elsewhere" in screen_text(app)


async def test_a_slow_look_is_made_once_however_often_it_is_asked_for_or_left(
    console: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, _client = filled(console)
    asked: list[Callable[[int, str], None]] = []

    def run(words: Sequence[str], then: Callable[[int, str], None]) -> None:
        asked.append(then)

    async with app.run_test(size=(80, 24)) as pilot:
        monkeypatch.setattr(app.commands.console, "run_tekton", run)
        await type_command(app, pilot, "doctor")
        await pilot.press("R", "R", "left_square_bracket", "right_square_bracket", "1", "6")
        await settle(pilot)
        assert "looking…" in screen_text(app) and len(asked) == 2, "one for each of the two tabs"
        asked[0](0, "ok   Python 3.12\n")
        await settle(pilot)
        assert "✓ Python 3.12" in screen_text(app)
        await pilot.press("R")
        await settle(pilot)
        assert len(asked) == 3, "what was said is looked at again"


async def test_a_long_value_has_the_room_that_its_origin_leaves(
    console: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = 'providers.local   default   ["http://127.0.0.1:1234/v1"]\ngateway.port   environment: TEKTON_GATEWAY_PORT   8123\n'
    app, _client = filled(console)

    def run(words: Sequence[str], then: Callable[[int, str], None]) -> None:
        then(0, said)

    async with app.run_test(size=(80, 24)) as pilot:
        monkeypatch.setattr(app.commands.console, "run_tekton", run)
        await type_command(app, pilot, "config")
        text = screen_text(app)
        assert '["http://127.0.0.1:1234/v1"]' in text and "$TEKTON_GATEWAY_PORT" in text
