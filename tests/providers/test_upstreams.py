"""What vendors' servers, relays and look-alikes do around a stream, through each provider as it is asked for real."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backend.config import Providers, Settings
from backend.home import Home
from backend.providers import create
from backend.providers.base import Completed, ProviderError, StreamItem, Text
from tests.providers.dialects import DIALECTS, Answer, OpenAIWords
from tests.providers.rigs import BOUND_S, ENVIRONMENT, ServerRig, asking
from tests.providers.test_conformance import said, take
from tests.providers.test_failures import failure
from tests.providers.upstreams import Call, Upstream

REMOTE = [dialect for dialect in DIALECTS if dialect.kind != "embedded"]
remote = pytest.mark.parametrize("served", REMOTE, indirect=True, ids=lambda dialect: dialect.kind)
openai = pytest.mark.parametrize("served", [OpenAIWords()], indirect=True, ids=["openai"])


@remote
@pytest.mark.parametrize(
    ("status", "media", "body", "words"),
    [
        (
            200,
            "text/html; charset=utf-8",
            b"<html>Please sign in</html>",
            ["200 text/html", "Please sign in"],
        ),
        (200, "text/plain", b"the relay has no upstream\n", ["200 text/plain", "no upstream"]),
        (200, "application/json", b'{"error":"Unexpected endpoint (POST /x)"}', ["Unexpected endpoint"]),
        (200, "application/json", b"", ["200 application/json", "nothing came"]),
        (204, "", b"", ["204", "nothing came"]),
    ],
)
async def test_an_answer_that_is_no_stream_shows_what_it_is(
    served: ServerRig, status: int, media: str, body: bytes, words: list[str]
) -> None:
    async def answer(call: Call) -> None:
        await call.reply(status, body, **{"Content-Type": media})

    served.handler = answer
    error, text = await failure(served.ask())
    assert (error.code, text) == ("internal", "")
    for word in words:
        assert word in error.message, error.message
    assert await served.calls() == 1


@remote
async def test_a_page_whose_connection_stays_open_is_not_waited_for(served: ServerRig) -> None:
    async def answer(call: Call) -> None:
        await call.begin("text/html")
        await call.send(b"<html>Sign in")
        await call.gone.wait()

    served.handler = answer
    error, _ = await failure(served.ask())
    assert "Sign in" in error.message


@remote
async def test_a_redirect_is_not_followed_and_says_where_it_leads(served: ServerRig) -> None:
    async def redirect(call: Call) -> None:
        await call.reply(302, b"", Location="http://elsewhere.example/login")

    served.handler = redirect
    error, _ = await failure(served.ask())
    assert "302" in error.message and "http://elsewhere.example/login" in error.message
    assert f"providers.{served.kind}" in error.message


@remote
async def test_a_page_about_models_is_no_word_on_our_model(served: ServerRig) -> None:
    async def refuse(call: Call) -> None:
        await call.reply(404, b"<html>404: our car models moved</html>", **{"Content-Type": "text/html"})

    served.handler = refuse
    error, _ = await failure(served.ask())
    assert "is no API" in error.message and f"providers.{served.kind}" in error.message


@remote
@pytest.mark.parametrize("value", ["inf", "-inf", "1e999", "nan", "-5", "99999999999999999999", "soon", ""])
async def test_a_wait_that_is_none_is_still_a_rate_limit(served: ServerRig, value: str) -> None:
    async def limit(call: Call) -> None:
        header = "retry-after-ms" if value == "1e999" else "Retry-After"
        await call.reply(429, served.dialect.refusal(429, "slow down"), **{header: value})

    served.handler = limit
    error, _ = await failure(served.ask())
    assert error.code == "provider_rate_limited"
    wait = error.detail.get("retry_after_s", 0.0)
    assert isinstance(wait, float) and 0 <= wait <= 86_400
    assert "99999" not in error.message


@remote
async def test_an_echo_of_the_prompt_does_not_decide_what_an_error_is(served: ServerRig) -> None:
    prompt = "Why is 'the context length exceeded' and 'model not found' and 'insufficient_quota'?"

    async def refuse(call: Call) -> None:
        await call.reply(400, served.dialect.refusal(400, f"not like this. You sent: {prompt}"))

    served.handler = refuse
    error, _ = await failure(served.ask(text=prompt))
    assert error.code == "internal" and "not like this" in error.message


@pytest.mark.parametrize("how", ["kept open", "cut"])
async def test_an_answer_that_has_ended_does_not_wait_for_the_connection(served: ServerRig, how: str) -> None:
    async def answer(call: Call) -> None:
        wire = served.dialect.wire(Answer(pieces=["all ", "of it"]))
        end = b"".join(wire.after).replace(b"data: [DONE]\n\n", b"")
        await call.begin(served.dialect.media)
        await call.send(*wire.before, *wire.pieces, end)
        if how == "kept open":
            await call.gone.wait()
        else:
            call.cut()

    served.handler = answer
    items = await take(served.ask())
    assert said(items) == "all of it" and isinstance(items[-1], Completed)
    assert items[-1].finish_reason == "stop"


@remote
async def test_counts_that_come_behind_the_ending_are_waited_for(served: ServerRig) -> None:
    async def answer(call: Call) -> None:
        wire = served.dialect.wire(Answer(pieces=["a"], tokens=33))
        await call.begin(served.dialect.media)
        for part in wire.parts:
            for event in part.split(b"\n\n"):
                await call.send(event + (b"\n\n" if served.kind != "ollama" else b""))
                await asyncio.sleep(0)
        await call.end()

    served.handler = answer
    last = (await take(served.ask()))[-1]
    assert isinstance(last, Completed) and last.usage.output_tokens == 33 and not last.usage.estimated


async def test_a_kept_connection_that_the_upstream_closes_under_a_prompt_is_unavailable(
    served: ServerRig,
) -> None:
    served.play(Answer(pieces=["first"]))
    assert said(await take(served.ask())) == "first"

    async def close(call: Call) -> None:
        call.cut()

    served.handler = close
    error, _ = await failure(served.ask())
    assert error.code == "provider_unavailable" and await served.calls() == 2


HINTS = {
    "max_tokens": (
        400,
        {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model.", "param": "max_tokens"}},
        "max_tokens_name",
    ),
    "a message alone": (400, {"error": "Unrecognized request argument supplied: stream_options"}, "send_stream_options"),
    "stream_options": (
        422,
        {"object": "error", "message": {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]}},
        "send_stream_options",
    ),
    "FastAPI": (422, {"detail": [{"loc": ["body", "temperature"], "msg": "no"}]}, "send_temperature"),
    "temperature": (
        400,
        {"error": {"message": "Unsupported value: 'temperature' does not support 0.5.", "param": "temperature"}},
        "send_temperature",
    ),
}  # fmt: skip


@openai
@pytest.mark.parametrize(("status", "body", "setting"), HINTS.values(), ids=HINTS.keys())
async def test_a_parameter_that_is_refused_names_the_setting_that_mends_it(
    served: ServerRig, status: int, body: object, setting: str
) -> None:
    async def refuse(call: Call) -> None:
        await call.reply(status, body)

    served.handler = refuse
    error, _ = await failure(served.ask())
    assert error.code == "internal" and f"providers.openai.{setting}" in error.message, error.message


@pytest.mark.parametrize(
    ("own", "sent", "left_out"),
    [
        ({}, {"stream_options": {"include_usage": True}, "max_tokens": 7, "temperature": 0.5}, []),
        ({"send_stream_options": False}, {"max_tokens": 7}, ["stream_options"]),
        ({"max_tokens_name": "max_completion_tokens"}, {"max_completion_tokens": 7}, ["max_tokens"]),
        ({"send_temperature": False}, {"max_tokens": 7}, ["temperature"]),
    ],
)
async def test_what_a_server_refuses_can_be_left_out_or_renamed(
    home: Home, own: dict[str, Any], sent: dict[str, Any], left_out: list[str]
) -> None:
    words = OpenAIWords()
    bodies: list[dict[str, Any]] = []

    async def answer(call: Call) -> None:
        bodies.append(call.json)
        await call.begin(words.media)
        await call.send(*words.wire(Answer()).parts)
        await call.end()

    server = await Upstream(answer).start()
    table = {"base_url": f"{server.url}/v1", "model": "m", **own}
    provider = create("openai", Settings(providers=Providers("openai", {"openai": table})), home, ENVIRONMENT)
    await provider.prepare()
    try:
        request = asking(max_tokens=7, temperature=0.5)
        items = [item async for item in provider.stream(request)]
    finally:
        await provider.aclose()
        await server.stop()
    assert said(items) == "Hello there"
    assert {name: bodies[0].get(name) for name in sent} == sent
    assert not set(left_out) & set(bodies[0])


async def test_a_quota_that_is_used_up_is_told_from_a_rate(home: Home) -> None:
    rig = ServerRig("openai", home, dialect=OpenAIWords())
    await rig.start()

    async def refuse(call: Call) -> None:
        await call.reply(
            429,
            {
                "error": {
                    "message": "check your plan",
                    "type": "insufficient_quota",
                    "code": "insufficient_quota",
                }
            },
        )

    rig.handler = refuse
    try:
        error, _ = await failure(rig.ask())
    finally:
        await rig.stop()
    assert (
        error.code == "provider_auth" and "payment" in error.message and "check your plan" in error.evidence
    )


# the environment's networks


async def asked_through(kind: str, url: str, home: Home) -> tuple[str, ProviderError | None]:
    """Ask a provider that is sent to `url`; return its text, or how it failed."""
    tables: dict[str, dict[str, object]] = {
        "ollama": {"host": url, "model": "test-model"},
        "openai": {"base_url": f"{url}/v1", "model": "test-model"},
        "anthropic": {"base_url": url},
    }
    provider = create(kind, Settings(providers=Providers(kind, {kind: tables[kind]})), home, ENVIRONMENT)
    items: list[StreamItem] = []
    try:
        await provider.prepare()
        async with asyncio.timeout(BOUND_S):
            items = [item async for item in provider.stream(asking())]
    except ProviderError as error:
        return "", error
    finally:
        await provider.aclose()
    return "".join(item.content for item in items if isinstance(item, Text)), None


@remote
@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "localhost"])
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
async def test_this_machine_is_asked_without_a_proxy_by_whichever_name(
    served: ServerRig, host: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    url = served.upstream.url.replace("127.0.0.1", host)
    text, error = await asked_through(served.kind, url, served.home)
    assert (text, error) == ("Hello there", None)


@remote
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
async def test_others_are_asked_through_the_proxy_unless_it_is_not_for_them(
    served: ServerRig, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        variable, served.upstream.url
    )  # which answers whatever it is asked for, as a proxy would
    monkeypatch.setenv("NO_PROXY", "[::1],10.0.0.0/8,not.example")
    seen: list[str] = []

    async def as_proxy(call: Call) -> None:
        seen.append(call.path)
        await served.say(call)

    served.others = {f"http://models.example{path}": as_proxy for path in (served.dialect.chat, "/api/show")}
    served.others["http://models.example/api/show"] = lambda call: call.reply(
        200, served.dialect.side("/api/show")
    )
    text, error = await asked_through(served.kind, "http://models.example", served.home)
    assert (text, error) == ("Hello there", None) and seen == [f"http://models.example{served.dialect.chat}"]


@remote
@pytest.mark.parametrize("proxy", ["socks://127.0.0.1:9", "gopher://127.0.0.1:9", "http://[::1:9"])
async def test_a_proxy_that_cannot_be_used_is_refused_by_the_name_of_its_variable(
    served: ServerRig, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    _, error = await asked_through(served.kind, "http://models.example", served.home)
    assert error is not None and error.code == "provider_unavailable" and "ALL_PROXY" in error.message


@remote
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSLKEYLOGFILE"])
async def test_a_file_of_certificates_that_is_not_there_is_refused_by_the_name_of_its_variable(
    served: ServerRig, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "/nonexistent/file.pem")
    _, error = await asked_through(served.kind, "https://models.example", served.home)
    assert error is not None and variable in error.message, error
