"""External coding agents finish a turn with a command run, against a specialist, offline; `make test-clients`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.running import Programs

pytestmark = pytest.mark.clients
MARK = "tekton-was-here"
MODEL = "apollo:raw"


def _ask(tool: str, argument: str, **more: str) -> str:
    """Return a prompt at which the scripted model runs a command by a tool of the client."""
    return f"[[call {tool} {json.dumps({argument: f'echo {MARK}', **more})}]] run it"


def _folder(programs: Programs, name: str) -> Path:
    folder = programs.root / name
    folder.mkdir()
    return folder


def test_codex_runs_a_command_and_answers(programs: Programs) -> None:
    folder = _folder(programs, "codex")
    config = f"""
model = "{MODEL}"
model_provider = "tekton"
model_context_window = 32768
[model_providers.tekton]
name = "Tekton"
base_url = "{programs.url}/v1"
env_key = "TEKTON_TOKEN"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""
    (folder / "config.toml").write_text(config)
    bypass = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
    command = [programs.npm("codex"), "exec", *bypass, "--json", _ask("exec_command", "cmd")]
    output = programs.run(command, folder=folder, CODEX_HOME=str(folder), TEKTON_TOKEN=programs.token)
    events: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    items = [event["item"] for event in events if event["type"] == "item.completed"]
    [ran] = [item for item in items if item["type"] == "command_execution"]
    [said] = [item for item in items if item["type"] == "agent_message"]
    assert ran["aggregated_output"].strip() == MARK and ran["exit_code"] == 0
    assert MARK in said["text"] and events[-1]["type"] == "turn.completed"


def test_claude_code_runs_a_command_and_answers(programs: Programs) -> None:
    folder = _folder(programs, "claude")
    options = ["--output-format", "json", "--allowedTools", "Bash(echo:*)"]
    output = programs.run(
        [programs.npm("claude"), "-p", _ask("Bash", "command", description="say it"), *options],
        folder=folder,
        ANTHROPIC_BASE_URL=programs.url,
        ANTHROPIC_AUTH_TOKEN=programs.token,
        ANTHROPIC_MODEL=MODEL,
        ANTHROPIC_DEFAULT_HAIKU_MODEL=MODEL,
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        CLAUDE_CODE_MAX_CONTEXT_TOKENS="32768",
        CLAUDE_CODE_MAX_OUTPUT_TOKENS="4096",
    )
    done = json.loads(output.strip().splitlines()[-1])
    assert (done["is_error"], done["num_turns"]) == (False, 2), done
    assert MARK in done["result"]


def test_opencode_runs_a_command_and_answers(programs: Programs) -> None:
    folder = _folder(programs, "opencode")
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{programs.url}/v1", "apiKey": "{env:TEKTON_TOKEN}"},
        "models": {MODEL: {"name": "Apollo", "tool_call": True}},
    }
    config = {
        "provider": {"tekton": provider},
        "enabled_providers": ["tekton"],
        "small_model": f"tekton/{MODEL}",
        "autoupdate": False,
        "share": "disabled",
        "permission": {"bash": "allow"},
    }
    (folder / "opencode.json").write_text(json.dumps(config))
    homes = {f"XDG_{kind}_HOME": str(folder) for kind in ("CONFIG", "DATA", "CACHE", "STATE")}
    output = programs.run(
        [programs.npm("opencode"), "run", "--model", f"tekton/{MODEL}", "--format", "json"],
        stdin=_ask("bash", "command", description="say it"),  # behind the command it would be quoted
        folder=folder,
        TEKTON_TOKEN=programs.token,
        OPENCODE_DISABLE_MODELS_FETCH="1",
        OPENCODE_DISABLE_AUTOUPDATE="1",
        **homes,
    )
    events: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    [ran] = [event["part"] for event in events if event["type"] == "tool_use"]
    assert ran["tool"] == "bash" and ran["state"]["output"].strip() == MARK
    assert any(MARK in event["part"]["text"] for event in events if event["type"] == "text")
