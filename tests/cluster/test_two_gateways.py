"""One fleet served by two gateways on one store: clients hop, gateways die and sleep, the store goes and comes back."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from typing import Any

import pytest
import redis.asyncio

from backend.client import Client
from backend.schema.errors import TektonError
from backend.schema.events import MessageStored, ServiceEvent, Snapshot
from backend.schema.frames import StreamChunk, StreamEnd, StreamError, StreamPhase
from tests.cluster import ON_REDIS
from tests.cluster.pair import WAIT_S, Heard, Pair

pytestmark = ON_REDIS
STREAMS = 18
SLOW = "[[repeat 2000]] [[rate 25]]"
"""An answer that is under way for longer than any test runs."""


async def answers(client: Client, request_id: str, ai_id: str = "apollo") -> list[dict[str, Any]]:
    """Return the assistant's messages of a request as memory holds them."""
    sessions = (await client.request("list_sessions", {"owner": ai_id}))["sessions"]
    rows: list[dict[str, Any]] = []
    for session in sessions:
        rows += (await client.request("session_messages", {"id": session["id"], "limit": 200}))["messages"]
    return [row for row in rows if row["role"] == "assistant" and row.get("request_id") == request_id]


def chunks(events: list[Any], request_id: str) -> list[StreamChunk]:
    return [event for event in events if isinstance(event, StreamChunk) and event.request_id == request_id]


def text(heard: Heard, request_id: str) -> str:
    return "".join(chunk.content for chunk in chunks(heard.of(StreamChunk), request_id))


async def test_a_client_that_hops_between_the_gateways_loses_nothing_and_hears_nothing_twice(
    pair: Pair,
) -> None:
    steady = await Heard(await pair.client(1)).begin("chat")
    hopping = await Heard(await pair.client(1, 2)).begin("chat")
    asking = [await pair.client(1), await pair.client(2)]
    rows = (await asking[1].request("list_specialists", {}))["specialists"]
    ids = [row["id"] for row in rows][:STREAMS]
    await asking[1].request("launch", {"ids": ids})
    turns = [
        asyncio.create_task(
            asking[number % 2].request(
                "chat",
                {
                    "id": ai_id,
                    "message": f"[[repeat 12]] [[rate 12]] tell {number}",
                    "request_id": f"hop-{number}",
                },
            )
        )
        for number, ai_id in enumerate(ids)
    ]
    drops = 0
    while not all(turn.done() for turn in turns):
        before = len(hopping.events)
        await hopping.until(
            lambda _, before=before: len(hopping.events) > before + 20 or all(t.done() for t in turns)
        )
        await hopping.client.drop()
        drops += 1
    outcomes = await asyncio.gather(*turns)
    for heard in (steady, hopping):
        await heard.until(
            lambda events: sum(isinstance(event, MessageStored) for event in events) >= len(ids)
        )

    assert drops > 5
    for number in range(len(ids)):
        assert text(hopping, f"hop-{number}") == outcomes[number]["content"]
        assert text(steady, f"hop-{number}") == outcomes[number]["content"]
    seqs = [seq for seq, event in hopping.events if seq and not isinstance(event, Snapshot)]
    assert seqs == sorted(set(seqs))
    last = min(seqs[-1], max(seq for seq, _ in steady.events))
    assert [s for s in seqs if s <= last] == [
        seq for seq, event in steady.events if seq and seq <= last and not isinstance(event, Snapshot)
    ]
    assert len(hopping.of(Snapshot)) == 1, "it resumed, and never had to begin again"
    print(f"\n{len(ids)} streams, {len(seqs)} events, {drops} hops: 0 lost, 0 doubled")


