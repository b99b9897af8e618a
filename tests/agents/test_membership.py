"""External agents where specialists of ours stand: as judge, as moderator, judged, within a budget, at a fork of the road."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from backend.orchestration.platform import Platform
from backend.schema.errors import TektonError
from backend.schema.events import AskOpened
from backend.schema.frames import StreamToolResult
from tests.agents.test_agents import chat, config, until_agent
from tests.orchestration.running import Watcher, do, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

BUDGETS = """
[specialists.counted.budget]
tokens_per_day = 20
[specialists.silent.budget]
tokens_per_day = 90
[specialists.spender.budget]
cost_per_day = 0.5
currency = "EUR"
"""
NAMES = ("coder", "counted", "silent", "spender", "rhetor", "resumer", "forgetter")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tmp_path_factory.mktemp(name) for name in NAMES}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(
    tmp_path_factory: pytest.TempPathFactory, folders: dict[str, Path]
) -> AsyncGenerator[Platform]:
    flags = {"resumer": ["--resume"], "forgetter": ["--forgets"]}
    more = {"coder": 'persona = "You are Coder."'}
    rows = "".join(
        config(folder, name, *flags.get(name, []), more=more.get(name, ""))
        for name, folder in folders.items()
    )
    async with running(
        tmp_path_factory.mktemp("members") / "home", *NAMES, "apollo", config=rows + BUDGETS
    ) as platform:
        yield platform


def asked(folder: Path) -> int:
    """Return how often the agent that works here was sent a question."""
    path = folder / ".asked"
    return len(path.read_text()) if path.exists() else 0


async def over_budget(platform: Platform, ai_id: str, text: str = "say hm") -> str:
    with pytest.raises(TektonError) as refused:
        await chat(platform, text, ai_id=ai_id)
    assert refused.value.code == "budget_exceeded"
    return refused.value.message


async def test_an_agent_over_its_budget_is_refused_before_it_is_asked(
    shared: Platform, folders: dict[str, Path]
) -> None:
    for _ in range(2):  # 12 tokens each, as it says
        await chat(shared, "say hm", ai_id="counted")
    before = asked(folders["counted"])
    assert "24 of 20 tokens" in await over_budget(shared, "counted")
    with pytest.raises(TektonError, match="over budget"):
        await do(shared, "pipeline", pipeline='apollo "say on" | counted', wait=True)
    team = await do(shared, "team_chat", content="say hm", target_ids=["counted", "coder"], wait=True)
    assert [(one.socket_id, one.code) for one in team.failures] == [("counted-ai", "budget_exceeded")]
    assert [one.content for one in team.responses] == ["hm "]
    assert asked(folders["counted"]) == before == 2


async def test_an_agent_that_counts_nothing_is_estimated_and_its_budget_holds_all_the_same(
    shared: Platform, folders: dict[str, Path]
) -> None:
    for word in ("uncounted", "zeros"):
        outcome = await chat(shared, f"{word}\nthink {'a' * 40}\nsay {'b' * 40}", ai_id="silent")
        assert outcome.usage.estimated and outcome.usage.input_tokens > 0
        assert outcome.usage.output_tokens >= 20, "thoughts are written too"
    before = asked(folders["silent"])
    await over_budget(shared, "silent")
    assert asked(folders["silent"]) == before == 2
    report = await do(shared, "usage")
    [row] = [row for row in report.specialists if row.ai_id == "silent-ai"]
    assert (row.cost, row.unpriced) == (0.0, 2), "what it cost is unknown, which is not nothing"
    assert not shared.fleet.status("silent-ai").costs.get("USD")


async def test_what_an_agent_says_it_cost_counts_and_ends_at_its_limit(
    shared: Platform, folders: dict[str, Path]
) -> None:
    assert (await chat(shared, "cost 0.3\nsay hm", ai_id="spender")).cost == 0.3
    assert (await chat(shared, "cost 0.6\nsay hm", ai_id="spender")).cost == pytest.approx(0.3)
    before = asked(folders["spender"])
    assert "0.60 of 0.50 EUR" in await over_budget(shared, "spender")
    assert asked(folders["spender"]) == before == 2


async def test_an_agent_judges_and_is_judged(shared: Platform) -> None:
    run = await do(
        shared, "pipeline", pipeline='{coder,apollo} "say left" | coder "echo"', input="", wait=True
    )
    assert '<output from="coder-ai">\nleft ' in run.output and '<output from="apollo-ai">' in run.output
    run = await do(shared, "pipeline", pipeline='coder "say right" | apollo "[[messages]]"', wait=True)
    assert '<output from=\\"coder-ai\\">\\nright ' in run.output


async def test_an_agent_moderates_a_team_of_agents_and_ours(shared: Platform) -> None:
    found = await do(
        shared, "team_chat", content="what?\necho", target_ids=["coder", "apollo"], mode="synthesis", max_rounds=2,
        wait=True,
    )  # fmt: skip
    assert len(found.rounds) == 2 and not found.failures
    assert '<output from="coder-ai">' in found.synthesis and "Write one joint answer" in found.synthesis
    second = {one.socket_id: one.content for one in found.rounds[1].responses}
    assert '<output from="apollo-ai">' in second["coder-ai"], "it was shown what the other said"


@pytest.mark.parametrize(("answer", "option", "said"), [
    ("allow", "0", '["accept", {"drink": "tea"}]'),
    ("allow", "1", '["accept", {"drink": "coffee"}]'),
    ("deny", "no", '["decline", null]'),
    ("deny", "", '["decline", null]'),
])  # fmt: skip
async def test_a_question_of_the_agents_with_fixed_answers_waits_for_a_person(
    shared: Platform, answer: str, option: str, said: str
) -> None:
    watcher = Watcher(shared, "asks")
    try:
        answering = asyncio.create_task(chat(shared, "ask which drink?", ai_id="coder"))
        opened = (await watcher.until(AskOpened)).ask
        assert opened.tool == "agent:question" and "which drink?" in opened.arguments
        assert [one.name for one in opened.options] == ["tea", "coffee", "no answer"]
        with pytest.raises(TektonError, match="'drink' is missing"):
            await do(shared, "answer_ask", id=opened.id, answer="allow")
        await do(shared, "answer_ask", id=opened.id, answer=answer, option=option)
        assert (await answering).content == said
    finally:
        watcher.close()


@pytest.mark.parametrize(("step", "words", "said"), [
    ("wish anything?", "mint tea", '["accept", {"drink": "mint tea"}]'),
    ("form what then?", "drink: tea\ncups: 2\nsweet: no", '["accept", {"drink": "tea", "cups": 2, "sweet": false}]'),
    ("form what then?", '{"drink": "tea", "cups": 2}', '["accept", {"drink": "tea", "cups": 2}]'),
])  # fmt: skip
async def test_an_open_question_of_the_agents_is_a_form_that_a_person_fills(
    shared: Platform, step: str, words: str, said: str
) -> None:
    watcher = Watcher(shared, "asks")
    try:
        answering = asyncio.create_task(chat(shared, step, ai_id="coder"))
        opened = (await watcher.until(AskOpened)).ask
        assert opened.tool == "agent:question" and opened.form is not None and opened.form[0].name == "drink"
        with pytest.raises(TektonError, match="there is no field 'sugar'"):
            await do(shared, "answer_ask", id=opened.id, answer="allow", words='{"sugar": 1}')
        await do(shared, "answer_ask", id=opened.id, answer="allow", words=words)
        assert (await answering).content == said
    finally:
        watcher.close()


async def test_a_call_that_ends_meanwhile_leaves_the_agents_question_open(shared: Platform) -> None:
    watcher = Watcher(shared, "asks", "tools")
    try:
        answering = asyncio.create_task(chat(shared, "between which then?", ai_id="coder"))
        opened = (await watcher.until(AskOpened)).ask
        await watcher.until(StreamToolResult)
        await do(shared, "answer_ask", id=opened.id, answer="allow", words="tea")
        assert (await answering).content == '["accept", {"drink": "tea"}]'
    finally:
        watcher.close()


async def test_a_question_that_nobody_sees_is_cancelled_and_one_without_a_form_we_know_declined(
    shared: Platform,
) -> None:
    assert (await chat(shared, "wish anything?", ai_id="coder")).content == '["cancel", null]'
    assert (await chat(shared, "ask which?", ai_id="coder")).content == '["cancel", null]'
    assert (await chat(shared, "odd which?", ai_id="coder")).content == '["decline", null]'


async def test_a_conversation_is_resumed_where_the_agent_can_that(
    shared: Platform, folders: dict[str, Path]
) -> None:
    await chat(shared, "remember the answer is 42", ai_id="resumer")
    await do(shared, "restart", ids=["resumer"])
    outcome = await chat(shared, "recall", ai_id="resumer")
    assert (outcome.content, outcome.notes) == ("the answer is 42", [])
    for kept in folders["resumer"].glob(".session-*"):  # the agent has forgotten it meanwhile
        kept.unlink()
    await do(shared, "restart", ids=["resumer"])
    outcome = await chat(shared, "recall", ai_id="resumer")
    assert outcome.content == "nothing"
    assert outcome.notes == ["the agent does not remember this conversation: it was begun anew"]


async def test_an_agent_that_cannot_go_on_with_a_conversation_says_so_on_its_row_and_in_the_answer(
    shared: Platform,
) -> None:
    await chat(shared, "remember the answer is 42", ai_id="forgetter")
    row = await until_agent(shared, "forgetter-ai", lambda row: row.agent and row.agent.state == "ready")
    assert not row.agent.remembers
    row = await until_agent(shared, "resumer-ai", lambda row: row.agent and row.agent.state == "ready")
    assert row.agent.remembers
    await do(shared, "restart", ids=["forgetter"])
    outcome = await chat(shared, "recall", ai_id="forgetter")
    assert outcome.content == "nothing"
    assert outcome.notes == ["the agent does not remember this conversation: it was begun anew"]


async def test_its_options_are_set_while_it_runs_and_how_hard_it_thinks_by_a_question(
    shared: Platform,
) -> None:
    assert (await chat(shared, "effort", ai_id="resumer")).content == "low False"
    row = await until_agent(shared, "resumer-ai", lambda row: row.agent.options)
    assert [(one.id, one.value) for one in row.agent.settable] == [
        ("mode", "ask"),
        ("model", "small"),
        ("effort", "low"),
        ("terse", False),
    ]
    for option, value in (("terse", "true"), ("mode", "plan"), ("model", "large")):
        done = await do(shared, "set_agent_option", id="resumer", option=option, value=value)
        assert (done.option, done.value) == (option, value)
    outcome = await chat(shared, "mode", ai_id="resumer")
    assert (outcome.content, outcome.model) == ("plan", "acp:large")
    await do(shared, "create_session", owner="resumer")  # a conversation that begins later has them too
    assert (await chat(shared, "mode\neffort", ai_id="resumer", session_id="")).content == "planlow True"
    high = await chat(shared, "effort", ai_id="resumer", options={"effort": "high"})
    assert (high.content, high.notes) == ("high True", [])
    assert (await chat(shared, "effort", ai_id="resumer")).content == "low True", "its own again"
    wrong = await chat(shared, "effort", ai_id="resumer", options={"effort": "minimal"})
    assert wrong.content == "low True"
    assert wrong.notes == ["the agent has no effort 'minimal'; it has: low, high"]


async def test_what_was_set_while_it_ran_holds_after_a_restart(shared: Platform) -> None:
    for option, value in (("terse", "true"), ("mode", "plan"), ("model", "large")):
        await do(shared, "set_agent_option", id="resumer", option=option, value=value)
    await do(shared, "restart", ids=["resumer"])
    for session in ("", (await do(shared, "create_session", owner="resumer")).id):
        told = await chat(shared, "mode\neffort", ai_id="resumer", session_id=session)
        assert (told.content, told.model) == ("planlow True", "acp:large")
    for option, value in (("terse", "false"), ("mode", "ask"), ("model", "small")):
        await do(shared, "set_agent_option", id="resumer", option=option, value=value)
    await do(shared, "restart", ids=["resumer"])
    assert (await chat(shared, "mode\neffort", ai_id="resumer")).content == "asklow False"


@pytest.mark.parametrize(("ai_id", "option", "value", "why"), [
    ("resumer", "mode", "yolo", "has no mode 'yolo'; it has: ask, plan"),
    ("resumer", "colour", "red", "has no option 'colour'; it has: model, effort, terse"),
    ("resumer", "terse", "maybe", "has no Terse 'maybe'; it has: true, false"),
    ("apollo", "mode", "plan", "no external agent"),
    ("athena", "mode", "plan", "no external agent"),
])  # fmt: skip
async def test_what_an_agent_does_not_have_is_refused_with_what_it_has(
    shared: Platform, ai_id: str, option: str, value: str, why: str
) -> None:
    with pytest.raises(TektonError, match=why):
        await do(shared, "set_agent_option", id=ai_id, option=option, value=value)


async def test_an_option_is_checked_before_the_first_conversation_and_refused_of_one_that_does_not_run(
    shared: Platform,
) -> None:
    await do(shared, "restart", ids=["coder"])
    await until_agent(shared, "coder-ai", lambda row: row.agent and row.agent.state == "ready")
    with pytest.raises(TektonError, match="has no mode 'yolo'"):
        await do(shared, "set_agent_option", id="coder", option="mode", value="yolo")
    await do(shared, "set_agent_option", id="coder", option="mode", value="plan")
    assert (await chat(shared, "mode", ai_id="coder")).content == "plan"
    await do(shared, "kill", ids=["coder"])
    with pytest.raises(TektonError, match="launch it, or set it in"):
        await do(shared, "set_agent_option", id="coder", option="mode", value="plan")
    await do(shared, "launch", ids=["coder"])


async def test_commands_of_an_agents_are_known_and_nothing_stands_before_one(shared: Platform) -> None:
    await chat(shared, "offer review attach", ai_id="coder")
    row = await until_agent(shared, "coder-ai", lambda row: row.agent and row.agent.commands)
    assert [(one.id, one.about) for one in row.agent.commands] == [
        ("review", "does review"),
        ("attach", "does attach"),
    ]
    new = await do(shared, "create_session", owner="coder")
    ran = await chat(shared, "/review it all", ai_id="coder", session_id=new.id)
    assert ran.content == "ran /review with 'it all'", "the persona would hide it"
    said = await chat(shared, "echo", ai_id="coder", session_id=new.id)
    assert said.content.startswith("You are Coder."), "the persona comes with the question behind it"
