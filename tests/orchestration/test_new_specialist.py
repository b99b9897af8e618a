"""A specialist of one's own by the actions: what it would be is shown before, and it is written whole or not at all."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from backend.catalog import load_with
from backend.config.specialist_files import unused
from backend.home import Home
from backend.orchestration.actions.own_specialists import create_specialist, preview_specialist
from backend.schema.errors import TektonError
from backend.schema.params import CreateSpecialist, PreviewSpecialist
from backend.schema.results import SpecialistDraft
from tests.orchestration.running import do, running

GOOD: dict[str, Any] = {"name": "critic", "persona": "You are the critic.\nYou are kind."}
ODD = "\x7f\x85\u2028\ufeff\x1b]52;c;x\x07 : # \"'\\ \u202e--- ünï 🜁\n---\ntools: [shell]"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").prepare()


async def preview(home: Home, **fields: Any) -> SpecialistDraft:
    return await preview_specialist(PreviewSpecialist(**{**GOOD, **fields}), home=home, environment={})


async def create(home: Home, **fields: Any) -> Any:
    return await create_specialist(CreateSpecialist(**{**GOOD, **fields}), home=home, environment={})


def problems(draft: SpecialistDraft) -> dict[str, str]:
    return {problem.field: problem.message for problem in draft.problems}


def modes(path: Path) -> list[int]:
    return [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)]


async def test_what_is_shown_is_what_is_written_and_what_the_model_is_sent(home: Home) -> None:
    fields = {"name": "Code_Critic", "title": "The: Critic", "capabilities": ["review", " ", "tests "],
              "provider": "scripted", "model": "m-1"}  # fmt: skip
    draft = await preview(home, **fields)
    assert not draft.problems and draft.prompt == GOOD["persona"]
    assert not home.specialists.exists(), "a preview writes nothing"
    made = await create(home, **fields)
    written = Path(made.where)
    assert str(written) == draft.where and written == home.specialists / "code-critic" / "SKILL.md"
    assert (home.specialists / "code-critic" / "SKILL.md").read_text() == draft.text
    assert modes(written) == [0o600, 0o700]
    _, catalog, faults = load_with(home)
    row = catalog.get("code-critic")
    assert not faults and (made.id, made.name) == (row.id, row.name) == ("code_critic-ai", "code_critic")
    assert (row.title, row.persona) == ("The: Critic", draft.prompt)
    assert (row.capabilities, row.provider, row.model) == (["review", "tests"], "scripted", "m-1")


async def test_without_title_provider_and_model_it_has_its_name_and_those_of_the_fleet(home: Home) -> None:
    await create(home, name="far-off")
    row = load_with(home)[1].get("far-off")
    assert row.title == "Far off" and row.provider is None and row.model is None


@pytest.mark.parametrize("field", ["title", "model", "capabilities", "persona"])
async def test_odd_text_stays_text_and_gives_nobody_tools(home: Home, field: str) -> None:
    draft = await preview(home, **{field: [ODD] if field == "capabilities" else f"x{ODD}"})
    assert not draft.problems
    await create(home, **{field: [ODD] if field == "capabilities" else f"x{ODD}"})
    _, catalog, faults = load_with(home)
    row = catalog.get("critic")
    assert not faults and not row.tools
    held = row.capabilities[0] if field == "capabilities" else getattr(row, field)
    assert held.removeprefix("x").strip() == ODD.strip()
    assert row.persona == draft.prompt


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "give it a name"),
        ("../evil", "small letters"),
        ("a b", "small letters"),
        ("9x", "small letters"),
        ("ünï", "small letters"),
        ("x" * 40, "small letters"),
        ("a/b", "small letters"),
        ("\x1b[2J", "small letters"),
        ("auto", "auto"),
        ("ALL", "all"),
        ("team", "team"),
        ("you", "you"),
        ("apollo", "ships with the platform"),
        ("Apollo", "ships with the platform"),
        ("mine", "is there already"),
        ("my-other", "is there already"),
        ("tabled", "config.toml has [specialists.tabled] already"),
        ("duo", "duo"),
    ],
)
async def test_a_name_that_cannot_be_had_is_refused_with_why_and_nothing_is_written(
    home: Home, name: str, says: str
) -> None:
    home.config.write_text('[specialists.tabled]\ntitle = "T"\n[groups]\nduo = ["apollo", "athena"]\n')
    home.specialists.mkdir()
    (home.specialists / "mine.toml").write_text("broken")
    (home.specialists / "My_Other").mkdir()
    (home.specialists / "My_Other" / "SKILL.md").write_text("---\ntitle: x\n---\nYou.")
    before = sorted(home.root.rglob("*"))
    draft = await preview(home, name=name)
    assert problems(draft).keys() == {"name"} and says in problems(draft)["name"]
    assert draft.prompt == GOOD["persona"], "what is right is shown all the same"
    with pytest.raises(TektonError) as refused:
        await create(home, name=name)
    assert says in refused.value.message and refused.value.message.startswith("name: ")
    assert refused.value.code in ("conflict", "invalid_request")
    assert sorted(home.root.rglob("*")) == before


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"persona": " \n"}, "persona", "write who it is"),
        ({"persona": "You\0."}, "persona", "zero byte"),
        ({"persona": "x" * 200_000}, "persona", "longer than"),
        ({"provider": "nobody"}, "provider", "expected one of"),
    ],
)
async def test_each_problem_names_its_field(
    home: Home, fields: dict[str, str], field: str, says: str
) -> None:
    found = problems(await preview(home, **fields))
    assert found.keys() == {field} and says in found[field]
    for name in ("", "apollo", "a b"):
        both = problems(await preview(home, **fields, name=name))
        assert both.keys() == {field, "name"}, "all that is wrong is said at once"
    with pytest.raises(TektonError):
        await create(home, **fields)
    assert not home.specialists.exists()


async def test_of_two_that_create_the_same_one_wins_and_its_file_is_whole(home: Home) -> None:
    texts = [f"You are number {number}." for number in range(8)]
    done = await asyncio.gather(*(create(home, persona=text) for text in texts), return_exceptions=True)
    lost = [error for error in done if isinstance(error, TektonError)]
    assert len(lost) == 7 and all(error.code == "conflict" for error in lost)
    assert [path.name for path in home.specialists.iterdir()] == ["critic"], "nothing half-written is left"
    assert load_with(home)[1].get("critic").persona in texts and not unused(home.specialists)


async def test_where_nothing_can_be_written_nothing_is_left_and_the_place_is_named(home: Home) -> None:
    home.specialists.write_text("a file stands in the way")
    with pytest.raises(TektonError, match="specialists"):
        await create(home)
    assert home.specialists.is_file()


async def test_who_was_written_a_moment_ago_can_be_launched_at_once(tmp_path: Path) -> None:
    async with running(tmp_path / "home", "apollo") as platform:
        for number in range(3):
            made = await do(platform, "create_specialist", **GOOD | {"name": f"critic-{number}"})
            report = await do(platform, "launch", ids=[made.name], dry_run=True)
            assert [row.id for row in report.plan.items] == [made.id]
        with pytest.raises(TektonError, match="critik"):
            await do(platform, "launch", ids=["critik"], dry_run=True)


async def test_the_rules_of_a_file_apply_once_it_was_looked_at(tmp_path: Path) -> None:
    async with running(tmp_path / "home", "apollo") as platform:
        assert platform.watch is not None
        platform.home.specialists.mkdir(exist_ok=True)
        file = platform.home.specialists / "rev.toml"
        for verdict in ("deny", "allow"):
            file.write_text(f'persona = "You review."\n[rules]\n{verdict} = ["shell:*"]\n')
            await platform.watch.look()
            decided = await do(platform, "explain_rule", tool="shell:run", ai_id="rev-ai")
            assert decided.verdict == verdict
        file.write_text('persona = "You review."\n[rules]\nallow = ["shell:run x"]\n')
        await platform.watch.look()
        decided = await do(platform, "explain_rule", tool="shell:run", ai_id="rev-ai")
        assert decided.verdict == "deny", "rules that cannot be read deny every call"


@pytest.mark.parametrize("moved_s", [-3_600.0, -5 * 365 * 86_400.0, 3_600.0])
async def test_a_file_is_read_anew_whatever_the_clock_says_of_when_it_was_written(
    tmp_path: Path, moved_s: float
) -> None:
    async with running(tmp_path / "home", "apollo") as platform:
        assert platform.watch is not None
        platform.home.specialists.mkdir(exist_ok=True)
        file = platform.home.specialists / "rev.toml"
        for moved, verdict in ((0.0, "deny"), (moved_s, "allow")):
            file.write_text(f'persona = "You review."\n[rules]\n{verdict} = ["shell:*"]\n')
            at = time.time() + moved
            os.utime(file, (at, at))
            await platform.watch.look()
            decided = await do(platform, "explain_rule", tool="shell:run", ai_id="rev-ai")
            assert decided.verdict == verdict