async def test_what_a_killed_gateway_had_under_way_is_told_once_by_the_other_and_the_fleet_is_led_on(
    pair: Pair,
) -> None:
    first, second = await pair.client(1), await pair.client(2)
    await second.request("launch", {"ids": ["apollo", "athena"]})
    kept = await first.request("chat", {"id": "apollo", "message": "a finished answer", "request_id": "kept"})
    heard = await Heard(second).begin("chat", "fleet")
    lost = [
        asyncio.create_task(
            first.request("chat", {"id": ai_id, "message": SLOW, "request_id": f"lost-{ai_id}"})
        )
        for ai_id in ("apollo", "athena")
    ]
    own = asyncio.create_task(
        second.request("chat", {"id": "athena", "message": "[[repeat 150]] [[rate 25]]", "request_id": "own"})
    )
    names = ("lost-apollo", "lost-athena", "own")
    await heard.until(lambda events: all(len(chunks(events, name)) > 5 for name in names))

    pair.signal(1, signal.SIGKILL)
    killed = time.monotonic()
    await heard.until(lambda events: sum(isinstance(event, StreamError) for event in events) == 2)
    print(f"\ntold {time.monotonic() - killed:.2f} s after the kill")
    assert (await own)["finish_reason"] == "stop", "the survivor's own turn went on"
    for name in ("apollo", "athena"):
        told = [error for error in heard.of(StreamError) if error.request_id == f"lost-{name}"]
        assert [error.code for error in told] == ["backend_lost"]
        stored = await answers(second, f"lost-{name}", name)
        assert [row["error_code"] for row in stored] == ["backend_lost"]
        assert stored[0]["content"] == text(heard, f"lost-{name}") != ""
    assert [row["content"] for row in await answers(second, "kept")] == [kept["content"]]
    with pytest.raises(TektonError) as again:
        await second.request("chat", {"id": "apollo", "message": SLOW, "request_id": "lost-apollo"})
    assert again.value.code == "backend_lost"

    assert (await second.request("cluster_status", {}))["gateways"][0]["leads"]
    await second.request("kill", {"ids": ["apollo"]})
    result = (await second.request("launch", {"ids": ["apollo"]}))["results"][0]
    assert result["ok"] and (await second.request("chat", {"id": "apollo", "message": "go on"}))["content"]
    for task in lost:
        task.cancel()
    await asyncio.gather(*lost, return_exceptions=True)


async def test_a_gateway_that_slept_longer_than_its_lease_writes_nothing_of_before_and_begins_anew(
    pair: Pair,
) -> None:
    first, second = await pair.client(1), await pair.client(2)
    await first.request("launch", {"ids": ["apollo"]})
    heard = await Heard(second).begin("chat")
    turn = asyncio.create_task(
        first.request(
            "chat", {"id": "apollo", "message": "[[repeat 100]] [[rate 25]]", "request_id": "asleep"}
        )
    )
    await heard.until(lambda events: len(chunks(events, "asleep")) > 5)
    pair.signal(1, signal.SIGSTOP)
    await heard.until(lambda events: any(isinstance(event, StreamError) for event in events))
    after = await second.request("chat", {"id": "apollo", "message": "meanwhile", "request_id": "meanwhile"})
    assert after["content"]
    pair.signal(1, signal.SIGCONT)
    await pair.says(1, "declared it dead and took over its turns: it begins anew")
    await pair.says(1, "tekton serves", times=2)
    assert pair.processes[1].poll() is None

    more = await second.request("chat", {"id": "apollo", "message": "afterwards"})
    assert more["content"]
    stored = await answers(second, "asleep")
    assert [row["error_code"] for row in stored] == ["backend_lost"]
    assert stored[0]["content"] == text(heard, "asleep")
    assert Counter(
        type(event).__name__ for event in heard.of(StreamError, StreamEnd) if event.request_id == "asleep"
    ) == {"StreamError": 1}
    # the whole answer lay in the sleeper's sockets when it woke: it must not be told as given while the store has a part
    with pytest.raises(TektonError) as told:
        await asyncio.wait_for(turn, 60)
    assert told.value.code == "backend_lost"
    assert (await first.request("chat", {"id": "apollo", "message": "and here?"}))["content"]
    gateways = (await first.request("cluster_status", {}))["gateways"]
    assert {row["url"]: row["leads"] for row in gateways} == {
        pair.facts(1)["url"]: False,
        pair.facts(2)["url"]: True,
    }


