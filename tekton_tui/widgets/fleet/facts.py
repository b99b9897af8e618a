"""What the detail pane says of one specialist, as lines of coloured text. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import NamedTuple

from backend.schema.records import ErrorRecord, SpecialistStatus, StoredMessage
from backend.schema.results import LimitRow
from backend.schema.states import BROKEN, LIVE, RUNNING
from tekton_tui.formatting import age, budget_words, milliseconds, number, rate, size, span, spent
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import FleetStore, LiveTurn
from tekton_tui.widgets.fleet.columns import how_it_ended, short_state, tone_of
from tekton_tui.widgets.fleet.drawing import Part, area, fitted, gauge, share_tone, step_up, width_of

PLOT_CELLS = 42
ROOMY = 12
"""From more rows than this on, the last exchange stands below the facts."""
SECONDS_A_CELL = 2
"""Of a plot, which moves by one cell at once: half as much is drawn as at a second a cell."""
PAGE_FROM, PAGE_ROWS = 140, 18
"""From this size on a specialist's facts, words, process and log stand side by side."""
MOST_TEXT = 104
"""Cells of text beside these: longer rows are hard to read."""
PLOT_ROWS, MOST_ENDS = 9, 5
PLOT_FROM = 100
"""From this width on there is a plot beside the facts."""

_marks = re.compile(r"\*\*|__|`+|^\s*#+\s+", re.MULTILINE).sub

Row = list[Part]


class Known(NamedTuple):
    """What is known of a specialist: its row, its turns under way, messages, log, failures, budgets; and the moment.

    `read` says of "Log", "Exchange" and "Process" whether they could be read; what is being read is not in it.
    """

    row: SpecialistStatus
    fleet: FleetStore
    turns: Sequence[LiveTurn]
    messages: Sequence[StoredMessage]
    log: Sequence[str]
    ends: Sequence[ErrorRecord]
    limits: Sequence[LimitRow]
    read: Mapping[str, bool]
    now: float

    def none(self, what: str, words: str) -> list[Part]:
        """Return what stands where there is nothing: that there is none is only said once it was looked for."""
        if self.read.get(what, True):
            return [Part(words if what in self.read else "", "muted")]
        return [Part("could not be read", "bad")]


def overview(known: Known, width: int, height: int) -> list[Row]:
    """Return what matters of a specialist now, the most urgent first, in `height` rows."""
    row, fleet, turns, messages, log, _ends, limits, _read, now = known
    beside = width >= PLOT_FROM and row.state in RUNNING
    left = width - PLOT_CELLS - 2 if beside else width
    died = row.state in BROKEN and bool(log)
    asked = [] if died else _asked(row, turns, messages, left)
    top = [*_urgent(row, fleet, now), *asked, *_agent(row, left)]
    bottom = [_identity(row, now), _spent(row)] if row.state in RUNNING else _at_rest(row, limits, left)
    if died:
        room = max(1, height - len(top) - len(bottom) - 2)
        top += [[], *([Part(one_line(line, left), "muted")] for line in log[-room:])]
    if height > ROOMY:
        said = exchange(known, left) if turns or messages else []
        lines = [*top, [], *bottom, [], *said]
    else:
        bottom = bottom[: max(1, height - 1)]  # how it ended stands above, what it is there for last
        room = max(0, height - len(bottom))
        lines = top[:room]
        # what it is stands at the bottom, wherever what it does ends
        lines += [[] for _ in range(room - len(lines))]
        lines += bottom
    if not beside:
        return lines[:height] if height else lines
    plot = _plot(fleet.rates.get(row.id, ()), fleet, row, PLOT_CELLS, min(height, ROOMY))
    return _beside(lines, plot, left, height)


def has_page(width: int, height: int) -> bool:
    """Return whether there is room for all of a specialist at once."""
    return width >= PAGE_FROM and height >= PAGE_ROWS


