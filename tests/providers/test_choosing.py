"""Which provider and model are used, how they are called, and what a name that is none leads to."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from datetime import date
from pathlib import Path

import pytest

from backend import config
from backend.config import Providers, Settings
from backend.home import Home
from backend.providers import create
from backend.providers.anthropic import AnthropicSettings, current_models, retirement
from backend.providers.base import CompletionRequest, ModelNotFound, ProviderAuth
from backend.providers.choice import default_model, display_name, settings_with, write_choice
from backend.providers.discovery import choose, look_around
from backend.providers.ollama import PROVIDER as OLLAMA
from backend.schema.frames import ChatMessage
from backend.schema.records import ProviderChoice
from tests.providers.dialects import OllamaWords
from tests.providers.upstreams import Call, Upstream

NOWHERE = "http://127.0.0.1:9"


def settings(default: str = "auto", **tables: dict[str, object]) -> Settings:
    return Settings(providers=Providers(default, {"ollama": {"host": NOWHERE}, **tables}, []))


async def ollama(models: str = "llama3.3:70b", status: int = 200) -> Upstream:
    """Serve a listing with one model."""

    async def list_it(call: Call) -> None:
        listing = OllamaWords().side("/api/tags")
        assert isinstance(listing, dict)
        listing["models"][0]["name"] = models
        await call.reply(status, listing)

    return await Upstream(list_it).start()


async def test_auto_takes_ollama_when_it_answers_and_has_the_model(home: Home) -> None:
    server = await ollama()
    found = await choose(settings(ollama={"host": server.url}), home, {"ANTHROPIC_API_KEY": "k"})
    await server.stop()
    assert (found.provider, found.model, found.display) == ("ollama", "llama3.3:70b", "Llama3.3 70B")
    assert server.url in found.reason and "named in the configuration" in found.reason


async def test_auto_takes_any_chat_model_that_ollama_has_and_never_one_that_embeds(home: Home) -> None:
    server = await ollama("qwen3:8b")
    found = await choose(settings(ollama={"host": server.url}), home, {})
    await server.stop()
    assert (found.provider, found.model, found.stand_in) == ("ollama", "qwen3:8b", False)
    server = await ollama("nomic-embed-text:latest")
    found = await choose(settings(ollama={"host": server.url}), home, {})
    await server.stop()
    assert found.provider == "embedded" and found.stand_in
    assert "ollama pull qwen3:8b" in found.reason


async def test_a_key_for_a_paid_service_is_told_and_not_used_until_the_operator_says_so(home: Home) -> None:
    found = await choose(settings(), home, {"ANTHROPIC_API_KEY": "k"})
    assert found.provider == "embedded" and "`tekton models use anthropic`" in found.reason
    write_choice(home, ProviderChoice("anthropic", "claude-sonnet-5-5", "chosen by you"))
    assert (await choose(settings(), home, {})).provider == "anthropic", "chosen once, it is remembered"
    write_choice(home, None)
    assert (await choose(settings(), home, {})).provider == "embedded"


@pytest.mark.parametrize(
    "written", [b"", b"{", b"[]", b'{"provider": 7}', b'{"provider": "gone", "model": "x"}', b"\xff"]
)
async def test_a_choice_that_cannot_be_read_or_met_is_none(home: Home, written: bytes) -> None:
    home.model_choice.write_bytes(written)
    assert (await choose(settings(), home, {})).provider == "embedded"


async def test_auto_falls_to_the_embedded_model_and_says_why_nothing_else(home: Home) -> None:
    found = await choose(settings(), home, {})
    assert (found.provider, found.display, found.stand_in) == ("embedded", "SmolLM2 135M", True)
    assert found.reason == "Ollama not found"


async def test_auto_says_when_ollama_refuses_and_sends_the_user_of_its_address(home: Home) -> None:
    server = await ollama(status=401)
    host = server.url.replace("http://", "http://me:hunter2@")
    found = await choose(settings(ollama={"host": host}), home, {})
    await server.stop()
    assert f"Ollama at {server.url} answers 401" in found.reason and "hunter2" not in found.reason
    assert server.calls[0].headers["authorization"] == "Basic bWU6aHVudGVyMg=="


async def test_a_key_file_others_can_read_is_told_as_the_reason(home: Home) -> None:
    (home.root / "key").write_text("secret")
    (home.root / "key").chmod(0o644)
    found = await choose(settings(anthropic={"api_key_file": "key"}), home, {})
    assert found.provider == "embedded" and "chmod 600" in found.reason


@pytest.mark.parametrize("kind", ["ollama", "anthropic", "openai", "embedded", "scripted"])
async def test_a_provider_named_is_taken_whatever_its_state(home: Home, kind: str) -> None:
    found = await choose(settings(kind), home, {})
    assert (found.provider, found.reason) == (kind, "named in the configuration")
    assert found.model == default_model(kind, settings(kind))


async def models_server(listing: object, status: int = 200) -> Upstream:
    """Serve one answer to whatever is asked."""

    async def answer(call: Call) -> None:
        await call.reply(status, listing)

    return await Upstream(answer).start()


def looking_at(*addresses: str, **tables: dict[str, object]) -> Settings:
    return Settings(providers=Providers("auto", {"ollama": {"host": NOWHERE}, **tables}, list(addresses)))


async def test_a_local_server_is_taken_by_itself_and_not_given_the_key_for_openai(home: Home) -> None:
    listing = {"data": [{"id": "text-embedding-nomic"}, {"id": "qwen3-8b", "owned_by": "organization_owner"}]}
    server = await models_server(listing)
    own = looking_at(f"{server.url}/v1")
    found = await choose(own, home, {"OPENAI_API_KEY": "secret"})
    asked = settings_with(own, found)
    await server.stop()
    assert (found.provider, found.model) == ("openai", "qwen3-8b") and "LM Studio answers" in found.reason
    assert all("authorization" not in call.headers for call in server.calls)
    openai_table = asked.providers.tables["openai"]
    assert openai_table["base_url"] == f"{server.url}/v1" and openai_table["api_key_env"] != "OPENAI_API_KEY"


async def test_all_that_is_there_is_listed_the_best_first(home: Home) -> None:
    one = await models_server({"data": [{"id": "gemma3-12b", "owned_by": "llamacpp"}]})
    two = await models_server({"data": [{"id": "mistral", "owned_by": "vllm"}]})
    own = looking_at(f"{one.url}/v1", f"{two.url}/v1")
    found = (await look_around(own, home, {"ANTHROPIC_API_KEY": "k"})).candidates
    await one.stop()
    await two.stop()
    named = [(each.provider, each.model, each.usable, each.paid) for each in found]
    assert named == [
        ("openai", "gemma3-12b", True, False),
        ("openai", "mistral", True, False),
        ("embedded", "SmolLM2-135M-Instruct.Q4_1", True, False),
        ("anthropic", "claude-sonnet-5-5", True, True),
        ("ollama", "qwen3:8b", False, False),
    ]


ODD = [
    None,
    [],
    {},
    "x",
    7,
    {"models": 7, "data": 7},
    {"models": [7, {}, {"name": 7}], "data": [[], {"id": None}]},
    {"models": [{"name": "a\x1b[2Jb"}], "data": [{"id": "\x9b"}]},
]


@pytest.mark.parametrize("listing", ODD, ids=str)
@pytest.mark.parametrize("status", [200, 302, 404, 500])
async def test_a_server_that_answers_nonsense_is_not_taken(home: Home, listing: object, status: int) -> None:
    server = await models_server(listing, status)
    own = looking_at(f"{server.url}/v1", ollama={"host": server.url})
    found = await choose(own, home, {})
    await server.stop()
    assert found.provider == "embedded"


NO_CHAT = """
nomic-embed-text mxbai-embed-large:latest bge-m3 all-minilm:33m snowflake-arctic-embed2 jina/e5-base bge-reranker-v2 gte-qwen2
Qwen3-Embedding-8B qwen3-reranker:0.6b ms-marco-MiniLM-L6 stella_en_1.5B instructor-xl colqwen2 siglip-so400m whisper-large
faster-whisper-small tts-1 xtts_v2 speecht5_tts kokoro-82m kokoro bark-small parakeet-tdt-0.6b gpt-4o-transcribe gpt-4o-mini-tts
dall-e-3 gpt-image-1 stable-diffusion-xl sdxl-turbo flux.1-dev FLUX.1-schnell qwen-image sd3.5-large sora-2 wan2.2-t2v musicgen-small
text-moderation-latest omni-moderation-latest llama-guard3:8b shieldgemma:9b granite3-guardian:8b silero-vad
""".split()


@pytest.mark.parametrize("name", NO_CHAT)
async def test_models_that_do_not_chat_are_known_by_their_names(home: Home, name: str) -> None:
    server = await models_server({"data": [{"id": name}], "models": [{"name": name}]})
    found = await choose(looking_at(f"{server.url}/v1", ollama={"host": server.url}), home, {})
    await server.stop()
    assert found.provider == "embedded"


@pytest.mark.parametrize(
    "name",
    [
        "qwen3:8b", "llama3.3:70b", "gemma3-12b", "hf.co/unsloth/Qwen3-8B-GGUF:Q4_K_M", "mistral-small", "gpt-oss:20b", "phi4",
        "deepseek-r1:14b", "qwen2.5-vl:7b", "sdlc-coder", "bargain-7b", "imagine-chat", "stellaris-8b", "guardrails-chat:8b",
    ],
)  # fmt: skip
async def test_models_that_chat_are_taken_whatever_they_are_called(home: Home, name: str) -> None:
    server = await models_server({"data": [{"id": name}], "models": [{"name": name}]})
    found = await choose(looking_at(f"{server.url}/v1", ollama={"host": server.url}), home, {})
    await server.stop()
    assert found.model == name


async def test_a_model_that_nobody_chose_and_memory_does_not_hold_stands_behind_one_that_fits(
    home: Home,
) -> None:
    listing = {
        "models": [{"name": "llama3.3:70b", "size": 1 << 48}, {"name": "qwen3:8b", "size": 5_000_000_000}]
    }
    server = await models_server(listing)
    first = await choose(settings(ollama={"host": server.url}), home, {})
    named = await choose(settings(ollama={"host": server.url, "model": "qwen3:8b"}), home, {})
    await server.stop()
    assert (first.model, named.model) == ("qwen3:8b", "qwen3:8b")
    assert "more than this machine's memory" not in first.reason


async def test_five_thousand_models_are_read(home: Home) -> None:
    details = {
        "format": "gguf",
        "family": "x",
        "parameter_size": "8B",
        "quantization_level": "Q4",
        "families": ["x"],
    }
    rows = [{"name": f"model-{n}", "size": n, "digest": "a" * 64, "details": details} for n in range(5_000)]
    server = await models_server({"models": rows})
    found = await look_around(settings(ollama={"host": server.url}), home, {}, timeout_s=20.0)
    await server.stop()
    assert found.looked[0].said == "5000 chat models" and found.candidates[0].model == "model-4999"


async def test_an_address_that_was_written_down_is_asked_with_its_key_and_others_are_not(home: Home) -> None:
    async def locked(call: Call) -> None:
        right = call.headers.get("authorization") in ("Bearer own", "Bearer for-ollama")
        listing = {"data": [{"id": "mine"}], "models": [{"name": "mine:8b"}]}
        await call.reply(200 if right else 401, listing if right else {})

    server, other = await Upstream(locked).start(), await Upstream(locked).start()
    own = looking_at(f"{other.url}/v1", openai={"base_url": f"{server.url}/v1"})
    found = await look_around(own, home, {"OPENAI_API_KEY": "own"})
    assert [one.model for one in found.candidates if one.usable and not one.stand_in] == ["mine"]
    said = {one.where: one.said for one in found.looked}
    assert said[f"{other.url}/v1"] == "answers 401: it wants the key that TEKTON_LOCAL_API_KEY names"
    without = await look_around(own, home, {})
    assert any(one.said.endswith("the key that OPENAI_API_KEY names") for one in without.looked)
    behind = await look_around(settings(ollama={"host": server.url}), home, {"OLLAMA_API_KEY": "for-ollama"})
    await server.stop()
    await other.stop()
    assert behind.candidates[0].model == "mine:8b"


async def test_an_address_without_its_v1_is_told_where_the_server_is(home: Home) -> None:
    async def below(call: Call) -> None:
        found = call.path == "/v1/models"
        await call.reply(
            200, {"data": [{"id": "m"}]} if found else {"error": "Unexpected endpoint or method."}
        )

    server = await Upstream(below).start()
    found = await look_around(looking_at(openai={"base_url": server.url}), home, {})
    await server.stop()
    [why] = [one.why for one in found.candidates if one.provider == "openai"]
    assert f"{server.url}/v1 does" in why and "OPENAI_BASE_URL" in why


async def test_a_server_that_never_answers_costs_a_start_little(home: Home) -> None:
    async def never(call: Call) -> None:
        await asyncio.Event().wait()

    server = await Upstream(never).start()
    found = await asyncio.wait_for(
        choose(looking_at(f"{server.url}/v1", ollama={"host": server.url}), home, {}), 5
    )
    await server.stop()
    assert found.provider == "embedded"


async def test_lm_studio_says_which_models_chat_and_which_is_loaded(home: Home) -> None:
    rows = [{"id": "a", "owned_by": "organization_owner"}, {"id": "b"}, {"id": "vectors"}]
    facts = [{"id": "a", "type": "llm"}, {"id": "b", "type": "llm", "state": "loaded"}, {"id": "vectors", "type": "embeddings"}]  # fmt: skip

    async def answer(call: Call) -> None:
        await call.reply(200, {"data": facts if call.path == "/api/v0/models" else rows})

    server = await Upstream(answer).start()
    found = await look_around(looking_at(f"{server.url}/v1"), home, {})
    await server.stop()
    offered = [one.model for one in found.candidates if one.provider == "openai"]
    assert offered == ["b", "a"] and found.candidates[0].why.endswith("loaded now")
    place = next(one for one in found.looked if one.where.startswith("LM Studio"))
    assert (place.said, place.usable) == ("2 chat models, 1 that does not chat", 2)


async def test_every_place_that_was_looked_at_says_what_it_said(home: Home) -> None:
    server = await models_server({}, 401)
    own = looking_at(
        f"{server.url}/v1", "http://127.0.0.1:9/v1", openai={"base_url": "https://api.example.com/v1"}
    )
    found = await look_around(own, home, {"ANTHROPIC_API_KEY": "k"})
    await server.stop()
    said = {one.where: one.said for one in found.looked}
    assert said[f"Ollama at {NOWHERE}"] == "nobody listens there"
    assert said[f"{server.url}/v1"] == "answers 401: it wants the key that TEKTON_LOCAL_API_KEY names"
    assert said["http://127.0.0.1:9/v1"] == "nobody listens there"
    assert said["Anthropic, ANTHROPIC_API_KEY"] == "a key is set; nothing was sent"
    assert said["OpenAI, OPENAI_API_KEY"] == "no key is set"
    assert "embedded model" in said


async def test_a_server_that_drips_or_streams_without_end_is_left_within_the_deadline(home: Home) -> None:
    async def drip(call: Call) -> None:
        await call.begin("application/json")
        with contextlib.suppress(ConnectionError):
            while not call.gone.is_set():
                await call.send(b'{"data": [')
                await asyncio.sleep(0.01)

    server = await Upstream(drip).start()
    found = await asyncio.wait_for(look_around(looking_at(f"{server.url}/v1"), home, {}), 60)
    said = next(one.said for one in found.looked if one.where.startswith(server.url))
    assert "did not answer within" in said
    await asyncio.wait_for(server.calls[0].gone.wait(), 60)
    await server.stop()


async def test_a_gguf_that_is_missing_is_named_and_not_offered(home: Home) -> None:
    found = await look_around(looking_at(embedded={"gguf": "models/none.gguf"}), home, {})
    one = next(one for one in found.candidates if one.provider == "embedded")
    assert not one.usable and "none.gguf is missing" in one.why


def test_the_default_model_of_a_gguf_is_its_name() -> None:
    own: dict[str, object] = {"gguf": "/models/Qwen3-8B.Q4_K_M.gguf"}
    assert default_model("embedded", settings(embedded=own)) == "Qwen3-8B.Q4_K_M"
    assert default_model("openai", settings(openai={"model": "x"})) == "x"


@pytest.mark.parametrize(
    ("provider", "model", "shown"),
    [
        ("ollama", "llama3.3:70b", "Llama3.3 70B"),
        ("ollama", "qwen3:latest", "Qwen3"),
        ("ollama", "hf.co/someone/mistral:7b-q4", "Mistral 7B-Q4"),
        ("anthropic", "claude-sonnet-5-5", "Claude Sonnet 5.5"),
        ("anthropic", "claude-haiku-4-5-20251001", "Claude Haiku 4.5"),
        ("anthropic", "claude-opus-5", "Claude Opus 5"),
        ("openai", "gpt-5.1-mini", "GPT-5.1 mini"),
        ("openai", "meta-llama/Llama-3.3-70B", "Llama-3.3-70B"),
        ("scripted", "anything", "scripted"),
        ("embedded", "SmolLM2-135M-Instruct.Q4_1", "SmolLM2 135M"),
        ("ollama", "", ""),
    ],
)
def test_models_are_called_as_people_call_them(provider: str, model: str, shown: str) -> None:
    assert display_name(provider, model) == shown


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("example.com", "http://example.com:11434"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://models.example.com", "https://models.example.com"),
    ],
)
def test_ollama_host_is_read_as_ollama_itself_reads_it(home: Home, text: str, host: str) -> None:
    assert OLLAMA.own(config.load(home, {"OLLAMA_HOST": text})).address == host


def asking(model: str) -> CompletionRequest:
    return CompletionRequest("You are Apollo.", [ChatMessage("user", "Hi")], model)


async def test_a_retired_claude_name_is_refused_before_the_call_with_current_ones(home: Home) -> None:
    provider = create("anthropic", Settings(), home, {"ANTHROPIC_API_KEY": "k"})
    await provider.prepare()
    try:
        with pytest.raises(ModelNotFound) as caught:
            await anext(aiter(provider.stream(asking("claude-3-opus-20240229"))))
        healthy = await provider.health("claude-3-opus-20240229")
    finally:
        await provider.aclose()
    assert "was retired on 2026-01-05" in caught.value.message
    assert current_models()[0] in caught.value.message
    assert not healthy.ok and healthy.detail == caught.value.message


async def test_what_the_library_knows_of_names_fits_the_shipped_default(home: Home) -> None:
    provider = create("anthropic", Settings(), home, {"ANTHROPIC_API_KEY": "k"})
    await provider.prepare()
    await provider.aclose()
    assert AnthropicSettings().model in current_models()
    assert retirement(AnthropicSettings().model) == ""
    assert retirement("claude-2.1", date(2025, 7, 20)) == "ends on 2025-07-21: choose a newer model"


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
async def test_no_key_says_which_variable_to_set(home: Home, kind: str) -> None:
    provider = create(kind, Settings(), home, {})
    with pytest.raises(ProviderAuth, match=f"{kind.upper()}_API_KEY"):
        await provider.prepare()


async def test_a_key_file_outranks_the_environment_and_must_be_private(home: Home) -> None:
    path = home.root / "anthropic.key"
    path.write_text("from-the-file\n")
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    seen: list[Call] = []

    async def refuse(call: Call) -> None:
        seen.append(call)
        await call.reply(401, {"type": "error", "error": {"type": "authentication_error", "message": "no"}})

    server = await Upstream(refuse).start()
    own = settings(anthropic={"base_url": server.url, "api_key_file": str(Path(path.name))})
    provider = create("anthropic", own, home, {"ANTHROPIC_API_KEY": "from-the-environment"})
    await provider.prepare()
    with pytest.raises(ProviderAuth):
        await anext(aiter(provider.stream(asking("claude-sonnet-5-5"))))
    await provider.aclose()
    await server.stop()
    assert seen[0].headers["authorization"] == "Bearer from-the-file"
    path.chmod(0o640)
    with pytest.raises(ProviderAuth, match="chmod 600"):
        await create("anthropic", own, home, {}).prepare()
