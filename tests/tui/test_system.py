"""Place 6: its tabs, by keys and by words, and what each says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

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
        assert "Gateway  Models  Hosts" in screen_text(app)


async def test_brackets_go_through_the_tabs_and_what_is_not_there_says_why(console: Maker) -> None:
    app, client = filled(console)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("6")
        await settle(pilot)
        for words in ("no key is set", "cpu", "Listens"):
            await pilot.press("right_square_bracket")
            await settle(pilot)
            assert words in screen_text(app)
        await pilot.press("left_square_bracket")
        await settle(pilot)
        assert "athena" in screen_text(app) and client.called(ListModels)
        await pilot.press("escape")
        await settle(pilot)
        assert "Fleet ·" in screen_text(app)
