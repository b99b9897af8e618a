"""Memory as a client of the product meets it: what a specialist is sent of long talks, of hints, and what is pinned."""

from __future__ import annotations

import json
from typing import Any

from tests.gateway.serving import Backend

FACT = "Remember that the deadline of the Kestrel project is 14 March."
PADDING = "Nothing of importance is said in these words, they only take room. " * 160


def ask(backend: Backend, message: str, session: str, **options: Any) -> dict[str, Any]:
    body = {"message": message, "session_id": session, **options}
    return backend.ask("POST", "/api/v1/chat/apollo", json=body)


def new_session(backend: Backend, title: str = "") -> str:
    return backend.ask("POST", "/api/v1/sessions", json={"owner": "apollo", "title": title})["id"]


def sent(backend: Backend, session: str, **options: Any) -> list[dict[str, str]]:
    """Return the messages the specialist was sent; its script answers with them."""
    return json.loads(ask(backend, "[[messages]] what was said?", session, **options)["content"])


def test_what_no_longer_fits_is_told_in_a_summary_and_noted(backend: Backend) -> None:
    session = new_session(backend)
    ask(backend, FACT, session)
    for number in range(8):
        ask(backend, f"[[say noted]] {number}. {PADDING}", session)
    messages = sent(backend, session)
    earlier = "".join(message["content"] for message in messages[:-1])
    assert FACT not in earlier, "the talk is longer than the model's context"
    last = messages[-1]["content"]
    assert '<summary from="earlier conversation">' in last
    assert "Kestrel project is 14 March" in last
    assert "earlier messages were pruned" in last
    stored = backend.ask("GET", f"/api/v1/sessions/{session}/messages", params={"limit": 100})["messages"]
    assert stored[0]["content"] == FACT, "pruned from the prompt, kept in memory"


def test_a_pinned_message_is_sent_however_long_the_talk(backend: Backend) -> None:
    session = new_session(backend)
    ask(backend, FACT, session)
    (first, *_) = backend.ask("GET", f"/api/v1/sessions/{session}/messages")["messages"]
    backend.ask("POST", f"/api/v1/messages/{first['id']}/pin")
    for number in range(8):
        ask(backend, f"[[say noted]] {number}. {PADDING}", session)
    assert FACT in "".join(message["content"] for message in sent(backend, session)[:-1])


def test_memory_hints_bring_what_other_sessions_said_under_its_author(backend: Backend) -> None:
    elsewhere = new_session(backend)
    ask(backend, "The zeppelin hangar door code is painted on the blue crate.", elsewhere)
    context = {"memory_hints": ["zeppelin hangar door"]}
    last = sent(backend, new_session(backend), context=context)[-1]["content"]
    assert "<memory from=" in last
    assert "blue crate" in last.partition("</material>")[0]
    without = sent(backend, new_session(backend))[-1]["content"]
    assert "blue crate" not in without


def test_an_export_masks_the_platforms_own_token(backend: Backend) -> None:
    session = new_session(backend)
    ask(backend, f"my token is {backend.token} and api_key=abcdef123456", session)
    for format_ in ("md", "json"):
        path = f"/api/v1/sessions/{session}/export"
        text = backend.ask("GET", path, params={"format": format_})["content"]
        assert backend.token not in text
        assert "abcdef123456" not in text
        assert "[redacted]" in text


def test_sessions_are_made_found_renamed_resumed_and_removed(backend: Backend) -> None:
    session = new_session(backend, "Quokka research")
    ask(backend, "where do quokkas live?", session)
    found = backend.ask("GET", "/api/v1/sessions", params={"query": "quokka"})["sessions"]
    assert session in [row["id"] for row in found]
    hits = backend.ask("GET", "/api/v1/memory/search", params={"q": "quokkas live"})["hits"]
    assert hits[0]["message"]["session_id"] == session
    renamed = backend.ask("PATCH", f"/api/v1/sessions/{session}", json={"title": "Marsupials"})
    assert renamed["title"] == "Marsupials"
    made_default = backend.ask("PATCH", f"/api/v1/sessions/{session}", json={"is_default": True})
    assert made_default["is_default"] is True
    resumed = backend.ask("POST", "/api/v1/chat/apollo", json={"message": "and what do they eat?"})
    assert resumed["session_id"] == session
    assert backend.ask("DELETE", f"/api/v1/sessions/{session}") == {"deleted": session}
    assert backend.ask("GET", "/api/v1/memory/search", params={"q": "quokkas live"})["hits"] == []
