"""What leaves the platform as a file holds no key, whoever typed it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.memory import SqliteStore
from backend.memory.export import export_session
from tests.stores import say

OWN = "the-platform's-own-token-0123456789"
TEXTS = {
    "sk-ant-api03-abcdefgh12345678": "use sk-ant-api03-abcdefgh12345678 for it",
    "hunter22hunter22": 'DB_PASSWORD="hunter22hunter22"',
    "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeKKF2QT4": "Authorization: Bearer eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeKKF2QT4",
    OWN: f"curl with {OWN} please",
    "s3cretpw": "postgres://admin:s3cretpw@db/x",
}


@pytest.mark.parametrize("format", ["md", "json"])
async def test_keys_and_named_secrets_are_masked_in_both_formats(format: str, path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    session = await store.sessions.create("apollo-ai", f"about {OWN}")
    for text in TEXTS.values():
        await say(store, session.id, text)
    await say(
        store,
        session.id,
        author="apollo-ai",
        role="assistant",
        content="fine words stay",
        error_code="provider_auth",
        error="401 for x-api-key: sk-ant-api03-abcdefgh12345678",
        reasoning=f"they gave me {OWN}",
    )
    written = await export_session(store.sessions, store.messages, session.id, format, secrets=(OWN,))  # type: ignore[arg-type]
    await store.close()
    for secret in TEXTS:
        assert secret not in written.content
    assert written.content.count("[redacted]") >= len(TEXTS)
    assert "fine words stay" in written.content
    if format == "json":
        assert len(json.loads(written.content)["messages"]) == len(TEXTS) + 1
