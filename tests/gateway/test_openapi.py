"""The OpenAPI document and the routes that are mounted are the same thing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jsonschema
import schemathesis
from starlette.routing import Mount, Route, WebSocketRoute

from backend.gateway.app import build_app, build_gateway
from backend.home import Home
from backend.orchestration.actions import ACTIONS
from backend.orchestration.opening import open_platform
from tests.gateway.serving import Backend, environment_of

OPEN = {"/health", "/ready"}


def operations(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, row in document["paths"].items() for method in row}


async def fetched(backend: Backend) -> dict[str, Any]:
    async with backend.http("read") as http:
        return (await http.get("/openapi.json")).json()


async def test_every_route_mounted_is_in_the_document_and_nothing_else_is(
    tmp_path: Path, backend: Backend
) -> None:
    platform = await open_platform(Home(tmp_path / "home"), environment_of(tmp_path / "home"))
    try:
        routes = build_app(build_gateway(platform, "127.0.0.1", "http://127.0.0.1:1")).routes
    finally:
        await platform.close(stop_fleet=True)
    mounted = set[tuple[str, str]]()
    for route in routes:
        if isinstance(route, Route):
            methods = (route.methods or {"GET", "POST", "DELETE"}) - {"HEAD"}
            mounted |= {(method, route.path) for method in methods}
        elif isinstance(route, Mount):
            mounted.add(("POST", route.path))
        else:
            assert isinstance(route, WebSocketRoute)
            assert route.path in ("/ws", "/{path:path}"), "the second one refuses every other"
    assert operations(await fetched(backend)) == mounted
    assert {(m, p) for action in ACTIONS.values() for m, p in action.routes} <= mounted


async def test_every_operation_is_served_and_asks_for_a_token_where_the_document_says_so(
    backend: Backend,
) -> None:
    document = await fetched(backend)
    async with backend.http() as http:
        del http.headers["Authorization"]
        for method, path in operations(document):
            secured = "security" in document["paths"][path][method.lower()]
            url = path.replace("{", "").replace("}", "")
            answer = await http.request(method, url)
            assert (path in OPEN) != secured, path
            assert answer.status_code == (401 if secured else 200), (method, path)
            if answer.status_code != 200:  # in the words of the path's dialect
                said = answer.json()["error"]
                assert "no token" in said if isinstance(said, str) else said["type"]


async def test_the_document_is_valid_openapi_and_its_parts_are_found(backend: Backend) -> None:
    document = await fetched(backend)
    schema = schemathesis.openapi.from_dict(document)
    schema.validate()
    assert schema.statistic.operations.total == len(operations(document))
    names = [row["operationId"] for path in document["paths"].values() for row in path.values()]
    assert len(set(names)) == len(names)
    for part in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(part)


async def test_answers_have_the_shape_the_document_gives_them(backend: Backend) -> None:
    document = await fetched(backend)
    session = backend.ask("POST", "/api/v1/sessions", json={"owner": "apollo", "title": "shapes"})
    message = backend.ask(
        "POST", "/api/v1/chat/apollo", json={"message": "hello", "session_id": session["id"]}
    )
    team = {"message": "hello", "target_sockets": ["apollo", "athena"]}
    bulk = {"requests": [{"specialist_id": "apollo", "message": "hello"}]}
    asked: list[tuple[str, str, str, Any]] = [
        ("GET", "/api/v1/specialists", "", None),
        ("GET", "/api/v1/specialists/{id}/health", "apollo", None),
        ("POST", "/api/v1/match", "", {"query": "plan a release"}),
        ("POST", "/api/v1/chat/{id}", "apollo", {"message": "hello"}),
        ("POST", "/api/v1/chat/{id}", "apollo", {"message": "hello", "wait": False}),
        ("POST", "/api/team-chat", "", team),
        ("POST", "/api/v1/bulk", "", bulk),
        ("POST", "/api/v1/pipelines", "", {"pipeline": "apollo | athena", "input": "hello"}),
        ("GET", "/api/v1/pipelines", "", None),
        ("POST", "/api/v1/turns/{request_id}/cancel", message["request_id"], {}),
        ("GET", "/api/v1/snapshot", "", None),
        ("GET", "/api/v1/platform", "", None),
        ("GET", "/api/v1/orchestration", "", None),
        ("GET", "/api/v1/errors", "", None),
        ("GET", "/api/v1/sessions", "", None),
        ("GET", "/api/v1/sessions/{id}", session["id"], None),
        ("GET", "/api/v1/sessions/{id}/messages", session["id"], None),
        ("GET", "/api/v1/sessions/{id}/export", session["id"], None),
        ("GET", "/api/v1/memory/search?q=hello", "", None),
        ("GET", "/api/v1/specialists/{specialist_id}/history", "apollo", None),
        ("POST", "/api/v1/messages/{message_id}/pin", str(message["message_id"]), {}),
        ("POST", "/api/v1/fleet/launch", "", {"ids": ["numa"], "dry_run": True}),
    ]
    async with backend.http() as http:
        for method, path, name, body in asked:
            url = path[: path.index("{")] + name + path[path.index("}") + 1 :] if "{" in path else path
            answer = await http.request(method, url, json=body)
            assert answer.status_code == 200, (path, answer.text)
            check(document, method, path.partition("?")[0], "200", answer.json())
        missing = await http.get("/api/v1/sessions/nobody")
        check(document, "GET", "/api/v1/sessions/{id}", "404", missing.json())


def check(document: dict[str, Any], method: str, path: str, status: str, value: Any) -> None:
    answer = document["paths"][path][method.lower()]["responses"][status]
    schema = answer["content"]["application/json"]["schema"]
    jsonschema.validate(value, {**schema, "components": document["components"]})


async def test_the_document_names_no_machine(backend: Backend) -> None:
    text = str(await fetched(backend))
    assert str(Path.home()) not in text
    assert os.sep + "tmp" not in text
