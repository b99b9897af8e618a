"""Who may come in: every cell of Host × Origin × token × scope × transport, against the real gateway.

What each cell should answer is computed here from the rules alone: place first, then token, then scope.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.gateway.serving import Backend

RANK = {"read": 0, "chat": 1, "control": 2}


@dataclass(frozen=True)
class Cell:
    host: str
    origin: str
    token: str

    def headers(self, backend: Backend) -> list[tuple[str, str]]:
        place = backend.url.removeprefix("http://")
        port = place.rpartition(":")[2]
        host = {
            "own": place,
            "localhost": f"LocalHost:{port}",
            "no port": "127.0.0.1",
            "foreign": f"evil.example:{port}",
            "rebound": "127.0.0.1.evil.example",
            "malformed": "127.0.0.1/?#",
        }[self.host]
        origin = {
            "none": [],
            "own": [("Origin", f"http://{host}")],
            "foreign": [("Origin", "https://evil.example")],
            "null": [("Origin", "null")],
            "other port": [("Origin", "http://127.0.0.1:1")],
        }[self.origin]
        good = backend.tokens
        token = {
            "none": [],
            "unknown": [("Authorization", "Bearer " + "y" * 50)],
            "basic": [("Authorization", f"Basic {backend.token}")],
            "twice": [("Authorization", f"Bearer {backend.token}")] * 2,
            "empty": [("Authorization", "Bearer")],
            "owner": [("Authorization", f"Bearer {backend.token}")],
            **{scope: [("Authorization", f"bearer {good[scope]}")] for scope in RANK},
        }[self.token]
        return [("Host", host), *origin, *token]

    @property
    def place_status(self) -> int:
        """What the place alone gets: 400 or 403, or 0 when it may pass."""
        if self.host == "malformed":
            return 400
        if self.host in ("foreign", "rebound"):
            return 403
        return 403 if self.origin in ("foreign", "null", "other port") else 0

    @property
    def scope(self) -> str:
        return {"owner": "control"}.get(self.token, self.token if self.token in RANK else "")

    def status(self, needed: str, good: int) -> int:
        if self.place_status:
            return self.place_status
        if not self.scope:
            return 401
        return good if RANK[self.scope] >= RANK[needed] else 403


HOSTS = ("own", "localhost", "no port", "foreign", "rebound", "malformed")
ORIGINS = ("none", "own", "foreign", "null", "other port")
TOKENS = ("none", "unknown", "basic", "twice", "empty", "read", "chat", "control", "owner")
CELLS = [Cell(*values) for values in product(HOSTS, ORIGINS, TOKENS)]

CALLS = [
    ("read", "GET", "/api/v1/platform", None, 200),
    ("read", "GET", "/metrics", None, 200),
    ("chat", "POST", "/api/v1/chat/apollo", {}, 400),
    ("chat", "POST", "/api/chat/apollo/stream", {}, 400),
    ("chat", "POST", "/api/chat/team/stream", {}, 400),
    ("control", "POST", "/api/v1/fleet/kill", {"ids": []}, 400),
    ("read", "POST", "/mcp", {}, 400),
    ("read", "POST", "/api/mcp/v2/process", {}, 400),
    ("read", "GET", "/v1/models", None, 200),
    ("chat", "POST", "/v1/chat/completions", {}, 400),
]
"""Scope needed, call, and what one that may come in gets: bodies that do nothing, so 400 means admitted."""


@pytest.mark.parametrize(("needed", "method", "path", "body", "good"), CALLS, ids=[row[2] for row in CALLS])
async def test_http_and_sse_answer_every_cell_as_the_rules_say(
    needed: str, method: str, path: str, body: object, good: int, backend: Backend
) -> None:
    wrong: list[str] = []
    async with httpx.AsyncClient(base_url=backend.url, trust_env=False, timeout=60) as http:
        for cell in CELLS:
            answer = await http.request(method, path, headers=cell.headers(backend), json=body)
            expected = cell.status(needed, good)
            if answer.status_code != expected:
                wrong.append(f"{cell}: {answer.status_code} instead of {expected}: {answer.text}")
            if answer.status_code >= 400:
                assert answer.json()["error"]["message"]
            assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)
    assert wrong == []


async def test_a_websocket_is_refused_before_its_handshake_in_every_cell_that_must_not_pass(
    backend: Backend,
) -> None:
    wrong: list[str] = []
    for cell in CELLS:
        if cell.host == "malformed":
            continue  # the client library refuses to send it; HTTP covers the same gate
        expected = cell.status("read", 101)
        seen = await shaken(backend, cell)
        if seen != expected:
            wrong.append(f"{cell}: {seen} instead of {expected}")
    assert wrong == []


async def shaken(backend: Backend, cell: Cell) -> int:
    """Return the status of a handshake with this cell's headers."""
    headers = dict(cell.headers(backend)) if cell.token != "twice" else cell.headers(backend)
    rows = list(headers.items()) if isinstance(headers, dict) else headers
    host = next(value for name, value in rows if name == "Host")
    port = int(backend.url.rpartition(":")[2])
    try:
        async with connect(
            f"ws://{host if ':' in host else f'{host}:80'}/ws",
            host="127.0.0.1",
            port=port,
            additional_headers=[row for row in rows if row[0] != "Host"],
            proxy=None,
        ):
            return 101
    except InvalidStatus as refused:
        assert json.loads(refused.response.body or b"")["error"]["message"]
        return refused.response.status_code


