"""States, clocks, sizes and rates as text: the same words on every screen. Pure functions."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

from backend.schema.records import SpecialistStatus
from backend.schema.results import LimitRow
from tekton_tui.clock import gateway_time
from tekton_tui.stores.live_turn import LiveTurn

SIGNS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥"}
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
_LOGGED = re.compile(
    r"(?P<day>\d{4}-(?P<month>0[1-9]|1[0-2])-\d\d) (?P<clock>\d\d:\d\d:\d\d)(?:,\d+)?(?= )", re.ASCII
).match
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
TICKING = ("busy", "starting", "stopping")
"""States whose words count seconds."""
AGING = ("exited", "killed")
"""States whose words count minutes."""
SIGNALS = {1: "HUP", 2: "INT", 3: "QUIT", 6: "ABRT", 9: "KILL", 11: "SEGV", 15: "TERM"}
_BARS = "▁▂▃▄▅▆▇█"


def symbol_of(row: SpecialistStatus) -> str:
    """Return the symbol of a row's state; one that waits for the operator has its own."""
    return "◆" if row.state == "busy" and row.phase == "waiting" else SYMBOLS[row.state]


def tone_of_state(row: SpecialistStatus) -> str:
    """Return the theme variable of a row's state; a stalled turn warns."""
    if row.state == "busy":
        return {"stalled": "text-warning", "waiting": "text-secondary"}.get(row.phase or "", TONES["busy"])
    return TONES[row.state]


def span(seconds: float) -> str:
    """Format a duration: `3.2 s`, `48 s`, `14 m`, `3 h`, `2 d`."""
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
    """Format how long ago a moment is, by the minute, so that an idle screen does not change."""
    if not moment:
        return "–"
    seconds = (gateway_time() if now is None else now) - moment
    return "now" if seconds < 60 else span(seconds)


def log_words(line: str) -> str:
    """Return a line of a process's log with its time as a clock; the day is said where it is not today."""
    if (found := _LOGGED(line)) is None:
        return line
    today = time.strftime("%Y-%m-%d", time.localtime(gateway_time()))
    day, clock = found["day"], found["clock"]
    month = _MONTHS[int(found["month"]) - 1]
    return f"{'' if day == today else f'{day[8:]} {month} '}{clock}{line[found.end() :]}"


def size(count: float) -> str:
    """Format a number of bytes: `41M`, `1.2G`."""
    if count >= 1 << 30:
        return f"{count / (1 << 30):.1f}G"
    if count >= 1 << 20:
        return f"{count / (1 << 20):.0f}M"
    return f"{count / 1024:.0f}K" if count >= 1024 else f"{count:.0f}B"


def number(count: int) -> str:
    """Format a count: `980`, `4.2k`, `1.3M`."""
    if count < 1000:
        return str(count)
    return f"{count / 1000:.1f}k" if count < 1_000_000 else f"{count / 1_000_000:.1f}M"


def budget_words(limit: LimitRow) -> str:
    """Return how much of a budget is used today."""
    words = f"{'all' if limit.id == '*' else 'its'} budget {limit.used(number, 'tok')}"
    return f"{words}; {limit.uncounted}" if limit.uncounted else words


def rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def milliseconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.1f} s"


def spark(samples: Iterable[float]) -> str:
    """Draw samples as bars; the highest one fills the line."""
    values = list(samples)
    top = max(values, default=0.0)
    if top <= 0:
        return ""
    # 7.99: the largest value has the last bar and no index beyond it
    return "".join(_BARS[min(7, int(value / top * 7.99))] for value in values)


def state_words(row: SpecialistStatus, now: float | None = None) -> str:
    """Return a specialist's state with its phase and clock, or how its run ended."""
    now = gateway_time() if now is None else now
    if row.state == "busy":
        return phase_words(row.phase or "busy", row.phase_since, row.detail, now)
    if row.state == "ready" and row.agent is not None and row.agent.state == "login":
        return "needs login"
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


PHASES = {"waiting": "asks you"}
"""What a phase is called on the screen, where that is not its name."""


def phase_words(phase: str, since: float, detail: str = "", now: float | None = None) -> str:
    clock = span((gateway_time() if now is None else now) - since) if since else ""
    words = f"{PHASES.get(phase, phase)} {clock}".strip()
    return f"{words} · {detail}" if detail and phase != "streaming" else words


def turn_words(turn: LiveTurn) -> str:
    """Return the phase of a running turn with its clock."""
    detail = turn.detail or (f"{turn.position} in line" if turn.position else "")
    return phase_words(turn.phase, turn.phase_since, detail)


CONSOLE_PREFIX = "tui-"
"""With what the request ids of questions begin that were asked in a console."""

ENDING_WORDS = {
    "length": "cut at its token limit",
    "content_filter": "cut by the content filter",
    "refusal": "declined",
    "tool_calls": "asked for a tool it was not given",
    "other": "may be cut",
}
"""How an answer ended that is not whole."""


def turn_facts(tokens: int, speed: float | None, first_token_ms: float | None) -> tuple[str, ...]:
    """Return the figures of an answer, the most important first."""
    facts = [f"{number(tokens)} tok"] if tokens else []
    if speed is not None:
        facts.append(f"{rate(speed)} tok/s")
    if first_token_ms is not None:
        facts.append(f"first {milliseconds(first_token_ms)}")
    return tuple(facts)


def token_words(count: int, *, estimated: bool) -> str:
    """Return a number of tokens, with a word where nobody counted them; empty for none."""
    return f"{'about ' if estimated else ''}{number(count)} tok" if count else ""


def stopped_words(request_id: str, tokens: str, seconds: float) -> str:
    """Return the one wording of an answer that was stopped; only a console's own question is stopped by its operator."""
    # a program's question may be stopped by the program
    by = "stopped by you" if request_id.startswith(CONSOLE_PREFIX) else "stopped"
    return " · ".join(filter(None, (by, tokens, span(seconds) if seconds else "")))


def why_ended(row: SpecialistStatus) -> str:
    """Return in full how a specialist's last run ended, or its last error while it runs."""
    if row.state in ("ready", "busy", "starting"):
        return row.last_error
    return row.cause or row.last_error


def money(amount: float, currency: str, digits: int = 3) -> str:
    """Return a small sum as a cell shows it: `$0.118`, `€1.20`, `0.12 SEK`."""
    # an answer costs a fraction of a cent: below one, three digits; a hundred needs none
    figure = f"{amount:.{digits}f}" if amount < 1 else f"{amount:.2f}" if amount < 100 else f"{amount:.0f}"
    return f"{SIGNS[currency]}{figure}" if currency in SIGNS else f"{figure} {currency}"


def spent(costs: Mapping[str, float]) -> str:
    """Return what was spent, the largest figure first: `$1.50, €0.250`; empty for nothing."""
    sums = sorted(((cost, currency) for currency, cost in costs.items() if cost), reverse=True)
    return ", ".join(money(cost, currency) for cost, currency in sums)


def as_json(value: Struct) -> str:
    """Return a value of the wire as JSON with an indent."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
