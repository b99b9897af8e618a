"""External agents that are known to speak the protocol: their commands, what they need, and a file of a specialist for one.

What is not known here can be a specialist all the same, by its command.
"""

from __future__ import annotations

import json
from pathlib import Path

from msgspec import Struct

MIB = 1024 * 1024
UNKNOWN_BYTES = 100 * MIB
"""What an agent is taken to need of which nothing is known."""


class KnownAgent(Struct, frozen=True):
    """An agent that is known to speak the protocol. `memory` in bytes, measured with one conversation.

    `env` are the variables that it takes its key from, one of which is enough; `mode` is the one in which it asks first.
    """

    name: str
    title: str
    command: list[str]
    install: str
    login: str
    env: list[str]
    memory: int
    mode: str = ""
    needs: str = ""


KNOWN = (
    KnownAgent(
        "opencode", "opencode", ["opencode", "acp"], "npm install -g opencode-ai", "opencode auth login",
        [], 670 * MIB,
    ),
    KnownAgent(
        "claude", "Claude Code", ["claude-agent-acp"], "npm install -g @agentclientprotocol/claude-agent-acp",
        "claude /login", ["ANTHROPIC_API_KEY"], 310 * MIB, "default", "Node 22 or newer",
    ),
    KnownAgent(
        "codex", "Codex", ["codex-acp"], "npm install -g @agentclientprotocol/codex-acp", "codex login",
        ["OPENAI_API_KEY", "CODEX_API_KEY"], 250 * MIB,
    ),
    KnownAgent(
        "qwen", "Qwen Code", ["qwen", "--acp"], "npm install -g @qwen-code/qwen-code", "qwen, then /auth",
        ["OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"], 900 * MIB, "default", "Node 22 or newer",
    ),
    KnownAgent(
        "gemini", "Gemini CLI", ["gemini", "--experimental-acp"], "npm install -g @google/gemini-cli", "gemini",
        ["GEMINI_API_KEY"], 400 * MIB, "default",
    ),
    KnownAgent("goose", "goose", ["goose", "acp"], "see its own page", "goose configure", [], UNKNOWN_BYTES),
)  # fmt: skip


def agent_bytes(command: list[str]) -> int:
    """Return about how much memory an agent needs."""
    program = Path(command[0]).name if command else ""
    return next((agent.memory for agent in KNOWN if agent.command[0] == program), UNKNOWN_BYTES)


def template(
    command: list[str],
    *,
    title: str = "",
    cwd: str = "",
    env: list[str] | None = None,
    mode: str = "",
    model: str = "",
    worktree: bool = False,
) -> str:
    """Return the text of a file `specialists/NAME.toml` for an agent."""
    values: dict[str, object] = {
        "title": title,
        "transport": "acp",
        "command": command,
        "cwd": cwd,
        "env": env,
        "mode": mode,
        "model": model,
        "worktree": worktree,
    }
    # JSON's texts, lists and booleans are TOML's as well
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items() if value)
