"""What a worker gets when it starts, and what it writes to its ready pipe. Values only."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from backend.schema.agents import AgentSpec
from backend.schema.content import Effort
from backend.schema.errors import ErrorCode
from backend.schema.tools import ToolsSpec
from backend.tls import is_loopback

WORKER_MODULE = "backend.worker"
"""The module that a worker process runs (`python -m`)."""


class WorkerSpec(Struct, omit_defaults=True):
    """One specialist: written as one JSON document on its worker's stdin.

    `settings` is the platform's `Settings` as JSON, decoded only when a provider is made, which keeps the start
    cheap. `sockets` is `fleet.sockets`, and `budgeted` says whether a budget limits it. `token` must come in the first
    line of connections beyond loopback and with every `configure`. `tls_cert` and `tls_key` are PEM files on the host it
    runs on; beyond loopback they turn TLS on.
    """

    ai_id: str
    component: str
    title: str
    persona: str
    provider: str
    model: str
    home: str
    description: str = ""
    capabilities: list[str] = []
    temperature: float | None = None
    temperature_by_role: bool = False
    max_tokens: int | None = None
    stall_after_s: float | None = None
    effort: Effort | None = None
    slot: int = 0
    host: str = "127.0.0.1"
    port: int = 0
    token: str = ""
    sockets: str = "same-user"
    budgeted: bool = False
    tls_cert: str = ""
    tls_key: str = ""
    agent: AgentSpec | None = None
    """The external agent that answers; then `provider` is `acp`."""
    tools: ToolsSpec = msgspec.field(default_factory=ToolsSpec)
    settings: msgspec.Raw = msgspec.Raw(b"{}")

    @property
    def off_loopback(self) -> bool:
        """Whether other hosts can reach it."""
        return not is_loopback(self.host)


class Ready(Struct, tag="ready"):
    """First line on the ready pipe: the worker serves."""

    pid: int
    port: int


class Warm(Struct, tag="warm", omit_defaults=True):
    """Second and last line: the provider is prepared, or `problem` says why it cannot be."""

    problem: str = ""
    code: ErrorCode | None = None


StartLine = Ready | Warm
decode_start_line = msgspec.json.Decoder(StartLine).decode
