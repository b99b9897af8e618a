"""Models on the running product: chosen, changed, listed, fetched, paid for; through API and command line."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from backend.schema.errors import TektonError
from backend.schema.events import CallProgress, ServiceEvent
from backend.schema.frames import StreamPhase, StreamReasoning
from tests.providers.dialects import Answer
from tests.providers.product import BOUND_S, Product
from tests.providers.upstreams import Call
from tests.providers.vendor_streams import BAD, GOOD, Bad, Good

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


async def test_a_running_specialist_changes_provider_and_model_and_keeps_its_conversation(
    product: Any,
) -> None:
    one: Product = await product(ANTHROPIC_API_KEY="the-key", OPENAI_API_KEY="other-key")
    await one.launch("apollo")
    pid = (await one.row("apollo"))["pid"]
    assert (await one.ask("apollo", "remember plum"))["content"] == "You said: remember plum"

    code, out, err = await one.tekton("models", "set", "apollo", "--provider", "anthropic")
    assert (code, out.strip()) == (0, "apollo: Claude Sonnet 5.5"), err
    one.vendors["anthropic"].play(Answer(pieces=["I am ", "Claude"], tokens=4))
    outcome = await one.ask("apollo", "who?")
    assert (outcome["content"], outcome["model"]) == ("I am Claude", "anthropic:claude-sonnet-5-5")
    [call] = one.vendors["anthropic"].upstream.to("/v1/messages")
    assert call.headers["authorization"] == "Bearer the-key"
    assert "remember plum" in [message["content"] for message in call.json["messages"]]

    row = await one.row("apollo")
    assert (row["pid"], row["model_display"], row["provider_reason"]) == (
        pid,
        "Claude Sonnet 5.5",
        "set by hand",
    )
    assert row["cost"] > 0
    [result] = (await one.client.request("set_model", {"ids": ["apollo"], "provider": "openai"}))["results"]
    assert result["ok"] and result["message"] == "Test-model"
    one.vendors["openai"].play(Answer(pieces=["now me"]))
    assert (await one.ask("apollo", "and now?"))["content"] == "now me"


async def test_a_model_nobody_has_is_refused_with_what_there_is_and_all_stays_as_it_was(product: Any) -> None:
    one: Product = await product()
    await one.launch("apollo")
    for provider, model, said in (
        ("ollama", "nosuch", "ollama pull nosuch"),
        ("anthropic", "claude-9", "no key for Anthropic"),
        ("olama", "x", "did you mean 'ollama'"),
    ):
        call = {"ids": ["apollo"], "provider": provider, "model": model}
        [result] = (await one.client.request("set_model", {**call}))["results"]
        assert not result["ok"] and said in result["message"]
    code, _, err = await one.tekton("models", "set", "apollo")
    assert code == 2 and "give a model" in err
    assert (await one.row("apollo"))["provider"] == "scripted"
    assert (await one.ask("apollo", "hi"))["content"] == "You said: hi"


async def test_a_session_has_a_model_of_its_own_and_others_do_not_notice(product: Any) -> None:
    one: Product = await product()
    await one.launch("apollo")
    session = (await one.client.request("create_session", {"owner": "apollo", "title": "deep"}))["id"]
    code, _, err = await one.tekton(
        "models", "set", "test-model", "--provider", "ollama", "--session", session
    )
    assert code == 0, err
    outcome = await one.ask("apollo", "hello", session_id=session)
    assert (outcome["content"], outcome["model"]) == ("Hello there", "ollama:test-model")
    assert (await one.ask("apollo", "hello"))["model"] == "scripted:scripted"
    with pytest.raises(TektonError, match="did you mean 'ollama'"):
        await one.client.request("patch_session", {"id": session, "provider": "olama"})


async def test_lists_are_live_and_a_provider_that_does_not_answer_says_why(product: Any) -> None:
    one: Product = await product(OPENAI_API_KEY="other-key")
    await one.vendors["ollama"].upstream.stop()
    code, out, _ = await one.tekton("models", "--json")
    rows = {row["provider"]: row for row in json.loads(out)["providers"]}
    assert code == 0 and set(rows) == {"ollama", "anthropic", "openai", "embedded"}
    assert not rows["ollama"]["ok"] and "connection refused" in rows["ollama"]["detail"]
    assert not rows["anthropic"]["ok"] and "ANTHROPIC_API_KEY" in rows["anthropic"]["detail"]
    model = rows["openai"]["models"][0]
    assert (model["name"], model["context_window"]) == ("test-model", 32768)
    _, table, _ = await one.tekton("models", "--provider", "openai")
    assert "32,768" in table and "test-model" in table


STEPS = [
    {"status": "pulling manifest"},
    {
        "status": "pulling 9f438cb9cd58",
        "digest": "sha256:9f438cb9cd58",
        "total": 4_000_000_000,
        "completed": 0,
    },
    {
        "status": "pulling 9f438cb9cd58",
        "digest": "sha256:9f438cb9cd58",
        "total": 4_000_000_000,
        "completed": 10**9,
    },
    {"status": "verifying sha256 digest"},
    {"status": "success"},
]


async def test_a_pull_shows_its_progress_to_all_and_its_failure_in_ollamas_words(product: Any) -> None:
    one: Product = await product()
    seen = asyncio.Event()

    async def pull(call: Call) -> None:
        assert call.json["model"] == "tiny:1b" and call.json["stream"]
        await call.begin("application/x-ndjson")
        for number, step in enumerate(STEPS):
            if number == 3:
                await asyncio.wait_for(seen.wait(), BOUND_S)
            await call.send(json.dumps(step).encode() + b"\n")
        await call.end()

    one.vendors["ollama"].others["/api/pull"] = pull
    await one.client.subscribe(["fleet"])
    running = asyncio.create_task(one.tekton("models", "pull", "tiny:1b"))
    states: list[tuple[str, str]] = []

    async def read() -> None:
        async for batch in one.client.events():
            for _, event in batch:
                if isinstance(event, ServiceEvent) and event.status.name == "pull tiny:1b":
                    states.append((event.status.state, event.status.detail))
                    if "25 %" in event.status.detail:
                        seen.set()
                    if event.status.state == "stopped":
                        return

    await asyncio.wait_for(read(), BOUND_S)
    code, out, err = await running
    assert (code, out) == (0, "pulled tiny:1b\n")
    assert "25 % of 4.0 GB" in err
    assert [detail for _, detail in states if detail][-1] == "success"
    assert states[0][0] == "busy"

    async def refuse(call: Call) -> None:
        await call.begin("application/x-ndjson")
        await call.send(
            b'{"status":"pulling manifest"}\n', b'{"error":"pull model manifest: file does not exist"}\n'
        )
        await call.end()

    one.vendors["ollama"].others["/api/pull"] = refuse
    with pytest.raises(TektonError) as failed:
        await one.client.request("pull_model", {"model": "nosuch"})
    assert "file does not exist" in failed.value.message
    services = (await one.client.request("snapshot", {}))["services"]
    assert [row["state"] for row in services if row["name"] == "pull nosuch"] == ["exited"]


async def test_a_pull_tells_its_caller_how_far_it_is_and_cancelled_ends_at_the_upstream(product: Any) -> None:
    one: Product = await product()
    calls: list[Call] = []

    async def pull(call: Call) -> None:
        calls.append(call)
        await call.begin("application/x-ndjson")
        await call.send(*(json.dumps(step).encode() + b"\n" for step in STEPS[:3]))
        await call.gone.wait()

    one.vendors["ollama"].others["/api/pull"] = pull
    running = asyncio.create_task(
        one.client.request("pull_model", {"model": "tiny:1b", "request_id": "pull-1"})
    )

    async def told() -> None:
        async for batch in one.client.events():
            for _, event in batch:
                if isinstance(event, CallProgress) and event.request_id == "pull-1" and "25 %" in event.text:
                    return

    await asyncio.wait_for(told(), BOUND_S)
    assert (await one.client.request("cancel", {"target": "pull-1"}))["confirmed"]
    with pytest.raises(TektonError) as cancelled:
        await asyncio.wait_for(running, BOUND_S)
    assert cancelled.value.code == "cancelled"
    await asyncio.wait_for(calls[0].gone.wait(), BOUND_S)
    services = (await one.client.request("snapshot", {}))["services"]
    assert [row["cause"] for row in services if row["name"] == "pull tiny:1b"] == ["cancelled"]


async def test_over_the_cap_turns_queue_visibly_and_thinking_comes_apart(product: Any) -> None:
    one: Product = await product('[specialists.apollo]\nprovider = "ollama"\n')
    vendor = one.vendors["ollama"]
    vendor.play(Answer(pieces=["one ", "two"], thinking=["let me see"]), hold_after=1)
    await one.launch("apollo")
    await one.until_row("apollo", lambda row: not row.get("warming"))
    await one.client.subscribe(["chat"])
    sessions = [(await one.client.request("create_session", {"owner": "apollo"}))["id"] for _ in range(6)]
    calls = [
        {"ai_id": "apollo", "content": f"q{n}", "request_id": f"q{n}", "session_id": session}
        for n, session in enumerate(sessions)
    ]
    asked = [asyncio.create_task(one.client.request("chat", call)) for call in calls]
    phases: dict[str, list[tuple[str, int]]] = {}
    thoughts: dict[str, str] = {}

    async def read() -> None:
        async for batch in one.client.events():
            for _, event in batch:
                if isinstance(event, StreamPhase):
                    phases.setdefault(event.request_id, []).append((event.phase, event.position))
                    if sum(("queued", 1) in seen or ("queued", 2) in seen for seen in phases.values()) == 2:
                        vendor.go.set()
                if isinstance(event, StreamReasoning):
                    thoughts[event.request_id] = thoughts.get(event.request_id, "") + event.content
            if len(thoughts) == 6:
                return

    await asyncio.wait_for(read(), BOUND_S)
    outcomes = await asyncio.gather(*asked)
    assert {outcome["content"] for outcome in outcomes} == {"one two"}
    assert set(thoughts.values()) == {"let me see"} and await vendor.calls() == 6
    queued = [seen for seen in phases.values() if any(phase == "queued" and place for phase, place in seen)]
    assert len(queued) == 2, "four places, six questions"


async def test_over_the_budget_no_call_is_made_and_status_and_penia_know(product: Any) -> None:
    one: Product = await product(
        '[specialists.apollo]\nprovider = "ollama"\n[specialists.apollo.budget]\ntokens_per_day = 20\n'
    )
    one.vendors["ollama"].play(Answer(prompt=12, tokens=9))
    await one.launch("apollo", "penia")
    await one.ask("apollo", "hello")
    with pytest.raises(TektonError) as refused:
        await one.ask("apollo", "again")
    assert refused.value.code == "budget_exceeded" and "21 of 20 tokens" in refused.value.message
    assert await one.vendors["ollama"].calls() == 1
    _, out, _ = await one.tekton("status")
    assert "budget of apollo: 21 of 20 tokens today · used up" in out
    told = (await one.ask("penia", "[[messages]]"))["content"]
    assert "apollo: 12 tokens in, 9 out" in told and "0 of 20 tokens are left" in told


async def test_every_stream_that_was_seen_ends_its_turn_truly_and_leaves_its_worker_answering(
    product: Any,
) -> None:
    names = {"openai": "athena", "anthropic": "apollo", "ollama": "metis"}
    own = "".join(f'[specialists.{name}]\nprovider = "{kind}"\n' for kind, name in names.items())
    one: Product = await product(own, ANTHROPIC_API_KEY="k-anthropic", OPENAI_API_KEY="k-openai")
    cases = {f"[{number}]": case for number, case in enumerate([*GOOD.values(), *BAD.values()])}

    async def play(call: Call) -> None:
        case = next(case for word, case in cases.items() if word in str(call.json["messages"][-1]["content"]))
        await call.begin("text/event-stream")
        await call.send(case.data)
        await call.end()

    for rig in one.vendors.values():
        rig.handler = play
    await one.launch(*names.values())
    pids = {name: (await one.row(name))["pid"] for name in names.values()}
    for word, case in cases.items():
        session = (await one.client.request("create_session", {"owner": names[case.vendor]}))["id"]
        try:
            outcome = await one.ask(names[case.vendor], word, session_id=session)
        except TektonError as error:
            assert isinstance(case, Bad) and error.code == case.code, (case, error)
        else:
            assert isinstance(case, Good), (case, outcome)
            got = (outcome["content"], outcome["finish_reason"])
            assert got == (case.text, case.finish), case
            assert case.note in " ".join(outcome.get("notes", []))
    for rig in one.vendors.values():
        rig.handler = None
    for name, pid in pids.items():
        row = await one.until_row(name, lambda row: row["state"] == "ready")
        assert row["pid"] == pid and row["tokens_in"] >= 0
        assert (await one.ask(name, "and now?"))["content"] == "Hello there"


async def test_a_model_that_ollama_has_answers_on_a_fresh_machine_and_another_can_be_chosen(
    product: Any,
) -> None:
    one = await product("", TEKTON_PROVIDER="auto")
    found = await one.client.request("list_candidates", {})
    assert found["current"]["provider"] == "ollama" and found["candidates"][0]["provider"] == "ollama"
    chosen = await one.client.request("use_model", {"provider": "scripted"})
    assert (chosen["provider"], chosen["reason"]) == ("scripted", "chosen by you")
    assert (await one.row("sophia"))["provider"] == "scripted", "who does not run takes it at once"
    assert json.loads((one.home.root / "model-choice.json").read_text())["provider"] == "scripted"
    back = await one.client.request("use_model", {"provider": "auto"})
    assert back["provider"] == "ollama" and not (one.home.root / "model-choice.json").exists()