def page(known: Known, width: int, height: int) -> list[Row]:
    """Return all of a specialist in `height` rows: what it is and says at the left; speed, process and log at the right."""
    row, fleet, _turns, messages, log, ends, limits, _read, now = known
    left = min(MOST_TEXT, width * 3 // 5)
    right = width - left - 2
    runs = row.state in RUNNING
    said = [*_urgent(row, fleet, now), *_agent(row, left)]
    said += [*([[]] if said else []), *([_identity(row, now), _spent(row)] if runs else [])]
    said += _description(row, left) if runs else _at_rest(row, limits, left)
    said += [[], _rule("last exchange", left), *exchange(known, left)]
    if before := _before(messages, left):
        said += [[], _rule("before that", left), *before]
    done = _plot(fleet.rates.get(row.id, ()), fleet, row, right, PLOT_ROWS) if runs else []
    done += [[], _rule("process", right)] if done else [_rule("process", right)]
    done += process(known._replace(ends=ends[:MOST_ENDS]), right, 0)
    if (room := height - len(done) - 2) > 0:
        lines = [[Part(one_line(line, right), "muted")] for line in log[-room:]]
        done += [[], _rule("log", right), *(lines or [known.none("Log", "nothing was written to it")])]
    return _beside(said, done, left, height)


def _beside(left: Sequence[Row], right: Sequence[Row], cells: int, height: int) -> list[Row]:
    """Return two columns, the left one `cells` wide, in `height` rows at most."""
    return [
        [
            *fitted(left[at] if at < len(left) else [], cells),
            Part("┊ ", "line"),
            *(right[at] if at < len(right) else []),
        ]
        for at in range(min(height, max(len(left), len(right))))
    ]


def _named(pairs: Iterable[tuple[str, str]], air: int = 3) -> Row:
    """Return values behind their names, with so many blanks after each."""
    return [
        part for name, value in pairs for part in (Part(f"{name} ", "muted"), Part(value + " " * air, "text"))
    ]


def _rule(title: str, width: int) -> Row:
    return [Part(title, "muted bold"), Part(f" {'─' * max(0, width - len(title) - 2)}", "line")]


def _before(messages: Sequence[StoredMessage], width: int) -> list[Row]:
    """Return the questions before the last one with how their answers begin, the newest first."""
    asked = [message for message in messages if message.role == "user"][:-1]
    rows: list[Row] = []
    for question in reversed(asked):
        answer = next((m for m in messages if m.role == "assistant" and m.id > question.id), None)
        text, tone = ("", "muted") if answer is None else (_marks("", answer.content), "muted")
        if answer is not None and answer.error_code:
            text, tone = answer.error, "bad"
        half = max(10, (width - 8) // 2)
        rows.append(
            [
                *fitted([Part(_clock(question.created_at), "faint")], 7),
                *fitted([Part(one_line(question.content, half - 2), "text")], half),
                Part(one_line(text, half), tone),
            ]
        )
    return rows


def _description(row: SpecialistStatus, width: int) -> list[Row]:
    """Return what a specialist is there for, in as many rows as that takes."""
    return [[Part(line, "muted")] for line in wrap(one_line(row.description, None), max(20, width - 1))]


def _at_rest(row: SpecialistStatus, limits: Sequence[LimitRow], width: int) -> list[Row]:
    """Return what one that does not run has done, what it is there for, and what starting it would begin."""
    rows: list[Row] = []
    if row.turns or row.failures:
        took = f"{number(row.tokens_in)} in  {number(row.tokens_out)} out"
        done = [
            ("turns", str(row.turns)),
            ("failed", str(row.failures or "")),
            ("took", took),
            ("today", spent(row.costs)),
        ]
        rows.append(_named((pair for pair in done if pair[1]), 4))
    if row.last_error and row.state not in BROKEN:
        rows.append([Part("last failure  ", "muted"), Part(one_line(row.last_error, None), "bad")])
    model = one_line(row.model_display or row.model, 40)
    words = [f"{model} · {row.provider}" if model else ""]
    words += [budget_words(limit) for limit in limits if limit.id in ("*", row.id)]
    words += [f"context {number(row.context_window)}"] if row.context_window else []
    starts = Part("   ".join(filter(None, words)), "text")
    return [*rows, *([[*_keys(("⏎", "starts")), starts]] if starts.text else []), *_description(row, width)]


def _urgent(row: SpecialistStatus, fleet: FleetStore, now: float) -> list[Row]:
    tone = tone_of(row)
    state = short_state(row, now)
    if row.state in BROKEN:
        keys = _keys(("s", "start"), ("l", "log"))
        why = one_line(row.cause or row.last_error or row.detail, None)
        return [[Part(f"✖ {state}   ", f"{tone} bold"), *keys], [Part(why, "text")]]
    if row.phase == "waiting":
        keys = _keys(("e", "answer"), ("x", "stop"))
        return [[Part(f"◆ asks to call {one_line(row.detail, 60)}   ", f"{tone} bold"), *keys]]
    if row.phase == "stalled":
        keys = _keys(("x", "stop"), ("R", "again"))
        return [
            [
                Part(f"◐ {state}   ", f"{tone} bold"),
                Part(f"{one_line(row.detail or 'no token', 60)}   ", "muted"),
                *keys,
            ]
        ]
    if row.state == "stopped":
        ended = how_it_ended(fleet, row)
        words = f"○ stopped {ended.text}" if ended is not None else "○ does not run"
        ran = f" · ran {span(row.since - row.started_at)}" if ended and 0 < row.started_at < row.since else ""
        return [[Part(f"{words}{ran}   ", "muted")]]
    if row.state == "ready" and row.last_error and row.failures:
        return [[Part("last failure  ", "muted"), Part(one_line(row.last_error, None), "bad")]]
    return []


def _keys(*pairs: tuple[str, str]) -> Row:
    return [part for key, word in pairs for part in (Part(key, "accent bold"), Part(f" {word}   ", "muted"))]


def _asked(
    row: SpecialistStatus,
    turns: Sequence[LiveTurn],
    messages: Sequence[StoredMessage],
    width: int,
) -> list[Row]:
    if turns:
        turn = turns[0]
        lines = [
            [Part(f"“{one_line(turn.prompt, width)}”  ", "text"), Part(_clock(turn.started_at), "faint")]
        ]
        last = [line for line in turn.content.splitlines() if line.strip()][-2:]
        return [*lines, *([Part(f"  {one_line(line, width)}", "muted")] for line in last)]
    question = next((m for m in reversed(messages) if m.role == "user"), None)
    if question is None:
        return _description(row, width) if row.state in LIVE else []
    lines = [
        [Part(f"“{one_line(question.content, 300)}”  ", "text"), Part(_clock(question.created_at), "faint")]
    ]
    answer = next((m for m in reversed(messages) if m.role == "assistant" and m.id > question.id), None)
    if answer is not None and answer.error_code:
        lines.append([Part(f"  {one_line(answer.error, 400)}", "bad")])
    elif answer is not None:
        lines += [
            [Part(f"  {one_line(line, 400)}", "muted")]
            for line in answer.content.splitlines()
            if line.strip()
        ][:3]
    return lines


def _agent(row: SpecialistStatus, width: int) -> list[Row]:
    """Return what an external agent says of its work: its plan, the files it changed, how it works."""
    agent = row.agent
    if agent is None or row.state not in RUNNING:
        return []
    rows: list[Row] = []
    if agent.state == "login":
        rows += [[Part("log in: ", "you"), Part(one_line(way, 400), "text")] for way in agent.login[:3]]
    if agent.plan:
        step = next((one.text for one in agent.plan if one.status == "in_progress"), "")
        step = step or next((one.text for one in agent.plan if one.status == "pending"), "all done")
        share = agent.plan_done / len(agent.plan)
        rows.append(
            [
                Part("plan ", "muted"),
                *gauge(share, 10, "accent"),
                Part(f" {agent.plan_done}/{len(agent.plan)}  ", "text"),
                Part(one_line(step, 200), "muted"),
            ]
        )
    if agent.changes:
        parts: Row = [Part("changed  ", "muted")]
        for change in agent.changes[:8]:
            parts += [
                Part(f"{one_line(change.path.rpartition('/')[2], 30)} ", "text"),
                Part(f"+{change.added}", "good"),
                Part(f" −{change.removed}   ", "bad"),
            ]
        if len(agent.changes) > 8:
            parts.append(Part(f"and {len(agent.changes) - 8} more", "muted"))
        rows.append(parts)
    words = [
        f"{agent.name} {agent.version}".strip(),
        *([f"mode {agent.mode}"] if agent.mode else []),
        agent.cwd,
    ]
    rows.append([Part(one_line(" · ".join(words), width), "muted")])
    return rows


def _identity(row: SpecialistStatus, now: float) -> Row:
    return [
        Part(one_line(row.model_display or "no model", 40), "text"), Part(f" · {row.provider}    up ", "muted"),
        Part(age(row.started_at, now), "text"), Part("    pid ", "muted"), Part(str(row.pid or "–"), "text"),
        Part("    turns ", "muted"), Part(str(row.turns), "text"),
        *([Part("    failed ", "muted"), Part(str(row.failures), "bad")] if row.failures else []),
    ]  # fmt: skip


def _spent(row: SpecialistStatus) -> Row:
    parts: Row = []
    if row.context_window and row.context_used:
        share = row.context_used / row.context_window
        parts += [
            Part("context ", "muted"), *gauge(share, 14, share_tone(share)),
            Part(f" {number(row.context_used)} of {number(row.context_window)}    ", "text"),
        ]  # fmt: skip
    parts += [Part(f"{number(row.tokens_in)} in  {number(row.tokens_out)} out", "text")]
    if cost := spent(row.costs):
        parts += [Part("    today ", "muted"), Part(cost, "text")]
    return parts


def _plot(
    samples: Iterable[float], fleet: FleetStore, row: SpecialistStatus, width: int, height: int
) -> list[Row]:
    """Return a plot of the speed of late with its figures below."""
    values = _whole_cells(samples, fleet, 2 * width)
    rows = max(1, height - 3)
    top = step_up(max([1.0, *values]))
    drawn = area([*[0.0] * (2 * width - len(values)), *values], width, rows, top)
    figures = fleet.figures.get(row.id)
    left = (
        [
            Part("cpu ", "muted"),
            Part(f"{figures.cpu:.0f} %", "text"),
            Part("   rss ", "muted"),
            Part(size(figures.rss), "text"),
        ]
        if figures
        else []
    )
    right = [Part("first ", "muted"), Part(milliseconds(row.first_token_ms), "text")]
    head = [
        Part("tok/s ", "muted"),
        Part(rate(row.tokens_per_second) if row.phase == "streaming" else "", "text bold"),
        Part(f"  last {width * SECONDS_A_CELL} s · top {top:.0f}", "faint"),
    ]
    return [
        head,
        *([Part(line, "accent")] for line in drawn),
        [*fitted([Part(f"{width * SECONDS_A_CELL} s", "faint")], width - 3), Part("now", "faint")],
        [*fitted(left, width - width_of(right)), *right],
    ]


def _whole_cells(samples: Iterable[float], fleet: FleetStore, most: int) -> list[float]:
    """Return the newest samples, one a second, without the last one of a cell that is not full: so it moves by whole cells."""
    values = list(samples)
    return values[: len(values) - fleet.seconds % SECONDS_A_CELL][-most:]


def exchange(known: Known, width: int) -> list[Row]:
    """Return the last question and its answer, readable."""
    row, turns, messages = known.row, known.turns, known.messages
    if turns:
        turn = turns[0]
        return [
            *_said("you", turn.prompt, turn.started_at, "you", width),
            [],
            *_said(row.name, turn.content or "…", 0.0, "accent", width),
        ]
    question = next((m for m in reversed(messages) if m.role == "user"), None)
    if question is None:
        return [
            [*known.none("Exchange", "nothing was asked yet"), Part("   ", "muted"), *_keys(("⏎", "chat"))]
        ]
    lines = _said("you", question.content, question.created_at, "you", width)
    for answer in messages:
        if answer.role == "assistant" and answer.id > question.id:
            lines += [[], *_said(row.name, answer.content, answer.created_at, "accent", width)]
            if answer.error:
                lines.append([Part(one_line(answer.error, 400), "bad")])
    return lines


def _said(who: str, text: str, moment: float, tone: str, width: int) -> list[Row]:
    room = max(8, min(100, width - 2))
    head = [
        Part("▎ ", tone),
        Part(one_line(who, 30), f"{tone} bold"),
        Part(f"  {_clock(moment)}" if moment else "", "faint"),
    ]
    body = [
        line.plain
        for paragraph in text.split("\n")
        for line in (literal(paragraph).wrap(room) if paragraph else [literal("")])
    ]
    return [head, *([Part("▎ ", tone), Part(line, "text")] for line in body)]


def process(known: Known, width: int, height: int) -> list[Row]:
    """Return figures of the process, and how earlier runs ended."""
    row, fleet, ends = known.row, known.fleet, known.ends
    figures = fleet.figures.get(row.id)
    lines: list[Row] = []
    if row.state in RUNNING:
        pairs = [
            ("pid", str(row.pid or "–")),
            ("up", age(row.started_at, known.now)),
            ("host", row.host),
            ("port", str(row.port)),
            ("launched by", row.launcher),
        ]
        if figures is not None:
            pairs += [
                ("cpu", f"{figures.cpu:.0f} %"),
                ("rss", size(figures.rss)),
                ("files", str(figures.fds)),
            ]
        lines.append(_named(pairs))
        measured = [("first token", milliseconds(row.first_token_ms)), ("tok/s", rate(row.tokens_per_second))]
        if row.avg_response_s is not None:
            measured.append(("an answer takes", span(row.avg_response_s)))
        lines.append(_named(measured))
        samples = fleet.rates.get(row.id, ())
        rows = max(1, min(4, height - len(lines) - len(ends) - 2))
        cells = min(width, 2 * PLOT_CELLS)
        # two samples stand in a cell of braille
        values = _whole_cells(samples, fleet, 2 * cells)
        if any(values) and height > 5:
            lines += [
                [Part(line, "accent")]
                for line in area(
                    [*[0.0] * (2 * cells - len(values)), *values], cells, rows, step_up(max(values))
                )
            ]
    if ends:
        lines.append([Part("what went wrong before", "muted")])
        for record in ends:
            count = f" ×{record.count}" if record.count > 1 else ""
            lines.append(
                [
                    Part(f" {_clock(record.last)}  ", "faint"),
                    Part(f"{record.code.replace('_', ' ')}{count}  ", "bad"),
                    Part(one_line(record.message, 400), "text"),
                ]
            )
    elif row.state not in RUNNING:
        lines.append(known.none("Process", "does not run; no failure of it is in the error log"))
    return lines


def _clock(moment: float) -> str:
    return time.strftime("%H:%M", time.localtime(moment))