@pytest.mark.parametrize("scope", ["read", "chat", "control"])
async def test_a_websocket_call_is_held_to_the_scope_of_its_token(scope: str, backend: Backend) -> None:
    calls = {"read": ("get_session", "unknown_session"), "chat": ("chat", "invalid_request"), "control": ("kill", "invalid_request")}  # fmt: skip
    values = {"get_session": {"id": "nobody"}, "chat": {}, "kill": {"ids": []}}
    address = f"{backend.url.replace('http', 'ws')}/ws"
    async with connect(address, additional_headers=backend.auth(scope), proxy=None) as socket:
        assert json.loads(await socket.recv())["scopes"] == [scope]
        for needed, (name, admitted) in calls.items():
            await socket.send(json.dumps({"type": name, "request_id": name, **values[name]}))
            answer = json.loads(await socket.recv())
            expected = admitted if RANK[scope] >= RANK[needed] else "forbidden"
            assert answer["code"] == expected, (scope, needed, answer)


@pytest.mark.parametrize("scope", ["read", "chat", "control"])
async def test_an_mcp_tool_is_held_to_the_scope_of_its_token_in_both_dialects(
    scope: str, backend: Backend
) -> None:
    tools = {"read": "GetSession", "chat": "SendMessageToSpecialist", "control": "KillSpecialist"}
    async with backend.http(scope) as http:
        for needed, tool in tools.items():
            may = RANK[scope] >= RANK[needed]
            body = {"tool_name": tool, "arguments": {}}
            answer = (await http.post("/api/mcp/v2/process", json=body)).json()
            assert (answer["error"]["code"] == "forbidden") != may, (scope, tool, answer)
            listed = (await http.get("/api/mcp/v2/tools")).json()["result"]["tools"]
            assert (tool in [row["name"] for row in listed]) == may


async def test_a_token_in_the_query_or_a_cookie_opens_nothing(backend: Backend) -> None:
    async with httpx.AsyncClient(base_url=backend.url, trust_env=False, timeout=60) as http:
        for query in ("token", "access_token", "authorization"):
            assert (await http.get("/api/v1/platform", params={query: backend.token})).status_code == 401
        cookie = {"Cookie": f"token={backend.token}"}
        assert (await http.get("/api/v1/platform", headers=cookie)).status_code == 401


async def test_no_body_may_carry_a_command_an_environment_or_a_path(backend: Backend) -> None:
    """Unknown keys are ignored: they reach nothing."""
    extra = {"command": "id", "env": {"PATH": "x"}, "path": "/etc/passwd", "argv": ["sh"], "output": "/tmp/x"}
    async with backend.http() as http:
        plan = (
            await http.post("/api/v1/fleet/launch", json={"ids": ["numa"], "dry_run": True, **extra})
        ).json()
        assert "/etc/passwd" not in json.dumps(plan)
        for pipeline in ("cat /etc/passwd | apollo", "apollo > /tmp/x", "apollo < /etc/passwd"):
            answer = await http.post("/api/v1/pipelines", json={"pipeline": pipeline})
            assert answer.status_code == 400
            assert "not by the backend" in answer.json()["error"]["message"]


async def test_each_refusal_is_on_the_gateway_screen_with_its_reason(backend: Backend) -> None:
    reasons = {
        Cell("malformed", "none", "owner"): "malformed Host",
        Cell("foreign", "none", "owner"): "evil.example is not allowed",
        Cell("own", "foreign", "owner"): "Origin https://evil.example",
        Cell("own", "none", "none"): "no token",
        Cell("own", "none", "unknown"): "not known",
        Cell("own", "none", "read"): "has scope read; this needs control",
    }
    async with httpx.AsyncClient(base_url=backend.url, trust_env=False, timeout=60) as http:
        for cell in reasons:
            await http.post("/api/v1/fleet/kill", headers=cell.headers(backend), json={"ids": []})
        await http.get("/health", headers={"Host": "evil.example"})
    await shaken(backend, Cell("own", "none", "unknown"))
    refusals = backend.ask("GET", "/api/v1/gateway")["refusals"]
    newest = [(row["transport"], row["action"], row["refusal"]) for row in refusals[:8]]
    assert newest[0][:2] == ("ws", "connect")
    assert newest[1][1] == "health"
    for (_, action, told), reason in zip(newest[2:][::-1], reasons.values(), strict=True):
        assert action == "kill"
        assert reason in told
        assert backend.token not in told


async def test_control_calls_leave_an_audit_line_with_who_and_how_it_ended(backend: Backend) -> None:
    path = backend.home.logs / "control-audit.log"
    before = len(path.read_text().splitlines()) if path.exists() else 0
    async with backend.http("control") as http:
        await http.post("/api/v1/fleet/kill", json={"ids": ["nobody-of-this-name"]})
    async with backend.http("read") as http:
        await http.post("/api/v1/fleet/kill", json={"ids": ["apollo"]})
    lines = [json.loads(line) for line in path.read_text().splitlines()[before:]]
    ends = [(row["action"], row["status"], row.get("token")) for row in lines]
    assert ends == [("kill", 404, "controler"), ("kill", 403, "reader")]
    assert path.stat().st_mode & 0o077 == 0