async def test_a_gateway_whose_name_another_has_taken_meanwhile_ends(pair: Pair) -> None:
    """As when two machines serve one home: the two would declare each other dead for ever."""
    first = await pair.client(1)
    async with redis.asyncio.Redis(port=pair.server.port) as raw:
        [key] = [key async for key in raw.scan_iter("tekton:fleet:*:incarnations")]
        leads = next(row for row in (await first.request("cluster_status", {}))["gateways"] if row["here"])
        await raw.hset(key, leads["name"], "another")
        code, words = await pair.ended(1)
    assert code == 6 and "another gateway has come under the name of this one" in words


async def test_a_store_that_goes_and_comes_back_is_seen_and_streams_are_whole_afterwards(pair: Pair) -> None:
    first, second = await pair.client(1), await pair.client(2)
    await first.request("launch", {"ids": ["apollo"]})
    heard = [await Heard(first).begin("chat", "fleet"), await Heard(second).begin("chat", "fleet")]
    turn = asyncio.create_task(
        first.request(
            "chat", {"id": "apollo", "message": "[[repeat 150]] [[rate 25]]", "request_id": "whole"}
        )
    )
    for one in heard:
        await one.until(lambda events: len(chunks(events, "whole")) > 5)
    pair.server.kill()
    for one in heard:
        await one.until(
            lambda events: any(
                isinstance(event, ServiceEvent)
                and event.status.name == "store"
                and "Redis" in event.status.cause
                for event in events
            )
        )
    with pytest.raises(TektonError, match="Redis"):
        await second.request("chat", {"id": "apollo", "message": "into the void", "request_id": "refused"})
    pair.server.start()
    outcome = await asyncio.wait_for(turn, WAIT_S)
    for one in heard:
        await one.until(lambda events: any(isinstance(event, StreamEnd) for event in events))
        assert text(one, "whole") == outcome["content"]
        assert not one.of(StreamError) and len(one.of(Snapshot)) == 1
    assert len(await answers(second, "whole")) == 1
    assert (await second.request("chat", {"id": "apollo", "message": "after"}))["content"]


@pytest.mark.parametrize("place", [1, 2])
async def test_a_question_that_waits_while_its_specialist_is_restarted_is_asked_once_at_either_gateway(
    pair: Pair, place: int
) -> None:
    client, other = await pair.client(place), await pair.client(3 - place)
    await client.request("launch", {"ids": ["apollo"]})
    heard = await Heard(client).begin("chat", "fleet")
    running = asyncio.create_task(
        client.request("chat", {"id": "apollo", "message": SLOW, "request_id": "cut"})
    )
    await heard.until(lambda events: len(chunks(events, "cut")) > 2)
    waiting = asyncio.create_task(
        client.request("chat", {"id": "apollo", "message": "and then?", "request_id": "waits"})
    )
    await heard.until(
        lambda events: [e for e in events if isinstance(e, StreamPhase) and e.request_id == "waits"]
    )
    assert (await other.request("restart", {"ids": ["apollo"]}))["results"][0]["ok"]
    with pytest.raises(TektonError):
        await running
    assert (await asyncio.wait_for(waiting, WAIT_S))["content"] == text(heard, "waits") != ""
    assert len(await answers(other, "waits")) == 1


async def test_one_request_sent_to_both_gateways_at_once_is_asked_once(pair: Pair) -> None:
    first, second = await pair.client(1), await pair.client(2)
    await first.request("launch", {"ids": ["apollo"]})
    for number in range(5):
        name = f"same-{number}"
        pieces = await asyncio.gather(
            *(
                client.request("chat", {"id": "apollo", "message": f"once {number}", "request_id": name})
                for client in (first, second)
            )
        )
        assert pieces[0]["message_id"] == pieces[1]["message_id"]
        assert len(await answers(first, name)) == 1
    session = (await first.request("list_sessions", {"owner": "apollo"}))["sessions"][0]
    rows = (await first.request("session_messages", {"id": session["id"], "limit": 200}))["messages"]
    assert Counter(row["content"] for row in rows if row["role"] == "user") == {
        f"once {n}": 1 for n in range(5)
    }


