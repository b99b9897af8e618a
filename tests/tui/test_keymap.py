"""The operator's own keys and settings: in force, shown truthfully, kept, and told when they cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.widgets import OptionList

from tekton_tui.app import TektonApp
from tekton_tui.commands.palette import system_commands
from tekton_tui.runtime.keymap import actions, resolve_keymap
from tekton_tui.runtime.preferences import Preferences, read_preferences
from tekton_tui.screens.dialogs import Dialog
from tests.tui.conftest import settle
from tests.tui.fake_client import FakeClient, live, snapshot
from tests.tui.test_console import screen_text

Start = Callable[..., tuple[TektonApp, FakeClient]]


def notices(app: TektonApp) -> str:
    return " ".join(notice.message for notice in app._notifications)


@pytest.fixture
def started(tmp_path: Path) -> Start:
    """Return a maker of a console whose home has this `config.toml`."""

    def make(config: str = "") -> tuple[TektonApp, FakeClient]:
        if config:
            (tmp_path / "config.toml").write_text(config, encoding="utf-8")
        client = FakeClient(snapshot(live("ergon")))
        return TektonApp(client.connect, preferences=read_preferences(tmp_path)), client

    return make


async def test_a_remapped_key_acts_and_footer_help_and_palette_name_it(started: Start) -> None:
    app, _ = started(
        '[console.keymap]\n"fleet.kill" = "ctrl+t"\nfleet.start = "f5"\n"app.help" = "f1,question_mark"\n'
    )
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert "f5 start" in screen_text(app) and "ctrl+t kill" in screen_text(app)
        await pilot.press("X")
        await settle(pilot)
        assert not isinstance(app.screen, Dialog), "the shipped key is free"
        palette = {title: words for title, words, _ in system_commands(app, app.commands)}
        assert palette["kill"].startswith("key ctrl+t ") and palette["start"].startswith("key f5 ")
        await pilot.press("f1")
        await settle(pilot)
        lines = screen_text(app).splitlines()
        assert any("ctrl+t" in line and "kill" in line for line in lines)
        assert any("f5" in line and "start" in line for line in lines)
        await pilot.press("escape")
        await settle(pilot)
        await pilot.press("ctrl+t")
        await settle(pilot)
        assert isinstance(app.screen, Dialog)


async def test_wrong_wishes_name_file_and_key_and_the_console_starts_with_the_rest(
    started: Start, tmp_path: Path
) -> None:
    app, _ = started(
        '[console.keymap]\n"fleet.kil" = "k"\n"fleet.stop" = "ctrl+nope"\n"fleet.log" = "f6"\n"fleet.mark" = 3\n'
    )
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        problems = app.preferences.problems
        file = str(tmp_path / "config.toml")
        assert len(problems) == 3 and all(problem.startswith(file) for problem in problems)
        assert any(
            "'fleet.kil'" in problem and "did you mean 'fleet.kill'?" in problem for problem in problems
        )
        assert any("'fleet.stop'" in problem and "'ctrl+nope' is no key" in problem for problem in problems)
        assert any("'fleet.mark'" in problem and "found 3" in problem for problem in problems)
        assert "f6 log" in screen_text(app) and "x stop" in screen_text(app)
        await pilot.press("f2")
        await settle(pilot)
        assert "fleet.kil" in screen_text(app)  # a long path may break the words behind it


def test_a_key_of_another_action_of_the_same_place_is_refused_and_a_swap_is_not() -> None:
    taken = resolve_keymap({"fleet.stop": "s"}, "F")
    assert taken == ({}, ["F: console.keymap 'fleet.stop': 's' is the key of 'fleet.start' there"])
    swapped, problems = resolve_keymap({"fleet.stop": "s", "fleet.start": "x"}, "F")
    assert swapped == {"fleet.stop": "s", "fleet.start": "x"} and not problems


def test_a_name_of_before_is_told_and_means_what_it_is_called_now() -> None:
    keymap, [problem] = resolve_keymap({"fleet.launch": "f6", "go.pipes": "f8"}, "F")
    assert keymap == {"fleet.start": "f6"}
    assert "'fleet.launch' is 'fleet.start'" in problem and "'go.pipes' is gone" in problem


def test_a_verbs_name_alone_stands_for_it_everywhere() -> None:
    keymap, problems = resolve_keymap({"copy": "f9"}, "F")
    assert {"fleet.copy", "transcript.copy", "lines.copy"} <= set(keymap) and not problems


def test_the_way_out_is_added_to_and_never_lost() -> None:
    assert resolve_keymap({"app.quit": "f10"}, "F") == ({"app.quit": "ctrl+q,f10"}, [])


def test_every_action_of_the_console_has_an_id_that_can_be_remapped() -> None:
    known = actions()
    assert {
        "fleet.kill",
        "composer.send",
        "transcript.copy",
        "team-view.pick",
        "lines.wrap",
        "go.fleet",
    } <= set(known)
    spare = {action: f"f{n % 12 + 1}" for n, action in enumerate(sorted(known))}
    for action, key in spare.items():
        granted, problems = resolve_keymap({action: key}, "F")
        assert granted or "is the key of" in problems[0]


async def test_settings_chosen_on_the_screen_hold_at_once_and_at_the_next_start(
    started: Start, tmp_path: Path
) -> None:
    app, _ = started('[console]\ntheme = "tekton-light"\n')
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert app.theme == "tekton-light"
        await pilot.press("f2")
        await settle(pilot)
        app.screen.query_one(OptionList).highlighted = 1
        await pilot.press("right", "down", "enter")
        await settle(pilot)
        assert app.has_class("-compact") and not app.preferences.bell
        await pilot.press("up", "up", "left")
        await settle(pilot)
        assert app.theme == "tekton-dark"
    kept = json.loads((tmp_path / "state" / "console.json").read_text())
    assert kept == {"density": "compact", "bell": False, "theme": "tekton-dark"}
    again, _ = started()
    async with again.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert again.theme == "tekton-dark" and again.has_class("-compact") and not again.preferences.bell


def test_two_consoles_keep_each_others_settings_and_what_cannot_be_read_is_not_thrown_away(
    tmp_path: Path,
) -> None:
    kept = tmp_path / "state" / "console.json"
    first, second = read_preferences(tmp_path), read_preferences(tmp_path)
    first.set("theme", "tekton-light")
    second.set("density", "compact")
    first.set("bell", False)
    assert json.loads(kept.read_text()) == {"theme": "tekton-light", "density": "compact", "bell": False}
    kept.write_text(json.dumps({"theme": "tekton-light", "of_a_newer_version": 1}))
    second.set("bell", True)
    assert json.loads(kept.read_text()) == {"theme": "tekton-light", "of_a_newer_version": 1, "bell": True}
    for broken in ('{"theme": "tekton-li', "[1]", "\udcff"):
        kept.write_bytes(broken.encode(errors="surrogateescape"))
        first.set("title", False)
        assert json.loads(kept.read_text()) == {"title": False}
        assert kept.with_name("console.json.unreadable").read_bytes() == broken.encode(
            errors="surrogateescape"
        )


async def test_a_setting_that_cannot_be_kept_is_said_and_holds_for_now(
    started: Start, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    app, _ = started()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.commands.console.set_preference("density", "compact")
        await settle(pilot)
        assert app.has_class("-compact") and "holds for now only" in notices(app)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("[console]\ntheme = 3\n", "'console.theme': expected a text, found 3"),
        ('[console]\nbell = "yes"\n', "'console.bell': expected true or false"),
        ('[console]\ndensity = "tiny"\n', "expected comfortable or compact"),
        ('[console]\ncolour = "red"\n', "'console.colour': there is no such setting"),
        ("console = 1\n", "'console': expected a table"),
        ("[console\n", "cannot be read"),
    ],
)
def test_a_wrong_setting_is_told_with_file_and_key(tmp_path: Path, config: str, said: str) -> None:
    (tmp_path / "config.toml").write_text(config)
    preferences = read_preferences(tmp_path)
    [problem] = preferences.problems
    assert problem.startswith(str(tmp_path / "config.toml")) and said in problem
    assert preferences.theme == Preferences().theme and preferences.bell


async def test_an_unknown_theme_is_told_and_ours_is_shown(tmp_path: Path) -> None:
    client = FakeClient(snapshot())
    app = TektonApp(client.connect, theme="no-such")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert app.theme == "tekton-dark" and "no theme 'no-such'" in notices(app)
