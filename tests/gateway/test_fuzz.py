"""A bounded share of the fuzzing of `bench/fuzz.py`: no crash, no hang, no failure of the gateway's own."""

from __future__ import annotations

from collections.abc import Callable

from tests.gateway.fuzzing import BodyFuzzer, FrameFuzzer
from tests.gateway.serving import Backend


async def test_no_frame_and_no_body_makes_the_gateway_fail(new_backend: Callable[..., Backend]) -> None:
    backend = new_backend(launch=("apollo", "athena"))
    sockets, bodies = FrameFuzzer(backend), BodyFuzzer(backend)
    sockets.run(120)
    bodies.run(120)
    assert {"invalid_json", "invalid_request", "result"} <= sockets.seen.keys()
    assert {200, 400} <= bodies.seen.keys()
    assert backend.process.poll() is None
    assert backend.ask("GET", "/health")["status"] == "healthy"
    log = (backend.home.logs / "backend.log").read_text(errors="replace")
    assert "Traceback" not in log, log[-4_000:]