async def test_each_gateway_shows_the_same_fleet_and_ends_turns_the_other_runs(pair: Pair) -> None:
    first, second = await pair.client(1), await pair.client(2)
    for client in (first, second):
        gateways = (await client.request("cluster_status", {}))["gateways"]
        assert [row["leads"] for row in gateways] == [True, False]
        assert {row["url"] for row in gateways} == {pair.facts(1)["url"], pair.facts(2)["url"]}
    assert (await second.request("launch", {"ids": ["apollo"]}))["results"][0]["ok"]
    heard = await Heard(second).begin("chat", "fleet")
    turn = asyncio.create_task(first.request("chat", {"id": "apollo", "message": SLOW, "request_id": "cut"}))
    await heard.until(lambda events: len(chunks(events, "cut")) > 2)
    snapshot = await second.request("snapshot", {})
    assert [run["request_id"] for run in snapshot["turns"]] == ["cut"]
    assert text(heard, "cut").startswith(snapshot["turns"][0]["content"][:10])
    assert (await second.request("cancel", {"target": "cut"}))["confirmed"]
    with pytest.raises(TektonError, match="cancelled"):
        await turn
    assert (await first.request("kill", {"ids": ["apollo"]}))["results"][0]["ok"]
    with pytest.raises(TektonError) as refused:
        await second.request("chat", {"id": "apollo", "message": "anybody?"})
    assert refused.value.code == "not_running"


async def test_a_lone_gateway_that_sleeps_goes_on_where_it_was(pair: Pair) -> None:
    pair.signal(2, signal.SIGTERM)
    assert (await pair.ended(2))[0] == 0
    client = await pair.client(1)
    await client.request("launch", {"ids": ["apollo"]})
    pair.signal(1, signal.SIGSTOP)
    await asyncio.sleep(5)  # longer than its lease: what is tested is that time alone takes nothing
    pair.signal(1, signal.SIGCONT)
    assert (await client.request("chat", {"id": "apollo", "message": "still here"}))["content"]
    assert pair.facts(1)["pid"] == pair.processes[1].pid


@pytest.mark.parametrize("away_s", [8.0, 20.0])
async def test_an_outage_of_the_store_that_is_longer_than_every_lease_ends_no_gateway(
    pair: Pair, away_s: float
) -> None:
    clients = await pair.client(1), await pair.client(2)
    await clients[0].request("launch", {"ids": ["apollo"]})
    question = {"id": "apollo", "message": "[[repeat 100]] [[rate 25]]"}
    turns = [
        asyncio.create_task(
            client.request(
                "chat",
                {
                    **question,
                    "request_id": f"over-{number}",
                    "session_id": (await client.request("create_session", {"owner": "apollo"}))["id"],
                },
            )
        )
        for number, client in enumerate(clients)
    ]
    heard = await Heard(clients[1]).begin("chat", "fleet")
    await heard.until(lambda events: len(chunks(events, "over-1")) > 5)
    pair.server.kill()
    await asyncio.sleep(away_s)
    pair.server.start()
    outcomes = await asyncio.wait_for(asyncio.gather(*turns), WAIT_S)
    for number, outcome in enumerate(outcomes):
        async with asyncio.timeout(WAIT_S):
            while not (stored := await answers(clients[number], f"over-{number}")):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert [row["content"] for row in stored] == [outcome["content"]]
    assert all(process.poll() is None for process in pair.processes.values())
    for client in clients:
        assert (await client.request("chat", {"id": "apollo", "message": "after"}))["content"]
    states = [event.status.state for event in heard.of(ServiceEvent) if event.status.name == "store"]
    assert states[:1] == ["exited"] and set(states[1:]) <= {"stopped"}, f"the store's state flaps: {states}"


