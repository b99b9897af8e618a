"""What only a store on a server must do: refuse a careless one, say when it is gone, lose nothing it confirmed."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio

from backend.memory import (
    MemoryStore,
    Retention,
    StoreClosed,
    StoreFailed,
    UnknownMessage,
    UnknownSession,
)
from backend.memory.redis import retention, scripts
from backend.memory.redis.connection import Address
from backend.memory.redis.layout import PREFIX
from backend.memory.redis.store import RedisStore
from tests.certificates import Authority
from tests.redis_server import NEEDS_REDIS, RedisServer
from tests.stores import say, search_all

pytestmark = [
    pytest.mark.cluster,
    NEEDS_REDIS,
]


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[MemoryStore]:
    opened = server.store("gateway-1")
    await opened.open()
    yield opened
    await opened.close()


async def test_a_server_that_cannot_be_reached_is_named_with_what_to_do(server: RedisServer) -> None:
    server.kill()
    with pytest.raises(StoreFailed, match=rf"127\.0\.0\.1:{server.port}.*See that it runs"):
        await server.store("gateway-1").open()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--appendonly", "no"], "appendonly no.*memory.volatile_store"),
        (["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"], "allkeys-lru.*noeviction"),
        (["--requirepass", "secret-word"], "TEKTON_REDIS_PASSWORD"),
    ],
)
async def test_a_server_that_would_lose_messages_or_refuses_us_is_refused_at_start(
    options: list[str], told: str, tmp_path: Path
) -> None:
    careless = RedisServer(tmp_path / "careless", *options).start()
    try:
        with pytest.raises(StoreFailed, match=told):
            await careless.store("gateway-1").open()
    finally:
        careless.kill()


@pytest.mark.parametrize(
    ("scheme", "names", "days", "words"),
    [
        ("rediss", ["elsewhere.internal"], 30, "made out to others than 127.0.0.1. Nothing was sent"),
        ("rediss", ["127.0.0.1"], -1, "has expired .*Nothing was sent"),
        ("rediss", ["127.0.0.1"], 90, "not valid yet .*Nothing was sent"),
        ("rediss", [], 0, "does it speak TLS there.*Nothing was sent"),
        ("redis", ["127.0.0.1"], 30, "begins with rediss"),
    ],
)
async def test_what_is_wrong_with_a_server_s_tls_is_said_in_words(
    scheme: str, names: list[str], days: float, words: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    context = None
    if names:
        files = authority.issue(*names, days=days)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.cert, files.key)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context) as door:
        port = door.sockets[0].getsockname()[1]
        trust = f"?ssl_ca_certs={authority.ca}" if scheme == "rediss" else ""
        with pytest.raises(StoreFailed, match=words):
            await RedisStore(Address(f"{scheme}://127.0.0.1:{port}/0{trust}"), "gateway-1").open()


async def test_a_password_is_used_and_never_told(tmp_path: Path) -> None:
    guarded = RedisServer(tmp_path / "guarded", "--requirepass", "secret-word").start()
    address = Address(guarded.address.url, "secret-word")
    store = RedisStore(address, "gateway-1")
    await store.open()
    await store.sessions.default("apollo-ai")
    guarded.kill()
    with pytest.raises(StoreFailed) as caught:
        await store.sessions.default("apollo-ai")
    await store.close()
    assert "secret-word" not in f"{caught.value.message} {caught.value.__cause__!r} {address.shown}"


async def test_a_volatile_server_is_taken_when_the_operator_says_so(tmp_path: Path) -> None:
    loose = RedisServer(tmp_path / "loose", "--appendonly", "no").start()
    store = loose.store("gateway-1", volatile=True)
    await store.open()
    assert isinstance(store, RedisStore) and "loses messages" in store.durability
    await store.close()
    loose.kill()


async def test_every_confirmed_message_survives_the_kill_of_the_server(
    server: RedisServer, store: MemoryStore
) -> None:
    session = await store.sessions.default("apollo-ai")
    confirmed: list[str] = []
    enough = asyncio.Event()

    async def write() -> None:
        for number in range(100_000):
            await say(store, session.id, f"line {number}")
            confirmed.append(f"line {number}")
            if number == 300:
                enough.set()

    writer = asyncio.create_task(write())
    await asyncio.wait_for(enough.wait(), 30)
    server.kill()
    with pytest.raises(StoreFailed, match="may or may not be kept"):
        await writer
    with pytest.raises(StoreFailed):
        await store.sessions.get(session.id)

    server.start()
    kept = [m.content for m in await store.messages.read(session.id, limit=200_000)]
    assert kept[: len(confirmed)] == confirmed
    assert len(kept) - len(confirmed) <= 1, "at most the one under way when the kill came"
    assert (await store.sessions.get(session.id)).messages == len(kept)
    assert (await store.messages.search(confirmed[-1], limit=1)).hits


async def test_the_index_of_an_earlier_layout_is_made_anew_and_its_sets_removed(
    server: RedisServer, store: MemoryStore
) -> None:
    session = await store.sessions.default("apollo-ai")
    for number in range(450):
        await say(store, session.id, f"organising shelf {number}")
    async with redis.asyncio.Redis(port=server.port) as raw:
        for key in [key async for key in raw.scan_iter(f"{PREFIX}w*:*")]:
            await raw.rename(key, f"{PREFIX}w:{key.decode().rpartition(':')[2]}")
        await raw.delete(f"{PREFIX}words", f"{PREFIX}index_version")
        await raw.set(f"{PREFIX}layout", "1")
        assert not (await store.messages.search("organise")).hits

        upgraded = server.store("gateway-2")
        await upgraded.open()
        try:
            assert len(await search_all(upgraded, "organised")) == 450
            hit = (await upgraded.messages.search("organised 449", limit=1)).hits[0]
            assert hit.message.content == "organising shelf 449"
            assert not [key async for key in raw.scan_iter(f"{PREFIX}w:*")]
        finally:
            await upgraded.close()


async def titles_found(store: MemoryStore, *queries: str) -> list[list[str]]:
    return [[one.title for one in (await store.sessions.find(query=query)).sessions] for query in queries]


async def test_titles_of_before_the_list_of_titles_are_found_at_once_and_listed_while_the_store_serves(
    server: RedisServer, store: MemoryStore
) -> None:
    for number in range(1_200):
        await store.sessions.create("apollo-ai", f"Größe {number}")
    async with redis.asyncio.Redis(port=server.port) as raw:
        await raw.delete(f"{PREFIX}titles")
        assert await titles_found(store, "größe 1199", "GROSSE 7") == [
            ["Größe 1199"],
            [f"Größe {number}" for number in range(1_199, -1, -1) if str(number).startswith("7")],
        ]
        upgraded = server.store("gateway-2")
        await upgraded.open()
        try:
            async with asyncio.timeout(30):
                while int(await raw.hlen(f"{PREFIX}titles")) < 1_200:  # noqa: ASYNC110  another process fills it
                    await asyncio.sleep(0.01)
            assert await titles_found(upgraded, "größe 1199") == [["Größe 1199"]]
        finally:
            await upgraded.close()


async def test_what_an_earlier_version_beside_us_does_to_titles_is_seen(
    server: RedisServer, store: MemoryStore
) -> None:
    """It names, renames, archives and removes past the list of titles: new names at once, the rest with the next look."""
    named, renamed, shown, hidden, removed = [
        await store.sessions.create("apollo-ai", title)
        for title in ("", "Elm", "Oak shown", "Oak hidden", "Fir")
    ]
    await store.sessions.patch(shown.id, archived=True)
    async with redis.asyncio.Redis(port=server.port) as raw:
        await raw.hset(f"{PREFIX}s:{named.id}", "title", "Ash")
        await raw.hset(f"{PREFIX}s:{renamed.id}", "title", "Yew")
        await raw.hset(f"{PREFIX}s:{shown.id}", "archived", "0")
        await raw.hset(f"{PREFIX}s:{hidden.id}", "archived", "1")
        member = await raw.hget(f"{PREFIX}s:{removed.id}", "member")
        await raw.zrem(f"{PREFIX}sessions", member)
        await raw.delete(f"{PREFIX}s:{removed.id}")
        assert await titles_found(store, "ash", "elm", "fir") == [["Ash"], [], []]
        assert "Oak hidden" not in (await titles_found(store, "oak"))[0]
        await store.retain(Retention())
        assert await titles_found(store, "ash", "yew", "oak") == [["Ash"], ["Yew"], ["Oak shown"]]
        assert set(await raw.hkeys(f"{PREFIX}titles")) == {
            one.id.encode() for one in (named, renamed, shown, hidden)
        }


async def test_a_store_goes_on_by_itself_once_the_server_is_back(
    server: RedisServer, store: MemoryStore
) -> None:
    session = await store.sessions.default("apollo-ai")
    server.kill()
    for _ in range(3):
        with pytest.raises(StoreFailed):
            await say(store, session.id, "lost, and said so")
    server.start()
    await say(store, session.id, "heard")
    assert [m.content for m in await store.messages.read(session.id)] == ["heard"]


async def test_two_gateways_see_one_store_and_leave_each_others_turns_alone(
    server: RedisServer, store: MemoryStore
) -> None:
    other = server.store("gateway-2")
    await other.open()
    mine, theirs = await asyncio.gather(
        store.sessions.default("apollo-ai"), other.sessions.default("apollo-ai")
    )
    assert mine.id == theirs.id

    async def talk(by: MemoryStore, name: str) -> None:
        for number in range(100):
            await say(by, mine.id, f"{name} {number}")

    await asyncio.gather(talk(store, "one"), talk(other, "two"))
    seen = [m.content for m in await other.messages.read(mine.id, limit=500)]
    assert sorted(seen) == sorted(f"{name} {n}" for name in ("one", "two") for n in range(100))
    assert [line for line in seen if line.startswith("one")] == [f"one {n}" for n in range(100)]

    await store.turns.begin("r1", "apollo-ai", mine.id)
    assert await other.turns.unfinished() == []
    assert [turn.request_id for turn in await store.turns.unfinished()] == ["r1"]
    await other.close()


async def test_a_removal_cut_short_is_finished_by_the_next_to_open(server: RedisServer) -> None:
    store = RedisStore(server.address, "gateway-1")
    await store.open()
    session = await store.sessions.create("apollo-ai", "going")
    said = [await say(store, session.id, f"quokka {number}") for number in range(450)]
    writer = store._connections.writer  # pyright: ignore[reportPrivateUsage]
    await writer.run(scripts.REMOVE_SESSION, PREFIX, session.id, "")
    await store.close()

    other = server.store("gateway-2")
    await other.open()
    assert (await other.messages.search("quokka")).hits == []
    for message in (said[0], said[-1]):
        with pytest.raises(UnknownMessage):
            await other.messages.pin(message.id)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"DBSIZE\r\n")
        keys = int(connection.recv(32)[1:])
    assert keys <= 5, "numbers given and the layout stay, nothing of the session"
    await other.close()


async def test_a_store_that_is_closed_says_so_and_what_was_ordered_before_is_done(store: MemoryStore) -> None:
    session = await store.sessions.default("apollo-ai")
    writes = [asyncio.ensure_future(say(store, session.id, str(n))) for n in range(50)]
    await asyncio.wait(writes[:1])
    await store.close()
    assert len(await asyncio.gather(*writes)) == 50
    await store.close()
    with pytest.raises(StoreClosed):
        await store.sessions.default("apollo-ai")


async def test_a_full_server_is_a_clear_error_and_reading_goes_on(tmp_path: Path) -> None:
    small = RedisServer(tmp_path / "small", "--maxmemory", "3mb", "--maxmemory-policy", "noeviction").start()
    store = small.store("gateway-1")
    await store.open()
    session = await store.sessions.default("apollo-ai")
    await say(store, session.id, "before")
    with pytest.raises(StoreFailed, match=r"maxmemory.*retention_days"):
        for _ in range(200):
            await say(store, session.id, "x" * 50_000)
    kept = await store.messages.read(session.id, limit=500)
    assert kept[0].content == "before"
    assert (await store.sessions.get(session.id)).messages == len(kept)
    await store.close()
    small.kill()


async def test_a_session_whose_messages_cannot_be_dropped_any_more_is_deleted_and_they_go_later(
    server: RedisServer, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store goes between the two: who asked is told the truth, which is that the session is gone."""
    session = await store.sessions.create("apollo-ai", "going")
    for number in range(5):
        await say(store, session.id, f"quokka {number}")
    drop = retention.drop

    async def store_goes(*_: object) -> int:
        server.kill()
        raise StoreFailed("gone")

    monkeypatch.setattr(retention, "drop", store_goes)
    await store.sessions.delete(session.id)
    monkeypatch.setattr(retention, "drop", drop)
    server.start()
    with pytest.raises(UnknownSession):
        await store.messages.read(session.id)
    await store.retain(Retention())
    assert (await store.messages.search("quokka")).hits == []
    async with redis.asyncio.Redis(port=server.port) as raw:
        assert not await raw.exists(f"{PREFIX}dying") and not await raw.exists(f"{PREFIX}m")


async def test_that_a_server_may_speak_tls_is_only_said_of_one_that_never_answered(
    server: RedisServer, store: MemoryStore
) -> None:
    await store.sessions.default("apollo-ai")
    server.kill()
    for _ in range(3):
        with pytest.raises(StoreFailed) as caught:
            await store.sessions.default("apollo-ai")
        assert "rediss" not in caught.value.message
