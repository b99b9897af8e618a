"""What was sent for turns is kept with their answers, each text once, and goes with its session or its age."""

from __future__ import annotations

import pytest

from backend.memory import MemoryStore
from backend.memory.records import Retention
from backend.schema.records import StoredMessage
from backend.schema.sent import SentKind, SentPart, SentTurn

DAY_S = 86_400.0


def _answer(session: str, name: str) -> StoredMessage:
    return StoredMessage(0, session, "apollo-ai", "assistant", "yes", 1.0, request_id=name)


def _turn(session: str, name: str, at: float, *parts: SentPart) -> SentTurn:
    return SentTurn(name, "apollo-ai", session, at, "scripted:echo", 4096, 12, {"temperature": 0.5}, [*parts])


def _part(kind: SentKind, text: str, number: int = 0) -> SentPart:
    return SentPart(kind, text, 3, "user", "you", number, f"d-{text[:20]}-{len(text)}")


async def test_a_record_comes_back_whole_with_texts_of_its_own_and_of_messages(store: MemoryStore) -> None:
    session = (await store.sessions.create("apollo-ai")).id
    asked = await store.messages.append(StoredMessage(0, session, "you", "user", "long ago " * 100, 1.0))
    sent = _turn(
        session,
        "r-1",
        5.0,
        _part("persona", "You are Apollo. " * 50),
        _part("history", asked.content, asked.id),
    )
    await store.messages.append(_answer(session, "r-1"), sent=sent)
    found = await store.sent.get("r-1")
    assert found == sent
    assert await store.sent.get("r-2") is None


async def test_the_newest_before_a_time_is_found_by_session_and_specialist(store: MemoryStore) -> None:
    session = (await store.sessions.create("apollo-ai")).id
    for number in (1, 2, 3):
        name = f"r-{number}"
        sent = _turn(session, name, float(number), _part("persona", "the same"), _part("prompt", name))
        await store.messages.append(_answer(session, name), sent=sent)
    newest, earlier = (
        await store.sent.newest(session, "apollo-ai"),
        await store.sent.newest(session, "apollo-ai", before=3.0),
    )
    assert newest is not None and newest.request_id == "r-3"
    assert earlier is not None and (earlier.request_id, earlier.parts[0].text) == ("r-2", "the same")
    assert await store.sent.newest(session, "athena-ai") is None


@pytest.mark.parametrize("how", ["its session", "its age"])
async def test_it_goes_with_its_session_and_with_its_age(how: str, store: MemoryStore) -> None:
    session = (await store.sessions.default("apollo-ai")).id
    old, new = (
        _turn(session, "r-1", DAY_S, _part("persona", "old")),
        _turn(session, "r-2", 9 * DAY_S, _part("persona", "new")),
    )
    for name, sent in (("r-1", old), ("r-2", new)):
        await store.messages.append(_answer(session, name), sent=sent)
    if how == "its session":
        await store.sessions.delete(session)
    else:
        await store.retain(Retention(messages_days=2), now=10 * DAY_S)
    assert await store.sent.get("r-1") is None
    assert (await store.sent.get("r-2") is None) == (how == "its session")


async def test_the_own_words_of_a_turn_that_is_forgotten_are_nowhere_any_more(store: MemoryStore) -> None:
    session = (await store.sessions.create("apollo-ai")).id
    for name in ("r-1", "r-2"):
        asked = _part("prompt", "my secret" if name == "r-1" else "and now?")
        earlier = [_part("history", "my secret")] if name == "r-2" else []
        sent = _turn(session, name, 5.0, _part("persona", "You are Apollo."), *earlier, asked)
        await store.messages.append(_answer(session, name), sent=sent)
    await store.messages.forget("r-1")
    assert await store.sent.get("r-1") is None
    left = await store.sent.get("r-2")
    assert left is not None
    assert [(part.text, bool(part.missing)) for part in left.parts] == [
        ("You are Apollo.", False),
        ("", True),
        ("and now?", False),
    ]
