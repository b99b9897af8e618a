"""The backend that tests of this room share is a real one: other process, other home, three kinds of token."""

from __future__ import annotations

import os

from tests.gateway.serving import Backend


async def test_the_backend_of_these_tests_is_a_process_of_its_own_with_a_token_of_each_scope(
    backend: Backend,
) -> None:
    assert backend.process.pid != os.getpid()
    async with backend.http("read") as http:
        rows = (await http.get("/api/v1/specialists", params={"active_only": True})).json()["specialists"]
        assert {row["id"] for row in rows} == {"apollo-ai", "athena-ai"}
        assert (await http.post("/api/v1/chat/apollo", json={"message": "hello"})).status_code == 403
    async with backend.http("chat") as http:
        answer = await http.post("/api/v1/chat/apollo", json={"message": "hello"})
        assert answer.json()["content"] == "You said: hello"
        assert (await http.post("/api/v1/fleet/launch", json={"ids": ["numa"]})).status_code == 403
