"""The pipes screen: written, read before it is sent, followed stage by stage, run again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backend.schema.errors import TektonError
from backend.schema.events import PipelineEnd, PipelineStart, StageEvent, StageText
from tekton_tui.app import TektonApp
from tekton_tui.reading import reading_of_line, reading_of_pipeline
from tekton_tui.widgets.composer import Composer
from tekton_tui.widgets.stage_strip import stage_strip
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, live
from tests.tui.test_console import HOSTILE, screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
RUN = {
    "request_id": "p1",
    "pipeline": "apollo | athena",
    "stages": [{"label": "apollo"}, {"label": "athena"}],
}


def test_a_pipeline_is_read_with_its_stages_or_its_mistake() -> None:
    good, bad = reading_of_pipeline("apollo | athena"), reading_of_pipeline("apollo || athena")
    assert good is not None and good.position is None and good.words.startswith("2 stages")
    assert bad is not None and bad.position == 8


def test_a_question_with_a_bar_in_it_stays_a_question() -> None:
    known = {"apollo", "athena"}
    assert reading_of_line("What is a | b?", known) is None and reading_of_line("Why?", known) is None
    assert reading_of_line("apollo | athena", known) is not None
    assert reading_of_line('echo "x" | athena', known) is not None
    assert reading_of_line("{apollo,athena} | apollo", known) is not None
    after_verb = reading_of_line("/pipe apollo ||", known)
    assert after_verb is not None and after_verb.position == len("/pipe ") + 8


@pytest.mark.parametrize("width", [30, 46, 80, 200])
@pytest.mark.parametrize("at", range(6))
def test_the_chosen_stage_is_always_in_the_strip_and_nothing_sticks_out(width: int, at: int) -> None:
    stages: list[dict[str, Any]] = [
        {"label": f"name-{number}", "state": "done", "output": "x"} for number in range(6)
    ]
    strip = stage_strip(stages, at, width)
    assert f"▸✓ {at + 1} name-{at}" in strip.plain
    assert all(line.cell_length <= width for line in strip.split("\n"))


async def test_a_mistake_is_shown_before_sending_and_nothing_is_sent_or_lost(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await settle(pilot)
        app.show_pane("pipes")
        await settle(pilot)
        await pilot.press(*"apollo ||")
        await settle(pilot)
        assert "✖ expected a specialist" in screen_text(app)
        await pilot.press("enter")
        await settle(pilot)
        assert not client.called("pipeline")
        assert app.query_one("#pipes-composer", Composer).draft == "apollo ||"


async def test_a_refused_pipeline_is_back_with_its_input(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers["pipeline"] = TektonError("there is no specialist 'apolo'", code="not_found")
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.commands.pipe_text("our queue grows", "numa")
        await settle(pilot, 10)
        assert "The answer of numa goes in (15B)" in screen_text(app)
        await pilot.press(*"apolo", "enter")
        await settle(pilot)
        assert app.query_one("#pipes-composer", Composer).draft == "apolo"
        assert "The answer of numa goes in" in screen_text(app)


async def test_a_run_is_followed_from_its_first_event(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers["list_pipelines"] = {"runs": [RUN]}
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.show_pane("pipes")
        await settle(pilot)
        client.send(PipelineStart("p1", "apollo | athena", ["apollo", "athena"], NOW))
        client.send(StageEvent("p1", 0, "running", "apollo", started_at=NOW))
        await settle(pilot)
        assert "◐ 1 apollo" in screen_text(app) and "○ 2 athena" in screen_text(app)


async def test_enter_on_a_run_takes_its_pipeline_into_the_field(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers["list_pipelines"] = {"runs": [RUN]}
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.show_pane("pipes")
        await settle(pilot)
        app.query_one("#pipes-runs").focus()
        await pilot.press("enter")
        await settle(pilot)
        assert app.query_one("#pipes-composer", Composer).draft == "apollo | athena"


async def test_a_run_without_stages_is_shown_and_its_keys_do_no_harm(console: Maker) -> None:
    app, client = console(live("apollo"))
    run = {"request_id": "p1", "pipeline": "apollo", "stages": [], "started_at": NOW}
    client.answers["list_pipelines"] = {"runs": [run]}
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.show_pane("pipes")
        await settle(pilot)
        app.query_one("#pipes-runs").focus()
        await pilot.press("right", "y", "left")
        await settle(pilot)
        assert "this run has no stages" in screen_text(app)


async def test_the_texts_of_a_run_are_shown_as_they_come_even_when_no_stage_is_known(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers["list_pipelines"] = {"runs": [{**RUN, "stages": []}]}
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.show_pane("pipes")
        await settle(pilot)
        client.send(PipelineStart("p1", "apollo | athena", ["apollo", "athena"], NOW))
        client.send(StageText("p1", 1, "numbers "), StageText("p1", 1, "first"))
        await settle(pilot)
        client.answers["list_pipelines"] = {"runs": [RUN]}
        client.send(StageEvent("p1", 0, "running", "apollo", started_at=NOW))
        client.send(PipelineEnd("p1", True, "numbers first", 1.0))
        await settle(pilot)
        assert "1 apollo" in screen_text(app)


SAVED = {
    "saved": [
        {"name": "review", "pipeline": 'apollo | athena "shorter"'},
        {"name": HOSTILE, "pipeline": "numa"},
    ]
}


async def test_a_saved_pipeline_is_taken_into_the_field(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers["saved_pipelines"] = SAVED
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.show_pane("pipes")
        await settle(pilot)
        await pilot.press("ctrl+o")
        await settle(pilot)
        text = screen_text(app)
        assert "review" in text and "\x1b" not in text and "␛" in text
        await pilot.press("enter")
        await settle(pilot)
        assert app.query_one("#pipes-composer", Composer).draft == 'apollo | athena "shorter"'


async def test_what_is_written_is_kept_under_a_name_and_another_of_that_name_goes_only_after_a_yes(
    console: Maker,
) -> None:
    app, client = console(live("apollo"))
    client.answers["saved_pipelines"] = SAVED
    client.answers["save_pipeline"] = lambda p: {"name": p["name"], "pipeline": p["pipeline"]}
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.show_pane("pipes")
        await settle(pilot)
        await pilot.press(*"numa", "ctrl+s")
        await settle(pilot)
        await pilot.press(*"review", "enter")
        await settle(pilot)
        assert "is saved already" in screen_text(app) and not client.called("save_pipeline")
        await pilot.press("enter")
        await settle(pilot)
        assert not client.called("save_pipeline"), "Cancel has the focus"
        await pilot.press("enter", "tab", "enter")
        await settle(pilot)
        [saved] = client.called("save_pipeline")
        assert (saved["name"], saved["pipeline"], saved["replace"]) == ("review", "numa", True)


async def test_a_saved_pipeline_is_renamed_and_removed_by_hand(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers["saved_pipelines"] = SAVED
    client.answers["save_pipeline"] = lambda p: {"name": p["name"], "pipeline": p["pipeline"]}
    client.answers["remove_pipeline"] = lambda p: {"name": p["name"], "pipeline": ""}
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.show_pane("pipes")
        await settle(pilot)
        await pilot.press("ctrl+o")
        await settle(pilot)
        await pilot.press("n", *"checked", "enter")
        await settle(pilot)
        assert [call["name"] for call in client.called("save_pipeline")] == ["checked"]
        assert [call["name"] for call in client.called("remove_pipeline")] == ["review"]
        await pilot.press("d", "tab", "enter")
        await settle(pilot)
        assert [call["name"] for call in client.called("remove_pipeline")] == ["review", "review"]
