"""What a worker is told when it starts and what it says when it serves. Values only."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from backend.schema.errors import ErrorCode
from backend.tls import is_loopback

WORKER_MODULE = "backend.specialists.worker"


class WorkerSpec(Struct, omit_defaults=True):
    """One specialist: written as one JSON document on its worker's stdin.

    `settings` is the platform's `Settings` as JSON, decoded only when a provider is made, so that starting stays
    cheap. `token` must come first on connections from other hosts and with every `configure`. With `tls_cert` and
    `tls_key`, files on the host it runs on, connections are by TLS.
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
    slot: int = 0
    host: str = "127.0.0.1"
    port: int = 0
    token: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    settings: msgspec.Raw = msgspec.Raw(b"{}")

    @property
    def off_loopback(self) -> bool:
        return not is_loopback(self.host)


class Ready(Struct, tag="ready"):
    """First line of a worker on its pipe: it serves."""

    pid: int
    port: int


class Warm(Struct, tag="warm", omit_defaults=True):
    """Second line: the provider is ready, or `problem` says why it is not. Nothing comes after it."""

    problem: str = ""
    code: ErrorCode | None = None


StartLine = Ready | Warm
decode_start_line = msgspec.json.Decoder(StartLine).decode
