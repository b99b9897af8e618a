"""What Prometheus reads: figures of turns that ran, not of turns imagined."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect

from tests.gateway.serving import Backend


def parsed(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Read a page with the official parser: value by sample name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Page:
    def __init__(self, text: str) -> None:
        self._values = parsed(text)

    def get(self, name: str, **labels: str) -> float:
        return self._values.get((name, frozenset(labels.items())), 0.0)

    def total(self, name: str, **labels: str) -> float:
        return sum(
            v for (n, had), v in self._values.items() if n == name and labels.items() <= dict(had).items()
        )


async def page(backend: Backend) -> Page:
    async with backend.http("read") as http:
        answer = await http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Page(answer.text)


async def test_an_answer_counts_tokens_first_token_and_duration_once(backend: Backend) -> None:
    before = await page(backend)
    async with backend.http("chat") as http:
        answer = (await http.post("/api/v1/chat/athena", json={"message": "[[repeat 7]]"})).json()
    after = await page(backend)

    def grown(name: str, **labels: str) -> float:
        return after.get(name, **labels) - before.get(name, **labels)

    assert grown("tekton_turns_total", specialist="athena-ai", outcome="ok") == 1
    assert grown("tekton_tokens_total", specialist="athena-ai", direction="out") == 7
    used = answer["usage"]["input_tokens"]
    assert grown("tekton_tokens_total", specialist="athena-ai", direction="in") == used
    assert grown("tekton_first_token_seconds_count", specialist="athena-ai") == 1
    assert grown("tekton_turn_duration_seconds_count", specialist="athena-ai") == 1
    assert 0 < grown("tekton_turn_duration_seconds_sum", specialist="athena-ai") < 20
    model = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "scripted",
        "gen_ai_request_model": "scripted",
    }
    assert grown("gen_ai_client_operation_duration_seconds_count", **model, error_type="") == 1
    assert grown("gen_ai_client_token_usage_sum", **model, gen_ai_token_type="output") == 7
    assert grown("gen_ai_client_token_usage_sum", **model, gen_ai_token_type="input") == used
    spent = {"specialist": "athena-ai", "provider": "scripted"}
    assert after.total("tekton_provider_tokens_total", **spent, direction="out") >= 7
    assert after.total("tekton_provider_calls_total", **spent) >= 1
    assert after.get("tekton_gateway_calls_total", transport="http", action="chat", status="200") >= 1


async def test_a_failure_is_counted_under_its_code(backend: Backend) -> None:
    before = await page(backend)
    async with backend.http("chat") as http:
        await http.post("/api/v1/chat/apollo", json={"message": "[[fail provider_rate_limited]]"})
    after = await page(backend)
    code = {"specialist": "apollo-ai", "code": "provider_rate_limited"}
    assert after.get("tekton_turn_errors_total", **code) == before.get("tekton_turn_errors_total", **code) + 1
    failure = {"where": "apollo-ai", "code": "provider_rate_limited"}
    assert after.get("tekton_errors_total", **failure) == before.get("tekton_errors_total", **failure) + 1
    assert after.get("tekton_errors_unacknowledged") >= 1


async def test_states_processes_clients_events_and_store_are_as_they_stand(backend: Backend) -> None:
    address = f"{backend.url.replace('http', 'ws')}/ws"
    async with connect(address, additional_headers=backend.auth("read"), proxy=None) as socket:
        await socket.recv()
        now = await page(backend)
    assert now.get("tekton_specialists", state="ready") >= 2
    assert now.total("tekton_specialist_state", specialist="apollo-ai", state="ready") == 1
    assert now.get("tekton_process_resident_bytes", process="apollo-ai") > 1_000_000
    assert now.get("tekton_process_resident_bytes", process="gateway") > 1_000_000
    assert now.get("tekton_gateway_websocket_clients") >= 1
    assert now.get("tekton_events_total") > 0
    assert now.get("tekton_store_bytes") > 0
    assert now.get("tekton_store_waiting", queue="writer") == 0


async def test_metrics_need_a_token_as_every_route_does(backend: Backend) -> None:
    async with backend.http() as http:
        del http.headers["Authorization"]
        assert (await http.get("/metrics")).status_code == 401
