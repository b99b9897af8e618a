"""External agents as specialists: how one is started, and what is known of one that runs.

An agent is a program that speaks the Agent Client Protocol (ACP) over its standard input and output.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

MAX_DIFF = 64 * 1024
"""Characters of a diff that are shown and stored; what is left out is said."""


class AgentSpec(Struct, omit_defaults=True):
    """How a worker starts its agent. `env` are names of variables it may see, `cwd` an absolute folder.

    `mode` and `options` are set after every session that is opened; `login` is the way to log in that is used without
    asking, by its id. `offers` is what of this machine the agent may ask us for: `read`, `write`, `terminal`.
    """

    command: list[str]
    cwd: str
    env: list[str] = []
    mode: str = ""
    model: str = ""
    options: dict[str, str | bool] = {}
    login: str = ""
    offers: list[Literal["read", "write", "terminal"]] = []
    tool_stall_s: float = 120.0


class AgentChoice(Struct, omit_defaults=True):
    """Something that can be chosen: a mode, a model, a value of an option."""

    id: str
    name: str = ""
    about: str = ""


class AgentOption(Struct, omit_defaults=True):
    """What can be set in the agent's sessions, with the value it has."""

    id: str
    name: str
    value: str | bool
    choices: list[AgentChoice] = []
    category: str = ""


class PlanStep(Struct, omit_defaults=True):
    """A step of the agent's plan: `status` is pending, in_progress or completed."""

    text: str
    status: str = "pending"


class FileChange(Struct, omit_defaults=True):
    """What an agent has changed in a file, in lines, as it says itself."""

    path: str
    added: int = 0
    removed: int = 0


class AgentState(Struct, omit_defaults=True):
    """What is known of an agent that runs. `state`: `login` means that somebody has to log in, as `login` says.

    Figures of the conversation it answered last: `plan`, `changes`, `commands`, `mode`, `model`, `options`, `title`.
    """

    state: Literal["starting", "login", "ready"] = "starting"
    name: str = ""
    version: str = ""
    cwd: str = ""
    login: list[str] = []
    remembers: bool = False
    """Whether it can go on with a conversation after it was started anew."""
    title: str = ""
    mode: str = ""
    modes: list[AgentChoice] = []
    model: str = ""
    models: list[AgentChoice] = []
    options: list[AgentOption] = []
    commands: list[AgentChoice] = []
    plan: list[PlanStep] = []
    changes: list[FileChange] = []
    sessions: int = 0
    context_used: int = 0
    context_window: int = 0
    cost: float | None = None
    currency: str = "USD"

    @property
    def settable(self) -> list[AgentOption]:
        """All that can be set: the mode and the model, then what else the agent names."""
        first = [
            AgentOption(name, name.capitalize(), value, known, name)
            for name, value, known in (("mode", self.mode, self.modes), ("model", self.model, self.models))
            if known
        ]
        return first + [one for one in self.options if one.category not in ("mode", "model")]

    @property
    def plan_done(self) -> int:
        """How many steps of the plan are done."""
        return sum(step.status == "completed" for step in self.plan)
