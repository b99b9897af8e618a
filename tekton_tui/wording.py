"""How facts are said on the screen: states, clocks, sizes, rates. Pure; the same words everywhere."""

from __future__ import annotations

import time
from collections.abc import Iterable

from backend.schema.records import SpecialistStatus
from tekton_tui.stores.turns import LiveTurn

SYMBOLS = {
    "stopped": "○",
    "starting": "◌",
    "ready": "●",
    "busy": "◐",
    "stopping": "◌",
    "exited": "✖",
    "killed": "✖",
    "lost": "?",
    "foreign-port": "⊘",
}
TONES = {
    "stopped": "text-muted",
    "starting": "text-warning",
    "ready": "text-success",
    "busy": "text-primary",
    "stopping": "text-warning",
    "exited": "text-error",
    "killed": "text-error",
    "lost": "text-error",
    "foreign-port": "text-error",
}
"""Theme variable of each state's colour; the symbol and the word always stand beside it."""
LIVE_STATES = ("ready", "busy", "starting", "stopping")
TICKING = ("busy", "starting", "stopping")
"""States whose words count seconds."""
AGING = ("exited", "killed")
"""States whose words count minutes."""
SIGNALS = {1: "HUP", 2: "INT", 3: "QUIT", 6: "ABRT", 9: "KILL", 11: "SEGV", 15: "TERM"}
_BARS = "▁▂▃▄▅▆▇█"


def tone_of_state(row: SpecialistStatus) -> str:
    """Return the theme variable of a row's state; a stalled turn warns."""
    return "text-warning" if row.phase == "stalled" and row.state == "busy" else TONES[row.state]


def span(seconds: float) -> str:
    """Say a running clock: `3.2 s`, `48 s`, `14 m`, `3 h`, `2 d`."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} m"
    if seconds < 86_400:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86_400:.0f} d"


def age(moment: float, now: float | None = None) -> str:
    """Say how long ago, by the minute, so that an idle screen stands still."""
    if not moment:
        return "–"
    seconds = (time.time() if now is None else now) - moment
    return "now" if seconds < 60 else span(seconds)


def size(count: float) -> str:
    """Say bytes shortly: `41M`, `1.2G`."""
    if count >= 1 << 30:
        return f"{count / (1 << 30):.1f}G"
    if count >= 1 << 20:
        return f"{count / (1 << 20):.0f}M"
    return f"{count / 1024:.0f}K" if count >= 1024 else f"{count:.0f}B"


def number(count: int) -> str:
    """Say a count shortly: `980`, `4.2k`, `1.3M`."""
    if count < 1000:
        return str(count)
    return f"{count / 1000:.1f}k" if count < 1_000_000 else f"{count / 1_000_000:.1f}M"


def rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def milliseconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.1f} s"


def spark(samples: Iterable[float]) -> str:
    """Draw samples as bars, the highest filling the line."""
    values = list(samples)
    top = max(values, default=0.0)
    if top <= 0:
        return ""
    return "".join(_BARS[min(7, int(value / top * 7.99))] for value in values)


def state_words(row: SpecialistStatus, now: float | None = None) -> str:
    """Say a specialist's state with its phase and clock, or how it ended."""
    now = time.time() if now is None else now
    if row.state == "busy":
        return phase_words(row.phase or "busy", row.phase_since, row.detail, now)
    if row.state == "ready" and row.warming:
        return "ready · warming"
    if row.state == "ready" and row.detail:
        return f"ready · {row.detail}"
    if row.state in ("starting", "stopping"):
        waits = f", waiting for port {row.port}" if row.state == "starting" and row.port else ""
        return f"{row.state} {span(now - row.since)}{waits}"
    if row.state == "exited":
        code = "?" if row.exit_code is None else row.exit_code
        return f"exited {code} · {age(row.since, now)}"
    if row.state == "killed":
        name = SIGNALS.get(row.signal or 0, str(row.signal or "?"))
        return f"killed · {name} · {age(row.since, now)}"
    if row.state == "foreign-port":
        return f"port {row.port} taken"
    return row.state


def phase_words(phase: str, since: float, detail: str = "", now: float | None = None) -> str:
    clock = span((time.time() if now is None else now) - since) if since else ""
    words = f"{phase} {clock}".strip()
    return f"{words} · {detail}" if detail and phase in ("queued", "prefill", "stalled") else words


def turn_words(turn: LiveTurn) -> str:
    """Say what a turn under way does now."""
    detail = turn.detail or (f"{turn.position} in line" if turn.position else "")
    return phase_words(turn.phase, turn.phase_since, detail)


def turn_footer(turn: LiveTurn) -> str:
    """Say the facts of a turn that ended."""
    parts: list[str] = []
    if turn.tokens:
        parts.append(f"{turn.tokens} tok")
    if (speed := turn.rate()) is not None:
        parts.append(f"{rate(speed)} tok/s")
    if turn.first_token_ms is not None:
        parts.append(f"first {milliseconds(turn.first_token_ms)}")
    if turn.finish_reason == "length":
        parts.append("cut at its token limit")
    parts += turn.notes
    return " · ".join(parts)


def why_ended(row: SpecialistStatus) -> str:
    """Say how a specialist's last run ended, in full."""
    if row.state in ("ready", "busy", "starting"):
        return row.last_error
    return row.cause or row.last_error