async def test_a_store_whose_clock_is_set_ahead_ends_no_gateway(pair: Pair) -> None:
    """All leases run out at once; so they do when their keys are gone, as often as that comes about."""
    first, second = await pair.client(1), await pair.client(2)
    await first.request("launch", {"ids": ["apollo"]})
    incarnations = {row["name"]: row for row in (await first.request("cluster_status", {}))["gateways"]}
    async with redis.asyncio.Redis(port=pair.server.port) as raw:
        for _ in range(12):  # at moments of every distance from the last renewals
            leases = [key async for key in raw.scan_iter("tekton:fleet:*:lease:*")]
            if leases:
                await raw.delete(*leases)
            await asyncio.sleep(0.65)
    for client in (first, second):
        assert (await client.request("chat", {"id": "apollo", "message": "hello"}))["content"]
    now = (await second.request("cluster_status", {}))["gateways"]
    assert {row["name"]: row["pid"] for row in now} == {n: row["pid"] for n, row in incarnations.items()}
    assert all(process.poll() is None for process in pair.processes.values())


async def test_a_gateway_that_dies_as_the_store_s_clock_is_set_back_is_missed_all_the_same(
    pair: Pair,
) -> None:
    first, second = await pair.client(1), await pair.client(2)
    await second.request("launch", {"ids": ["apollo"]})
    heard = await Heard(second).begin("chat")
    lost = asyncio.create_task(
        first.request("chat", {"id": "apollo", "message": "[[repeat 900]] [[rate 20]]", "request_id": "lost"})
    )
    await heard.until(lambda events: len(chunks(events, "lost")) > 3)
    pair.signal(1, signal.SIGKILL)
    async with redis.asyncio.Redis(port=pair.server.port) as raw:
        async for key in raw.scan_iter("tekton:fleet:*:lease:*"):
            await raw.pexpire(key, 3_600_000)  # what a lease has left to go when its clock went back an hour
    await heard.until(lambda events: any(isinstance(event, StreamError) for event in events))
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)


async def test_a_gateway_that_dies_as_the_store_is_emptied_is_missed_all_the_same(pair: Pair) -> None:
    first, second = await pair.client(1), await pair.client(2)
    await second.request("launch", {"ids": ["apollo"]})
    heard = await Heard(second).begin("chat")
    lost = asyncio.create_task(first.request("chat", {"id": "apollo", "message": SLOW, "request_id": "lost"}))
    await heard.until(lambda events: len(chunks(events, "lost")) > 3)
    pair.signal(1, signal.SIGKILL)
    pair.server.empty()
    async with asyncio.timeout(WAIT_S):
        while (await second.request("snapshot", {})).get("turns"):
            pass
    assert [row["leads"] for row in (await second.request("cluster_status", {}))["gateways"]] == [True]
    assert (await second.request("chat", {"id": "apollo", "message": "after"}))["content"]
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)


async def test_a_store_that_is_emptied_ends_no_gateway_and_the_loss_is_told(pair: Pair) -> None:
    first, second = await pair.client(1), await pair.client(2)
    await first.request("launch", {"ids": ["apollo"]})
    assert (await first.request("chat", {"id": "apollo", "message": "before"}))["content"]
    pair.server.empty()
    async with asyncio.timeout(WAIT_S):
        while True:
            errors = (await second.request("list_errors", {}))["errors"]
            if any("was emptied" in error["message"] for error in errors):
                break
            await asyncio.sleep(0.1)
    for client in (first, second):
        assert (await client.request("chat", {"id": "apollo", "message": "after"}))["content"]
    assert all(process.poll() is None for process in pair.processes.values())
    async with asyncio.timeout(WAIT_S):  # each enters itself anew with its next beat
        while True:
            peers = (await first.request("cluster_status", {}))["gateways"]
            if [peer["alive"] for peer in peers] == [True, True]:
                break
            await asyncio.sleep(0.1)
    assert sum(peer.get("leads", False) for peer in peers) == 1
