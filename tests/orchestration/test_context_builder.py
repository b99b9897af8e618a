"""What a turn is sent, over a real worker: histories that no line to a worker could carry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal

import msgspec
import pytest
import pytest_asyncio

from backend.home import Home
from backend.orchestration.actions import ACTIONS
from backend.orchestration.opening import open_platform
from backend.orchestration.platform import Platform
from backend.orchestration.turns.context_builder import MAX_TRAIL, LoopRefused
from backend.orchestration.turns.request import ChatRequest
from backend.providers.embedded.weights import MODEL_NAME as STAND_IN_MODEL
from backend.schema.errors import TektonError
from backend.schema.frames import InfoResponse, Request, TurnContext
from backend.schema.records import StoredMessage
from backend.specialists.killall import kill_all
from backend.wire import MAX_LINE_BYTES

pytestmark = pytest.mark.asyncio(loop_scope="module")
BOUND_S = 60.0
ROLES: tuple[tuple[str, Literal["user", "assistant"]], ...] = (("you", "user"), ("apollo-ai", "assistant"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    home = Home(tmp_path_factory.mktemp("contexts") / "home")
    environment = {"PATH": "/usr/bin:/bin", "TEKTON_PROVIDER": "scripted", "TEKTON_PORT_PROFILE": "free"}
    platform = await open_platform(home, environment)
    try:
        [result] = (await _do(platform, "launch", ids=["apollo"])).results
        assert result.ok, result
        yield platform
    finally:
        await platform.close(stop_fleet=True)
        await asyncio.to_thread(kill_all, home, grace_s=1.0)


async def _do(platform: Platform, action: str, **values: Any) -> Any:
    verb = ACTIONS[action]
    return await asyncio.wait_for(verb.run(platform, verb.read_params(values)), BOUND_S)


async def _begin(platform: Platform) -> str:
    return (await _do(platform, "create_session", owner="apollo")).id


async def _ask(platform: Platform, session: str, text: str, **values: Any) -> Any:
    return await _do(platform, "chat", ai_id="apollo", content=text, session_id=session, wait=True, **values)


async def _sent(platform: Platform, session_id: str, **values: Any) -> tuple[list[str], list[str]]:
    """Return the messages that a question would be sent with, itself left out, and the notes on what was cut."""
    contexts = platform.turns._runner._contexts  # pyright: ignore[reportPrivateUsage]
    request = ChatRequest("apollo-ai", "and now?", request_id="r-built", **values)
    session = await platform.memory.sessions.get(session_id)
    sent = await contexts.build(request, session, platform.fleet.channel("apollo-ai"))
    return [m.content for m in sent.messages or ()], sent.context.notes if sent.context else []


async def test_a_conversation_goes_on_behind_a_question_of_megabytes(platform: Platform) -> None:
    session = await _begin(platform)
    long = "m" * 5_000_000
    assert (await _ask(platform, session, long)).content == f"You said: {long}"
    told = await _ask(platform, session, "[[messages]] and now?")
    sent = [message["content"] for message in msgspec.json.decode(told.content)]
    assert len(sent) == 1 and sent[0].endswith("and now?") and len(sent[0]) < 1000
    assert "- you: mmm" in sent[0], "the summary of what was left out is missing"
    assert any("pruned" in note for note in told.notes)


async def test_what_is_pinned_and_short_is_sent_though_megabytes_came_after_it(platform: Platform) -> None:
    session = await _begin(platform)
    await _ask(platform, session, "the port is 4711")
    page = (await _do(platform, "session_messages", id=session)).messages
    await _do(platform, "pin_message", message_id=page[0].id)
    await _ask(platform, session, '"' * 3_000_000)  # twice as long on the line: each is escaped
    told = await _ask(platform, session, "[[messages]] which port?")
    sent = [message["content"] for message in msgspec.json.decode(told.content)]
    assert sent[-1].endswith("which port?") and "the port is 4711" in sent[0]
    assert sum(map(len, sent)) < 2000


async def test_a_question_no_line_can_carry_is_refused_by_the_cap_and_spoils_nothing(
    platform: Platform,
) -> None:
    session = await _begin(platform)
    with pytest.raises(TektonError) as refused:
        outcome = await _ask(platform, session, "m" * (MAX_LINE_BYTES + 1))
        raise TektonError(outcome.error, code=outcome.code)
    assert refused.value.code == "too_large" and f"{MAX_LINE_BYTES:,}" in refused.value.message
    assert (await _ask(platform, session, "still there?")).content.endswith("still there?")


async def test_the_window_is_that_of_the_model_of_the_turn(platform: Platform) -> None:
    """Also after a switch while the specialist runs, for one turn, and for a session."""
    session = await _begin(platform)
    for number in range(6):
        await _ask(platform, session, f"{number} " + "word " * 200)

    async def shown(**values: Any) -> str:
        sent, notes = await _sent(platform, session, **values)
        assert bool(notes) == (len(sent) < 12)
        return "some" if notes else "all"

    assert await shown() == "all"
    assert await shown(model="window-1200") == "some"
    assert await shown() == "all"
    await _do(platform, "set_model", ids=["apollo"], model="window-1200")
    assert await shown() == "some"
    assert await shown(model="window-9000") == "all"
    await _do(platform, "patch_session", id=session, model="window-20000")
    assert await shown() == "all"
    await _do(platform, "patch_session", id=session, model="")
    await _do(platform, "set_model", ids=["apollo"], model="scripted")
    assert await shown() == "all"


async def test_a_question_goes_to_the_model_it_was_built_for_while_models_are_changed(
    platform: Platform,
) -> None:
    session = await _begin(platform)
    for number in range(6):
        await _ask(platform, session, f"{number} " + "word " * 200)
    stored = await platform.memory.sessions.get(session)
    contexts = platform.turns._runner._contexts  # pyright: ignore[reportPrivateUsage]
    channel = platform.fleet.channel("apollo-ai")

    async def change(name: str) -> None:
        await _do(platform, "set_model", ids=["apollo"], model=name)

    async def build(number: int) -> Request:
        for _ in range(number):
            await asyncio.sleep(0)
        return await contexts.build(
            ChatRequest("apollo-ai", "and now?", request_id=f"b{number}"), stored, channel
        )

    names = ["window-1200", "window-20000", "window-1300", "window-21000"] * 3
    built = await asyncio.gather(*map(build, range(40)), *map(change, names))
    for sent in built[:40]:
        assert sent is not None and sent.model and sent.provider == "scripted"
        room = int(sent.model.removeprefix("window-")) if sent.model != "scripted" else 100_000
        assert (len(sent.messages or ()) < 12) == (room < 2_000), sent.model
    info = await channel.call(Request(type="info"), timeout_s=BOUND_S)
    assert isinstance(info, InfoResponse) and info.model_name == platform.fleet.own_model("apollo-ai")[1]
    await change("scripted")


async def test_a_long_conversation_is_cut_with_a_word_and_begins_at_one_place_for_many_turns(
    platform: Platform,
) -> None:
    session = await _begin(platform)

    async def say(number: int) -> None:
        for author, role in ROLES:
            await platform.memory.messages.append(
                StoredMessage(
                    0, session, author, role, f"{role} {number}", float(number), request_id=f"r{number}"
                )
            )

    for number in range(150):
        await say(number)
    starts: list[str] = []
    for turn in range(40):
        sent, [note] = await _sent(platform, session)
        assert int(note.split()[0]) + len(sent) == 2 * (150 + turn)  # all that is said is sent or counted
        assert len(sent) > 100 and len(sent) % 2 == 0
        starts.append(sent[0])
        await say(150 + turn)
    assert len(set(starts)) <= 4, starts


async def test_what_another_one_said_and_is_pinned_stays_his_word(platform: Platform) -> None:
    [result] = (await _do(platform, "launch", ids=["athena"])).results
    assert result.ok
    session = (await _do(platform, "create_session", owner="team")).id
    await _do(platform, "team_chat", content="the port?", session_id=session, target_ids=["athena", "apollo"])
    rows = (await _do(platform, "session_messages", id=session)).messages
    for row in rows:
        if row.author == "athena-ai":
            await _do(platform, "pin_message", message_id=row.id)
    team = await _do(platform, "team_chat", content="[[messages]]", session_id=session, target_ids=["apollo"])
    sent = [(m["role"], m["content"]) for m in msgspec.json.decode(team.responses[0].content)]
    assert sent[0] == ("user", "athena said: You said: the port?\n\nthe port?")
    assert sent[1] == ("assistant", "You said: the port?")


async def test_an_answer_may_come_back_to_a_specialist_once_and_no_trail_is_endless(
    platform: Platform,
) -> None:
    session = await _begin(platform)
    once, twice = ["apollo-ai", "athena-ai"], ["apollo-ai", "athena-ai", "apollo-ai"]
    long = [f"s{number}-ai" for number in range(MAX_TRAIL)]
    for trail in (once, long):
        await _sent(platform, session, context=TurnContext(trail=trail))
    for trail in (twice, [*long, "athena-ai"]):
        with pytest.raises(LoopRefused, match=r"in circles: .* → apollo"):
            await _sent(platform, session, context=TurnContext(trail=trail))
    # whom the operator named himself is asked, as often as he did
    await _sent(platform, session, context=TurnContext(trail=twice), named=True)


@pytest.mark.parametrize(
    ("own", "named", "counted"),
    [
        (("embedded", STAND_IN_MODEL), {}, True),
        (("scripted", "scripted"), {}, False),
        (("scripted", "scripted"), {"provider": "embedded", "model": STAND_IN_MODEL}, True),
        (("embedded", STAND_IN_MODEL), {"provider": "scripted", "model": "scripted"}, False),
        (("embedded", "large"), {}, False),
    ],
)
async def test_figures_answer_for_the_stand_in_whether_it_is_the_own_model_or_the_turns(
    platform: Platform,
    monkeypatch: pytest.MonkeyPatch,
    own: tuple[str, str],
    named: dict[str, str],
    counted: bool,
) -> None:
    contexts: Any = platform.turns._runner._contexts  # pyright: ignore[reportPrivateUsage]

    async def facts() -> str:
        return "four run"

    monkeypatch.setattr(contexts, "_own_model", lambda ai_id: own)
    monkeypatch.setattr(contexts, "facts_for_stand_in", facts)
    request = ChatRequest("apollo-ai", "How many specialists are running?", request_id="r-facts", **named)
    context = await contexts._context(request, None)
    assert (context.facts if context else "") == ("four run" if counted else "")


@pytest.mark.parametrize(
    ("after", "history", "noted"), [("", True, False), ("r-1", True, True), ("r-1", False, False)]
)
async def test_an_agent_is_told_that_it_knows_more_than_the_branch_it_is_asked_in(
    platform: Platform, after: str, history: bool, noted: bool
) -> None:
    contexts: Any = platform.turns._runner._contexts  # pyright: ignore[reportPrivateUsage]
    session = await platform.memory.sessions.get(await _begin(platform))
    request = ChatRequest("apollo-ai", "and now?", request_id="r-agent", after=after, history=history)
    sent = await contexts._for_agent(request, session)
    assert bool(sent.context and sent.context.notes) == noted
    assert sent.session == (session.id if history else "")
