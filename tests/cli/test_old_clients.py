"""Clients made for the platform's older sockets: no type, one read, abrupt closes; our specialists serve them."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

import pytest

from tests.cli.commandline import BOUND_S, Line

ONE_READ = 4096


@pytest.fixture
def port(line: Line) -> int:
    registry = json.loads((line.home / "ai_registry" / "platform_ai_registry.json").read_text())
    return registry["apollo-ai"]["port"]


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("localhost", port), timeout=BOUND_S)


def _old_call(port: int, message: dict[str, Any]) -> dict[str, Any]:
    """Do what the older clients do: connect, send one line, read once, close."""
    with _connected(port) as client:
        client.sendall(json.dumps(message).encode() + b"\n")
        return json.loads(client.recv(ONE_READ).decode().strip())


def test_a_question_without_a_type_is_a_chat_answered_in_one_read(port: int) -> None:
    answer = _old_call(port, {"content": "hello"})
    assert (answer["type"], answer["ai_id"], answer["content"]) == (
        "chat_response",
        "apollo-ai",
        "You said: hello",
    )


def test_the_older_types_and_keys_are_understood(port: int) -> None:
    assert _old_call(port, {"type": "message", "content": "a"})["content"] == "You said: a"
    assert _old_call(port, {"type": "chat", "message": "b"})["content"] == "You said: b"
    assert (
        _old_call(port, {"type": "chat", "content": "c", "user_id": 7, "model": None})["content"]
        == "You said: c"
    )
    pong = _old_call(port, {"type": "ping"})
    assert pong["type"] == "pong" and pong["ai_id"] == "apollo-ai" and pong["timestamp"] > 1e9
    info = _old_call(port, {"type": "info"})
    assert (
        info["type"] == "info_response"
        and info["component"] == "apollo"
        and len(info["system_prompt"]) <= 200
    )
    health = _old_call(port, {"type": "health"})
    assert health["type"] == "health_response" and health["status"] == "healthy"


def test_errors_carry_their_text_where_older_clients_look(port: int) -> None:
    for message in ({"type": "dance"}, {"content": ""}, {"content": "[[fail provider_auth]]"}):
        answer = _old_call(port, message)
        assert answer["type"] == "error" and answer["error"] == answer["message"] != ""
        assert "content" not in answer


def test_questions_on_one_connection_are_answered_in_their_order(port: int) -> None:
    with _connected(port) as client, client.makefile("rb") as lines:
        client.sendall(b'{"content": "[[first 0.05]] slow"}\n{"content": "quick"}\n{"type": "ping"}\n')
        answers = [json.loads(lines.readline()) for _ in range(3)]
    assert [answer.get("content") for answer in answers] == ["You said: slow", "You said: quick", None]


def test_half_a_line_waits_for_its_other_half(port: int) -> None:
    with _connected(port) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(b'{"content": "in two')
        assert _old_call(port, {"type": "ping"})["type"] == "pong", "half a line of one holds up another"
        client.sendall(b' parts"}\r\n')
        assert json.loads(client.recv(ONE_READ))["content"] == "You said: in two parts"


def test_what_is_no_json_is_told_and_the_connection_goes_on_unless_it_comes_first(port: int) -> None:
    with _connected(port) as client, client.makefile("rb") as lines:
        client.sendall(b'hello?\n{"content": "not asked"}\n')
        assert json.loads(lines.readline())["code"] == "invalid_json"
        assert lines.readline() == b""
    with _connected(port) as client, client.makefile("rb") as lines:
        client.sendall(b'{"type": "ping"}\nhello?\n{"content": "still here"}\n')
        assert json.loads(lines.readline())["type"] == "pong"
        assert json.loads(lines.readline())["code"] == "invalid_json"
        assert json.loads(lines.readline())["content"] == "You said: still here"


def test_clients_that_vanish_in_the_middle_disturb_nobody(line: Line, port: int) -> None:
    for _ in range(5):
        client = _connected(port)
        client.sendall(b'{"content": "[[repeat 9999]] [[rate 50]]", "stream": true}\n')
        client.recv(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
        client.close()
    with _connected(port) as client:
        client.sendall(b'{"content": "half')
    assert _old_call(port, {"content": "and you?"})["content"] == "You said: and you?"
    told = line("tekton", "logs", "apollo", "--tail", "50").stdout
    assert "Traceback" not in told and "ConnectionReset" not in told


def test_a_long_answer_comes_as_one_line_over_many_reads(port: int) -> None:
    with _connected(port) as client:
        client.sendall(b'{"content": "' + b"x" * 300_000 + b'"}\n')
        data = b""
        while not data.endswith(b"\n"):
            data += client.recv(ONE_READ)
    assert len(json.loads(data)["content"]) == 300_010
