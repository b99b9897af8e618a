"""Agent libraries of others finish turns with tools and structure against a specialist, offline; `make test-clients`."""

from __future__ import annotations

import json

import pytest

from tests.clients.running import Programs

pytestmark = pytest.mark.clients
TOLD = "The tool said: 21 degrees"
WEATHER = {"city": "Bern", "degrees": 7}


def test_openai_agents_sdk_uses_tools_and_hands_off_over_both_apis(programs: Programs) -> None:
    said = programs.python("agents_sdk.py")
    assert said.pop("asked") == ["Zürich"] * 4
    for name in ("responses", "chat"):
        assert said[name] == said[f"{name} streamed"] == TOLD
        last, words = said[f"{name} handoff"]
        assert last == "helper" and "helper" in words


def test_pydantic_ai_uses_tools_and_output_types_over_three_dialects(programs: Programs) -> None:
    said = programs.python("pydantic_agents.py")
    assert said.pop("asked") == ["Zürich"] * 3
    for name in ("chat", "responses", "anthropic"):
        assert said[name] == TOLD
        assert said[f"{name} output"] == {"city": "Zürich", "degrees": 21}


def test_langchain_binds_tools_and_structures_output_over_three_dialects(programs: Programs) -> None:
    said = programs.python("langchain_models.py")
    for name in ("chat", "responses", "anthropic"):
        assert said[name] == f"{TOLD} in Zürich" and said[f"{name} streamed"] == "one two three"
    methods = (
        "chat json_schema",
        "chat function_calling",
        "responses json_schema",
        "anthropic function_calling",
    )
    assert [said[name] for name in methods] == [WEATHER] * 4


def test_litellm_calls_tools_streams_and_responds(programs: Programs) -> None:
    said = programs.python("litellm_calls.py")
    for name in ("openai", "anthropic"):
        assert said[name] == [{"city": "Zürich"}, TOLD] and said[f"{name} streamed"] == "one two"
    assert said["responses"] == "hello"


def test_llm_asks_with_a_schema_and_with_tools(programs: Programs) -> None:
    folder = programs.root / "llm"
    folder.mkdir()
    model = (
        f"- model_id: apollo\n  model_name: apollo\n  api_base: {programs.url}/v1\n  api_key_name: tekton\n"
        "  supports_schema: true\n  supports_tools: true\n"
    )
    (folder / "extra-openai-models.yaml").write_text(model)
    (folder / "keys.json").write_text(json.dumps({"tekton": programs.token}))

    def llm(*arguments: str) -> str:
        command = [str(programs.installed / "python/bin/llm"), "-m", "apollo", *arguments]
        return programs.run(command, LLM_USER_PATH=str(folder)).strip()

    assert llm("[[say hello there]]") == "hello there"
    held = llm("--schema", "city str, degrees int", f"[[say {json.dumps(WEATHER)}]]")
    assert json.loads(held) == WEATHER
    tool = "def get_weather(city: str) -> str:\n    return '21 degrees in ' + city"
    assert llm("--functions", tool, '[[call get_weather {"city": "Bern"}]] how is it?') == f"{TOLD} in Bern"


def test_the_ai_sdk_uses_tools_streams_and_makes_objects_over_three_dialects(programs: Programs) -> None:
    said = programs.node("ai_sdk.mjs")
    assert said.pop("asked") == ["Zürich"] * 6
    for name in ("chat", "responses", "anthropic"):
        assert said[name] == said[f"{name} streamed"] == TOLD
        assert said[f"{name} object"] == WEATHER
