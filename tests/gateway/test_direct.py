"""What a program asks a specialist's own port is booked by a real backend like everything else."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

from tests.gateway.serving import Backend, start_backend

BOUND_S = 60.0
LIMITED = "[specialists.apollo.budget]\ntokens_per_day = 10\n"


def _ask(backend: Backend, *lines: dict[str, Any]) -> list[dict[str, Any]]:
    """Send lines to apollo's own port, each once the last is answered."""
    registry = json.loads((backend.home.registry).read_text())
    with (
        socket.create_connection(("127.0.0.1", registry["apollo-ai"]["port"]), timeout=BOUND_S) as direct,
        direct.makefile("rb") as answers,
    ):
        found: list[dict[str, Any]] = []
        for line in lines:
            direct.sendall(json.dumps(line).encode() + b"\n")
            found.append(json.loads(answers.readline()))
        return found


def _until(look: Callable[[], Any], fits: Callable[[Any], object]) -> Any:
    """Look until it fits; a report reaches the books a moment after the client has its answer."""
    for _ in range(2_000):
        if fits(found := look()):
            return found
    raise AssertionError(found)


def _direct_calls(backend: Backend) -> list[dict[str, Any]]:
    return [c for c in backend.ask("GET", "/api/v1/gateway")["recent"] if c["transport"] == "socket"]


def test_a_direct_question_is_in_usage_budget_and_call_log_and_refused_over_budget(
    new_backend: Callable[..., Backend],
) -> None:
    backend = new_backend(config=LIMITED, launch=("apollo",))
    question = {"content": "STOLEN [[repeat 30]]"}
    first, second, failed = _ask(backend, question, question, {"content": "hi"})
    assert first["type"] == "chat_response" and first["usage"]["output_tokens"] >= 10, first
    assert [second["code"], failed["code"]] == ["budget_exceeded"] * 2
    used = backend.ask("GET", "/api/v1/usage")
    [row] = used["specialists"]
    assert (row["ai_id"], row["turns"]) == ("apollo-ai", 1)
    assert row["tokens_out"] == first["usage"]["output_tokens"]
    calls = _until(lambda: _direct_calls(backend), lambda found: len(found) == 3)
    assert sorted(call["status"] for call in calls) == [200, 429, 429]
    sessions = backend.ask("GET", "/api/v1/sessions")["sessions"]
    assert not any(session.get("messages") for session in sessions), "it leaves no conversation"


def test_a_direct_question_while_no_backend_ran_is_counted_by_the_next_and_once(
    new_backend: Callable[..., Backend],
) -> None:
    backend = new_backend(launch=("apollo",))
    [failed] = _ask(backend, {"content": "[[fail provider_auth]]"})
    assert failed["code"] == "provider_auth"
    [error] = _until(lambda: backend.ask("GET", "/api/v1/errors")["errors"], bool)
    assert (error["where"], error["code"]) == ("apollo-ai", "provider_auth")
    _kill(backend.process.pid)
    backend.process.wait(BOUND_S)
    [answer] = _ask(backend, {"content": "while you were away"})
    assert answer["type"] == "chat_response"
    reports = backend.home.run / "direct-apollo-ai.jsonl"
    reported = reports.read_bytes()
    worker = json.loads(backend.home.registry.read_text())["apollo-ai"]["pid"]
    following = start_backend(backend.home.root)
    try:
        rows = _until(lambda: following.ask("GET", "/api/v1/usage")["specialists"], bool)
        assert [(row["ai_id"], row["turns"]) for row in rows] == [("apollo-ai", 1)]
        _until(lambda: following.ask("GET", "/api/v1/usage") and reports.exists(), lambda left: not left)
    finally:
        _kill(following.process.pid)
        following.process.wait(BOUND_S)
    # as if that backend had died between booking and answering: the worker's reports are still there
    _kill(worker)
    reports.write_bytes(reported)
    last = start_backend(backend.home.root, launch=("apollo",))
    try:
        _until(lambda: last.ask("GET", "/api/v1/usage") and reports.exists(), lambda left: not left)
        [row] = last.ask("GET", "/api/v1/usage")["specialists"]
        assert (row["ai_id"], row["turns"]) == ("apollo-ai", 1)
    finally:
        last.stop()


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
