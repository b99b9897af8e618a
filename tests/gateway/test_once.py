"""One request id is one question, however often and whenever it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from tests.gateway.serving import Backend

QUESTIONS, CALLERS = 25, 6


async def test_a_question_that_comes_again_while_its_answer_is_stored_is_not_asked_again(
    new_backend: Callable[..., Backend], tmp_path: Path
) -> None:
    count = tmp_path / "calls"
    backend = new_backend(launch=("apollo",), TEKTON_SCRIPTED_COUNT=str(count))

    async with backend.http() as http:

        async def ask_on(request_id: str) -> list[str]:
            """Ask one after the other, so that some come just when the first answer has ended."""
            body = {"message": "hello", "request_id": request_id}
            return [
                (await http.post("/api/v1/chat/apollo", json=body)).json()["content"] for _ in range(CALLERS)
            ]

        for number in range(QUESTIONS):
            for said in await asyncio.gather(*(ask_on(f"once-{number}") for _ in range(CALLERS))):
                assert said == ["You said: hello"] * CALLERS
    assert len(count.read_text().splitlines()) == QUESTIONS


async def test_a_team_turn_says_each_piece_once(new_backend: Callable[..., Backend], tmp_path: Path) -> None:
    count = tmp_path / "calls"
    backend = new_backend(launch=("apollo", "athena"), TEKTON_SCRIPTED_COUNT=str(count))
    async with backend.http() as http:
        for _ in range(QUESTIONS):
            answer = await http.post(
                "/v1/chat/completions",
                json={"model": "team", "messages": [{"role": "user", "content": "hello"}]},
            )
            assert answer.json()["choices"][0]["message"]["content"].count("You said") == 2
    assert len(count.read_text().splitlines()) == 2 * QUESTIONS
