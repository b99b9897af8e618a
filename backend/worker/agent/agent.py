"""The agent, as its turns see it: what breaks the circle between the two."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from backend.acp import messages as acp
from backend.acp.peer import RpcFailure
from backend.schema.agents import AgentSpec, FileChange
from backend.schema.errors import TektonError
from backend.worker.agent.conversations import Conversation
from backend.worker.spec import WorkerSpec


class Agent(Protocol):
    """The agent, as its turns see it."""

    spec: WorkerSpec
    agent_spec: AgentSpec
    takes: acp.PromptAbilities
    slots: asyncio.Semaphore

    @property
    def ai_id(self) -> str: ...

    @property
    def model(self) -> str: ...

    async def conversation(self, name: str) -> tuple[Conversation, str]: ...

    async def ask(self, prompt: acp.Prompt, answered: Callable[[], None]) -> acp.Prompted: ...

    async def set_effort(self, conversation: Conversation, effort: str) -> str: ...

    def is_command(self, text: str) -> bool: ...

    def send_cancel(self, conversation: Conversation) -> None: ...

    def forget(self, conversation: Conversation) -> None: ...

    def refusal(self, failure: RpcFailure) -> TektonError: ...

    def stall_after_s(self, in_tool: bool) -> float: ...

    def changed(self, files: list[FileChange]) -> None: ...
