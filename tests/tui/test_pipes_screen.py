"""The pipes screen: written, read before it is sent, followed stage by stage, run again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from backend.schema.errors import TektonError
from backend.schema.events import PipelineEnd, PipelineStart, StageEvent, StageText
from backend.schema.params import ListPipelines, ListSavedPipelines, RemovePipeline, RunPipeline, SavePipeline
from backend.schema.records import RunRecord, SavedPipeline, StageRecord
from backend.schema.results import PipelineRuns, SavedPipelineList
from tekton_tui.app import TektonApp
from tekton_tui.transcript import Transcript
from tekton_tui.widgets.composer.composer import Composer
from tekton_tui.widgets.composer.text import preview_line, preview_pipeline
from tekton_tui.widgets.team.stage_strip import stage_rows
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, live
from tests.tui.test_console import HOSTILE, screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
RUN = RunRecord("p1", "apollo | athena", [StageRecord("apollo"), StageRecord("athena")], NOW)
RUNS = PipelineRuns([RUN])


def test_a_pipeline_is_read_with_its_stages_or_its_mistake() -> None:
    good, bad = preview_pipeline("apollo | athena"), preview_pipeline("apollo || athena")
    assert good is not None and good.position is None and good.words.startswith("2 stages")
    assert bad is not None and bad.position == 8


def test_a_question_with_a_bar_in_it_stays_a_question() -> None:
    known = {"apollo", "athena"}
    assert preview_line("What is a | b?", known) is None and preview_line("Why?", known) is None
    assert preview_line("apollo | athena", known) is not None
    assert preview_line('echo "x" | athena', known) is not None
    assert preview_line("{apollo,athena} | apollo", known) is not None
    after_verb = preview_line("/pipe apollo ||", known)
    assert after_verb is not None and after_verb.position == len("/pipe ") + 8


@pytest.mark.parametrize("width", [30, 46, 80, 200])
@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("height", [1, 3, 8])
def test_the_chosen_stage_is_always_among_the_rows_and_nothing_sticks_out(
    width: int, at: int, height: int
) -> None:
    stages = [StageRecord(f"name-{number}", "done", output="x", elapsed_s=1.0) for number in range(6)]
    rows = stage_rows(stages, at, width, height).split("\n")
    assert [row for row in rows if row.plain.startswith(f"▎{at + 1} name-{at}")]
    assert len(rows) <= height and all(row.cell_length <= width for row in rows)


def test_bars_stand_where_their_stage_was_in_the_run() -> None:
    stages = [
        StageRecord("a", "done", started_at=NOW, elapsed_s=2.0),
        StageRecord("b", "done", started_at=NOW + 2, elapsed_s=2.0),
    ]
    first, second = (row.plain for row in stage_rows(stages, 0, 100, 8).split("\n"))
    assert first.rstrip().count("━") == second.count("━") == 8
    assert first.rindex("━") + 1 == second.index("━")


async def test_a_mistake_is_shown_before_sending_and_nothing_is_sent_or_lost(console: Maker) -> None:
    app, client = console(live("apollo"))
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await settle(pilot)
        app.navigator.show("pipes")
        await settle(pilot)
        await pilot.press(*"apollo ||")
        await settle(pilot)
        assert "✖ expected a specialist" in screen_text(app)
        await pilot.press("enter")
        await settle(pilot)
        assert not client.called(RunPipeline)
        assert app.query_one("#pipes-composer", Composer).draft == "apollo ||"


async def test_a_refused_pipeline_is_back_with_its_input(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers[RunPipeline] = TektonError("there is no specialist 'apolo'", code="not_found")
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.commands.navigator.pipe_text("our queue grows", "numa")
        await settle(pilot, 10)
        assert "The answer of numa goes in (15B)" in screen_text(app)
        await pilot.press(*"apolo", "enter")
        await settle(pilot)
        assert app.query_one("#pipes-composer", Composer).draft == "apolo"
        assert "The answer of numa goes in" in screen_text(app)


async def test_a_run_is_followed_from_its_first_event(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers[ListPipelines] = RUNS
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.navigator.show("pipes")
        await settle(pilot)
        client.send(PipelineStart("p1", "apollo | athena", ["apollo", "athena"], NOW))
        client.send(StageEvent("p1", 0, "running", "apollo", started_at=NOW))
        await settle(pilot)
        rows = [
            line for line in screen_text(app).splitlines() if "│▎1 apollo" in line or "│ 2 athena" in line
        ]
        assert ["◐" in rows[0], "○" in rows[1], "waiting" in rows[1]] == [True] * 3


async def test_what_a_stage_gave_is_read_as_markdown_with_what_it_was_given(console: Maker) -> None:
    app, client = console(live("apollo"))
    stage = StageRecord(
        "apollo", "done", "our **queue** grows", "Split it by **tenant**.\n\n- now", elapsed_s=2.0
    )
    client.answers[ListPipelines] = PipelineRuns(
        [replace(RUN, stages=[stage, StageRecord("athena", "not run")])]
    )
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.navigator.show("pipes")
        await settle(pilot, 10)
        text = screen_text(app)
        assert "Split it by tenant." in text and "• now" in text and "our **queue** grows" in text


async def test_text_of_a_running_stage_is_added_to_what_is_read(console: Maker) -> None:
    app, client = console(live("apollo"))
    running = StageRecord("athena", "running", started_at=NOW)
    client.answers[ListPipelines] = PipelineRuns([replace(RUN, stages=[running])])
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.navigator.show("pipes")
        await settle(pilot, 10)
        client.send(
            PipelineStart("p1", "athena", ["athena"], NOW),
            StageEvent("p1", 0, "running", "athena", started_at=NOW),
        )
        for piece in ("One ", "two ", "three"):
            client.send(StageText("p1", 0, piece))
            await settle(pilot, 4)
        transcript = app.query_one("#pipes-text", Transcript)
        assert [entry.text for entry in transcript.entries] == ["One two three"]


async def test_enter_on_a_run_takes_its_pipeline_into_the_field(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers[ListPipelines] = RUNS
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.navigator.show("pipes")
        await settle(pilot)
        app.query_one("#pipes-runs").focus()
        await pilot.press("enter")
        await settle(pilot)
        assert app.query_one("#pipes-composer", Composer).draft == "apollo | athena"


async def test_the_keys_of_a_stage_change_its_pipeline_or_say_that_it_is_no_message_and_never_both(
    console: Maker,
) -> None:
    app, client = console(live("apollo"))
    run = replace(RUN, stages=[StageRecord("apollo", "done", output="an answer")])
    client.answers[ListPipelines] = PipelineRuns([run])
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await settle(pilot)
        app.navigator.show("pipes")
        await settle(pilot)
        app.query_one("#pipes-text", Transcript).focus()
        await pilot.press("i")
        await settle(pilot)
        assert app.query_one("#pipes-composer", Composer).draft == RUN.pipeline
        assert "is no message" not in screen_text(app)
        app.query_one("#pipes-text", Transcript).focus()
        await pilot.press("I")
        await settle(pilot)
        assert "is no message" in screen_text(app)


async def test_a_run_without_stages_is_shown_and_its_keys_do_no_harm(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers[ListPipelines] = PipelineRuns([RunRecord("p1", "apollo", [], NOW)])
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.navigator.show("pipes")
        await settle(pilot)
        app.query_one("#pipes-runs").focus()
        await pilot.press("right", "y", "left")
        await settle(pilot)
        assert "this run has no stages" in screen_text(app)


async def test_the_texts_of_a_run_are_shown_as_they_come_even_when_no_stage_is_known(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers[ListPipelines] = PipelineRuns([replace(RUN, stages=[])])
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.navigator.show("pipes")
        await settle(pilot)
        client.send(PipelineStart("p1", "apollo | athena", ["apollo", "athena"], NOW))
        client.send(StageText("p1", 1, "numbers "), StageText("p1", 1, "first"))
        await settle(pilot)
        client.answers[ListPipelines] = RUNS
        client.send(StageEvent("p1", 0, "running", "apollo", started_at=NOW))
        client.send(PipelineEnd("p1", True, "numbers first", 1.0))
        await settle(pilot)
        assert "1 apollo" in screen_text(app)


SAVED = SavedPipelineList(
    [SavedPipeline("review", 'apollo | athena "shorter"'), SavedPipeline(HOSTILE, "numa")]
)


async def test_a_saved_pipeline_is_taken_into_the_field(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers[ListSavedPipelines] = SAVED
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.navigator.show("pipes")
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
    client.answers[ListSavedPipelines] = SAVED
    client.answers[SavePipeline] = lambda params: SavedPipeline(params.name, params.pipeline)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.navigator.show("pipes")
        await settle(pilot)
        await pilot.press(*"numa", "ctrl+s")
        await settle(pilot)
        await pilot.press(*"review", "enter")
        await settle(pilot)
        assert "is saved already" in screen_text(app) and not client.called(SavePipeline)
        await pilot.press("enter")
        await settle(pilot)
        assert not client.called(SavePipeline), "Cancel has the focus"
        await pilot.press("enter", "tab", "enter")
        await settle(pilot)
        [saved] = client.called(SavePipeline)
        assert (saved.name, saved.pipeline, saved.replace) == ("review", "numa", True)


async def test_a_saved_pipeline_is_renamed_and_removed_by_hand(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers[ListSavedPipelines] = SAVED
    client.answers[SavePipeline] = lambda params: SavedPipeline(params.name, params.pipeline)
    client.answers[RemovePipeline] = lambda params: SavedPipeline(params.name, "")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.navigator.show("pipes")
        await settle(pilot)
        await pilot.press("ctrl+o")
        await settle(pilot)
        await pilot.press("r", *"checked", "enter")
        await settle(pilot)
        assert [call.name for call in client.called(SavePipeline)] == ["checked"]
        assert [call.name for call in client.called(RemovePipeline)] == ["review"]
        await pilot.press("D", "tab", "enter")
        await settle(pilot)
        assert [call.name for call in client.called(RemovePipeline)] == ["review", "review"]
