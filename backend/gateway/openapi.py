"""The OpenAPI document, made from the routes that are mounted and the params they read.

What a route is, its wrapper says (`RouteDoc`); a route without one does not exist. Knows no request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Struct
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

import backend
from backend.orchestration.action import Action, Scope
from backend.schema.results import ErrorAnswer

REF = "#/components/schemas/{name}"
JSON = "application/json"
ANYTHING = {"description": "any JSON value"}
"""The schema of a value of no fixed kind."""
_BRACED = re.compile(r"{(\w+)(?::\w+)?}")
_PROBLEMS = {
    "400": "the request cannot be used",
    "401": "no token, or an unknown one",
    "403": "the token's scope, the Host or the Origin does not allow it",
    "404": "something named is not there",
    "409": "it conflicts with what is",
    "413": "the body is too large",
    "429": "too many at once, or a limit is reached",
    "503": "a dependency failed; the code says which",
}


@dataclass(frozen=True)
class RouteDoc:
    """What the document says of an endpoint: `params` are read from body, query and path alike."""

    name: str
    scope: Scope | None
    summary: str
    params: type[Struct] | None = None
    aliases: dict[str, str] = field(default_factory=dict[str, str])
    extra: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """Further parameters, by name, as JSON schema."""
    answers: tuple[type[Struct], ...] = ()
    media: str = JSON


def action_doc(action: Action) -> RouteDoc:
    """Return what the table of actions says of an action's routes."""
    return RouteDoc(
        action.name,
        action.scope,
        action.summary,
        action.params,
        action.aliases,
        answers=action.results,
    )


def described(routes: Iterable[BaseRoute]) -> list[tuple[str, str, RouteDoc]]:
    """Return `(method, path, doc)` of every HTTP route mounted; HEAD goes with GET."""
    found: list[tuple[str, str, RouteDoc]] = []
    for route in routes:
        if isinstance(route, Route):
            doc = getattr(route.endpoint, "doc", None) or RouteDoc(route.name, None, route.name)
            methods = sorted((route.methods or {"GET", "POST", "DELETE"}) - {"HEAD"})
            found += [(method, route.path, doc) for method in methods]
        elif isinstance(route, Mount):
            path = route.path or "/"
            found.append(("POST", path, RouteDoc(path, None, path)))
        else:
            assert isinstance(route, WebSocketRoute), route
    return found


def document(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of these routes, as plain values."""
    rows = described(routes)
    types = {doc.params for _, _, doc in rows if doc.params} | {t for _, _, doc in rows for t in doc.answers}
    ordered = sorted(types | {ErrorAnswer}, key=lambda kind: kind.__qualname__)
    schemas, components = msgspec.json.schema_components(
        ordered, ref_template=REF, schema_hook=lambda kind: dict(ANYTHING)
    )
    by_type = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for method, path, doc in rows:
        shape = _shape(doc, by_type, components)
        answers = [by_type[kind] for kind in doc.answers]
        paths.setdefault(_BRACED.sub(r"{\1}", path), {})[method.lower()] = _operation(
            method, path, doc, shape, answers, by_type[ErrorAnswer]
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tekton gateway",
            "version": backend.__version__,
            "description": "Every verb of the platform. The WebSocket `/ws` carries the same verbs by name.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _shape(doc: RouteDoc, by_type: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    """Return an endpoint's params as one object schema: our names, the older names, the extras."""
    schema: dict[str, Any] = {}
    if doc.params is not None:
        schema = components[by_type[doc.params]["$ref"].rpartition("/")[2]]
    properties: dict[str, Any] = dict(schema.get("properties", {}))
    for alias, name in doc.aliases.items():
        properties.setdefault(alias, properties[name])
    return {"properties": properties | doc.extra, "required": list(schema.get("required", ()))}


def _operation(
    method: str,
    path: str,
    doc: RouteDoc,
    shape: dict[str, Any],
    answers: list[Any],
    problem: Any,
) -> dict[str, Any]:
    in_path = _BRACED.findall(path)
    covered = {doc.aliases.get(name, name) for name in in_path}
    rest = {
        name: schema
        for name, schema in shape["properties"].items()
        if doc.aliases.get(name, name) not in covered and name not in in_path
    }
    required = [name for name in shape["required"] if name not in covered]
    operation: dict[str, Any] = {
        "operationId": f"{doc.name.replace(' ', '_')}_{method.lower()}_{_plain(path)}",
        "summary": doc.summary,
        "parameters": [
            {"name": n, "in": "path", "required": True, "schema": _path_schema(n, shape)} for n in in_path
        ],
        "responses": {
            "200": {"description": "done", "content": {doc.media: {"schema": _answer(doc, answers)}}},
            **{
                status: {"description": text, "content": {JSON: {"schema": problem}}}
                for status, text in _PROBLEMS.items()
            },
        },
    }
    if doc.scope is not None:
        operation |= {"security": [{"token": []}], "x-scope": doc.scope}
    if method == "GET":
        operation["parameters"] += [
            {"name": name, "in": "query", "required": name in required, "schema": schema}
            for name, schema in rest.items()
            if doc.aliases.get(name, name) not in required or name in required
        ]
    elif rest:
        operation["requestBody"] = {
            "required": bool(required),
            "content": {JSON: {"schema": _body(rest, required, doc.aliases)}},
        }
    return operation


def _body(rest: dict[str, Any], required: list[str], aliases: dict[str, str]) -> dict[str, Any]:
    """Return a body's schema; a required value may come under any of its names."""
    body: dict[str, Any] = {"type": "object", "properties": rest}
    choices: list[dict[str, Any]] = []
    for name in required:
        names = [name, *(alias for alias, own in aliases.items() if own == name and alias in rest)]
        choices.append({"anyOf": [{"required": [known]} for known in names]})
    if choices:
        body["allOf"] = choices
    return body


def _path_schema(name: str, shape: dict[str, Any]) -> dict[str, Any]:
    # an empty segment would make it the path of another route
    schema = shape["properties"].get(name, {"type": "string"})
    return (
        {**schema, "minLength": 1} if schema.get("type") == "string" else {"type": "string", "minLength": 1}
    )


def _answer(doc: RouteDoc, answers: list[Any]) -> dict[str, Any]:
    if doc.media != JSON:
        return {"type": "string"}
    if not answers:
        return {"type": "object"}
    return answers[0] if len(answers) == 1 else {"anyOf": answers}


def _plain(path: str) -> str:
    return re.sub(r"\W+", "_", path).strip("_") or "root"
