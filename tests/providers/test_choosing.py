"""Which provider and model are used, how they are called, and what a name that is none leads to."""

from __future__ import annotations

import stat
from datetime import date
from pathlib import Path

import pytest
from dialects import OllamaWords
from upstreams import Call, Upstream

from backend import config
from backend.config import (
    AnthropicSettings,
    EmbeddedSettings,
    OllamaSettings,
    OpenAISettings,
    Providers,
    Settings,
)
from backend.home import Home
from backend.providers import choose, create, display_name
from backend.providers.anthropic_models import current_models, retirement
from backend.providers.base import CompletionRequest, ModelNotFound, ProviderAuth
from backend.providers.select import default_model
from backend.schema.frames import ChatMessage

NOWHERE = "http://127.0.0.1:9"


def settings(default: str = "auto", **own: object) -> Settings:
    own.setdefault("ollama", OllamaSettings(host=NOWHERE))
    return Settings(providers=Providers(default=default, **own))  # type: ignore[arg-type]


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
    found = await choose(settings(ollama=OllamaSettings(host=server.url)), home, {"ANTHROPIC_API_KEY": "k"})
    await server.stop()
    assert (found.provider, found.model, found.display) == ("ollama", "llama3.3:70b", "Llama3.3 70B")
    assert server.url in found.reason and "has the model" in found.reason


async def test_auto_without_the_model_says_how_to_get_it_and_takes_anthropic_with_a_key(home: Home) -> None:
    server = await ollama("tiny:1b")
    found = await choose(settings(ollama=OllamaSettings(host=server.url)), home, {"ANTHROPIC_API_KEY": "k"})
    await server.stop()
    assert found.provider == "anthropic"
    assert "ollama pull llama3.3:70b" in found.reason and "key is set" in found.reason


async def test_auto_falls_to_the_embedded_model_and_says_why_nothing_else(home: Home) -> None:
    found = await choose(settings(), home, {})
    assert (found.provider, found.display) == ("embedded", "SmolLM2 135M")
    assert found.reason == "Ollama not found; no Anthropic key"


async def test_auto_says_when_ollama_refuses_and_sends_the_user_of_its_address(home: Home) -> None:
    server = await ollama(status=401)
    host = server.url.replace("http://", "http://me:hunter2@")
    found = await choose(settings(ollama=OllamaSettings(host=host)), home, {})
    await server.stop()
    assert f"Ollama at {server.url} answers 401" in found.reason and "hunter2" not in found.reason
    assert server.calls[0].headers["authorization"] == "Basic bWU6aHVudGVyMg=="


async def test_a_key_file_others_can_read_is_told_as_the_reason(home: Home) -> None:
    (home.root / "key").write_text("secret")
    (home.root / "key").chmod(0o644)
    found = await choose(settings(anthropic=AnthropicSettings(api_key_file="key")), home, {})
    assert found.provider == "embedded" and "chmod 600" in found.reason


@pytest.mark.parametrize("kind", ["ollama", "anthropic", "openai", "embedded", "scripted"])
async def test_a_provider_named_is_taken_whatever_its_state(home: Home, kind: str) -> None:
    found = await choose(settings(kind), home, {})
    assert (found.provider, found.reason) == (kind, "named in the configuration")
    assert found.model == default_model(kind, settings(kind))


def test_the_default_model_of_a_gguf_is_its_name() -> None:
    own = EmbeddedSettings(gguf="/models/Qwen3-8B.Q4_K_M.gguf")
    assert default_model("embedded", settings(embedded=own)) == "Qwen3-8B.Q4_K_M"
    assert default_model("openai", settings(openai=OpenAISettings(model="x"))) == "x"


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
    assert config.load(home, {"OLLAMA_HOST": text}).providers.ollama.host == host


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
    own = Settings(
        providers=Providers(
            anthropic=AnthropicSettings(base_url=server.url, api_key_file=str(Path(path.name)))
        )
    )
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
