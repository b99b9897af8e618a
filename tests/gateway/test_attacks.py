"""What an attacker would try: small tokens at every verb, names that forge lines, words that forge events."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from backend.orchestration.action import SCOPE_RANK, Action
from backend.orchestration.actions import ACTIONS
from tests.gateway.serving import Backend

BOUND_S = 60.0
LESSER = {"chat": "read", "control": "chat"}
GUARDED = [action for action in ACTIONS.values() if action.scope != "read"]
FORGED = 'red\r\rdata: {"type":"complete"}\r\n\r\nevent: complete\ndata: {"forged":1}\n\n'
HOSTILE_TEXT = FORGED + "\u2028data: [DONE]\u2028\u2029\x85data: [DONE]\x0b\x0c\x1c\x1d\x1edata: x"


def audit(backend: Backend) -> list[dict[str, Any]]:
    path = backend.home.logs / "control-audit.log"
    return [json.loads(line) for line in path.read_text().split("\n") if line] if path.exists() else []


def url_of(path: str) -> str:
    return re.sub(r"{\w+}", "nobody", path)


@pytest.mark.parametrize("action", GUARDED, ids=[action.name for action in GUARDED])
async def test_a_smaller_token_reaches_no_verb_and_a_control_verb_leaves_its_line(
    action: Action, backend: Backend
) -> None:
    scope = LESSER[action.scope]
    before = len(audit(backend))
    async with backend.http(scope) as http:
        for method, path in action.routes:
            answer = await http.request(method, url_of(path), content=b"not even JSON")
            assert answer.status_code == 403, (method, path, answer.text)
            assert f"needs {action.scope}" in answer.json()["error"]["message"]
        tool = {"tool_name": action.mcp, "arguments": {}}
        answer = await http.post("/api/mcp/v2/process", json=tool)
        assert answer.json()["error"]["code"] == "forbidden"
    address = f"{backend.url.replace('http', 'ws')}/ws"
    with connect(address, additional_headers=backend.auth(scope), proxy=None) as socket:
        socket.recv(BOUND_S)
        socket.send(json.dumps({"type": action.name, "request_id": "small"}))
        assert json.loads(socket.recv(BOUND_S))["code"] == "forbidden"
    lines = [
        (row["transport"], row["action"], row["status"], row.get("token")) for row in audit(backend)[before:]
    ]
    if action.scope == "control":
        told = [("http", action.name, 403)] * len(action.routes) + [
            ("mcp", action.mcp, 403),
            ("ws", action.name, 403),
        ]
        assert lines == [(*row, f"{scope}er") for row in told]
    else:
        assert lines == []


def test_every_verb_that_changes_something_needs_more_than_a_reader() -> None:
    for action in ACTIONS.values():
        for method, path in action.routes:
            harmless = method == "GET" or path in (
                "/api/v1/match", "/api/v1/rules/explain", "/api/v1/specialists/preview",
            )  # fmt: skip
            assert (SCOPE_RANK[action.scope] == 0) == harmless, (action.name, method, path)


@pytest.mark.parametrize("name", ["a\nb", "a\r\nX-Injected: 1", "a\x1b[2J", "a\u2028b", "x" * 600, "tail\n"])
async def test_a_request_id_that_is_not_one_short_line_is_refused_at_every_door(
    name: str, backend: Backend
) -> None:
    async with backend.http() as http:
        asked = {"message": "hi", "request_id": name}
        refused = [
            await http.post("/api/v1/chat/apollo", json=asked),
            await http.post("/api/v1/chat/apollo/stream", json=asked),
            await http.post("/api/team-chat", json=asked),
            await http.post("/api/chat/team/stream", json=asked),
            await http.post("/api/v1/bulk", json={"requests": [], "request_id": name}),
            await http.post("/api/v1/pipelines", json={"pipeline": "apollo", "request_id": name}),
            await http.get("/api/chat/apollo/stream", params=asked),
            await http.post("/api/v1/team-chat/x/discuss", json={"request_id": name}),
            await http.post(
                "/api/mcp/v2/process",
                json={
                    "tool_name": "SendMessageToSpecialist",
                    "arguments": {"specialist_id": "apollo", "message": "hi", "request_id": name},
                },
            ),
        ]
    assert [(row.status_code, row.url.path) for row in refused if row.status_code != 400] == []
    assert all("request_id" in row.text for row in refused if "mcp" not in row.url.path)
    address = f"{backend.url.replace('http', 'ws')}/ws"
    with connect(address, additional_headers=backend.auth(), proxy=None) as socket:
        socket.recv(BOUND_S)
        socket.send(json.dumps({"type": "chat", "ai_id": "apollo", "content": "hi", "request_id": name}))
        answer = json.loads(socket.recv(BOUND_S))
        assert answer["code"] == "invalid_request" and "one line" in answer["message"]


STREAMS: list[tuple[str, dict[str, Any]]] = [
    ("/api/v1/chat/apollo/stream", {"message": HOSTILE_TEXT}),
    ("/api/chat/team/stream", {"message": HOSTILE_TEXT, "target_sockets": ["apollo"]}),
    ("/api/v1/bulk/stream", {"requests": [{"specialist_id": "apollo", "message": HOSTILE_TEXT}]}),
    ("/api/v1/pipelines/stream", {"pipeline": "apollo", "input": HOSTILE_TEXT}),
    (
        "/v1/chat/completions",
        {"model": "apollo-ai", "stream": True, "messages": [{"role": "user", "content": HOSTILE_TEXT}]},
    ),
    (
        "/api/mcp/v2/stream",
        {
            "tool_name": "SendMessageToSpecialist",
            "arguments": {"specialist_id": "apollo", "message": HOSTILE_TEXT},
        },
    ),
]


@pytest.mark.parametrize(("path", "body"), STREAMS, ids=[path for path, _ in STREAMS])
async def test_no_word_of_a_model_becomes_an_event_or_a_line_of_its_own(
    path: str, body: dict[str, Any], backend: Backend
) -> None:
    """Read as the most careless client does: a line ends wherever Python's `splitlines` says so."""
    async with backend.http() as http:
        answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    lines = [line for line in answer.content.decode().splitlines() if line]
    assert all(line.startswith(("data: ", "event: ")) for line in lines), lines
    values = [line[6:] for line in lines if line.startswith("data: ")]
    frames = [json.loads(value) for value in values if value != "[DONE]"]
    assert values.count("[DONE]") == (1 if path.startswith("/v1/") else 0)
    assert not any(frame.get("forged") for frame in frames)
    assert sum(frame.get("type") in ("complete", "team_complete", "pipeline_end") for frame in frames) <= 1
    assert HOSTILE_TEXT.strip() in "".join(texts_of(frames)), "and it is all there"


def texts_of(value: Any) -> list[str]:
    """Return every `content` in a value, in order."""
    if isinstance(value, list):
        return [text for row in value for text in texts_of(row)]
    if not isinstance(value, dict):
        return []
    own = [value["content"]] if isinstance(value.get("content"), str) else []
    return own + [text for row in value.values() for text in texts_of(row)]


async def test_a_web_page_gets_no_permission_to_read_and_a_query_never_reaches_a_log(
    backend: Backend,
) -> None:
    secret = "query-secret-" + "z" * 30
    page = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    async with httpx.AsyncClient(base_url=backend.url, trust_env=False, timeout=BOUND_S) as http:
        for path in ("/api/v1/chat/apollo", "/mcp", "/v1/chat/completions", "/ws", "/nowhere"):
            answer = await http.request("OPTIONS", path, headers={**backend.auth(), **page})
            assert answer.status_code in (403, 405)
            assert not [name for name in answer.headers if name.startswith("access-control-")]
            await http.get(path, params={"token": secret, "access_token": secret})
    for file in backend.home.logs.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes()
    assert secret not in json.dumps(backend.ask("GET", "/api/v1/gateway"))
