"""Frames and bodies nobody would send, thrown at a real gateway: it must answer each, and never as a failure of its own."""

from __future__ import annotations

import contextlib
import json
import string
from collections import Counter
from typing import Any, cast

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from backend.orchestration.actions import ACTIONS
from tests.gateway.serving import Backend

LEFT_OUT = {"shutdown", "pull_model"}
"""Actions that would end the platform or fetch from the network."""
INTERNAL = "failed inside the backend"
WAIT_S = 60.0

_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40)
_json = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
_names = st.sampled_from(["apollo", "athena-ai", "team", "all", "nobody", "@auto", "", "../x", "a" * 500])
_words = st.sampled_from(
    ["", "hello", "[[repeat 3]]", "apollo | athena", "\x00", "\ud800", "🜁" * 20, "x" * 3_000]
)


@st.composite
def _calls(draw: st.DrawFn) -> dict[str, Any]:
    """A call of a known action with some of its parameters, each of its kind or of none."""
    name = draw(st.sampled_from([*sorted(ACTIONS.keys() - LEFT_OUT), "subscribe", "ping"]))
    fields = (
        ACTIONS[name].params.__struct_fields__
        if name in ACTIONS
        else ("topics", "after_seq", "epoch", "batch")
    )
    chosen = draw(st.lists(st.sampled_from(fields or ("none",)), unique=True, max_size=6))
    values = {field: draw(_names | _words | _json) for field in chosen}
    if draw(st.booleans()):
        values["request_id"] = draw(st.text(string.ascii_letters, min_size=1, max_size=8) | _json)
    return {"type": name, **values}


def _written(value: object) -> str | bytes:
    return json.dumps(value, ensure_ascii=True)


frames = st.one_of(
    _calls().map(_written),
    _json.map(_written),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    st.binary(max_size=200),
    st.integers(1, 3_000).map(lambda depth: "[" * depth),
    st.integers(1, 3_000).map(lambda depth: '{"type":' * depth),
)


def profile(count: int) -> settings:
    """Return settings for a run of so many examples: no shrinking by size, no deadline, no database."""
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=checks,
        phases=[Phase.explicit, Phase.generate],
    )


class FrameFuzzer:
    """One socket that sends frames; `seen` counts the answers by code."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._number = 0
        self.seen: Counter[str] = Counter()

    def run(self, count: int) -> None:
        """Send so many frames; after each the gateway must answer a ping."""

        @profile(count)
        @given(frames)
        @example('{"type": "list_errors", "request_id": "right"}')
        @example('{"type": "chat", "request_id": "wrong"}')
        @example("no frame")
        def one(frame: str | bytes) -> None:
            self._send(socket, frame)

        url = f"{self._backend.url.replace('http', 'ws')}/ws"
        with connect(url, additional_headers=self._backend.auth(), proxy=None, max_size=None) as socket:
            one()

    def _send(self, socket: ClientConnection, frame: str | bytes) -> None:
        self._number += 1
        ping = f"alive-{self._number}"
        try:
            socket.send(frame)
            socket.send(json.dumps({"type": "ping", "request_id": ping}))
            while True:
                for line in str(socket.recv(WAIT_S, decode=True)).split("\n"):
                    answer = json.loads(line)
                    self._judge(answer, frame)
                    if answer["type"] == "pong" and answer.get("request_id") == ping:
                        return
        except ConnectionClosed as closed:
            raise AssertionError(f"the connection ended at {frame!r}: {closed}") from closed

    def _judge(self, answer: dict[str, Any], frame: str | bytes) -> None:
        if answer["type"] == "error":
            self.seen[answer["code"]] += 1
            assert INTERNAL not in answer["message"], (frame, answer)
        elif answer["type"] == "result":
            self.seen["result"] += 1


class BodyFuzzer:
    """Requests drawn from the OpenAPI document, right and wrong; `seen` counts the statuses."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        document = backend.ask("GET", "/openapi.json")
        self._schema = schemathesis.openapi.from_dict(document)
        self.seen: Counter[int] = Counter()
        self._http = httpx.Client(
            base_url=backend.url, headers=backend.auth(), trust_env=False, timeout=WAIT_S
        )

    def run(self, count: int) -> None:
        """Send so many requests, spread evenly over all operations; of few, each gets right or wrong ones in turn."""
        operations = [cast(Any, result).ok() for result in self._schema.get_all_operations()]
        operations = [o for o in operations if not any(word in o.path for word in ("shutdown", "pull"))]
        modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
        few = count < 20 * len(operations)
        with self._http:
            while (
                left := count - sum(self.seen.values())
            ) > 0:  # some operations run out of what can be sent
                each = max(1, -(-left // len(operations)))
                for number, operation in enumerate(operations):
                    for mode in (modes[number % 2],) if few else modes:
                        self._operation(operation, mode, each if few else max(1, each // 2))

    def _operation(self, operation: Any, mode: Any, count: int) -> None:
        @profile(count)
        @given(operation.as_strategy(generation_mode=mode))
        def one(case: Any) -> None:
            self._send(case)

        with contextlib.suppress(Unsatisfiable):  # nothing of this operation can be wrong
            one()

    def _send(self, case: Any) -> None:
        request = case.as_transport_kwargs(base_url=self._backend.url)
        request["headers"] = {
            name: value
            for name, value in (request.get("headers") or {}).items()
            if name.lower() not in ("authorization", "host", "content-length", "transfer-encoding")
        }
        try:
            answer = _sent(self._http, request)
        except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeEncodeError, ValueError):
            self.seen[0] += 1  # a client library refuses to send it
            return
        except httpx.TimeoutException as late:
            raise AssertionError(f"no answer within {WAIT_S:g} s: {request}") from late
        self.seen[answer.status_code] += 1
        assert answer.status_code < 500 or answer.status_code == 503, (request, answer.text)
        assert INTERNAL not in answer.text, (request, answer.text)


def _sent(http: httpx.Client, request: dict[str, Any]) -> httpx.Response:
    known = {"method", "url", "params", "headers", "json", "data", "files"}
    options = {name: value for name, value in request.items() if name in known and value is not None}
    if isinstance(options.get("data"), bytes | str):
        options["content"] = options.pop("data")
    with http.stream(**options) as answer:
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            return httpx.Response(answer.status_code, text="")  # its client goes away at once
        answer.read()
        return answer
