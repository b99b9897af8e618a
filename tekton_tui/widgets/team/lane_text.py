"""The text of a lane: title and subtitle of its card, its row in the list, its first sentence. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

from rich.cells import cell_len
from textual.content import Content

from tekton_tui.formatting import milliseconds, number, rate, span, turn_words
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import LiveTurn
from tekton_tui.widgets.chat.failures import failure_words
from tekton_tui.widgets.team.agreement import Stance

Order = Literal["finish", "name", "length", "agreement"]
ORDERS: Final[tuple[Order, ...]] = ("finish", "name", "length", "agreement")
NAME_CELLS, TIME_CELLS = 13, 6
"""Columns of a row; the first sentence takes what is left."""
NARROW = 60
"""With fewer columns the rank tells who was quicker, and marks of agreement are a number: the room is for the sentence."""
TAIL_PIECES = 60
"""How many of the newest pieces are joined to find the last words."""
MOST_MARKS = 4
"""Marks of agreement drawn; with more the number is said."""
AGAIN: Final = "   R again"
STANCES: Final[dict[Stance, tuple[str, str, str]]] = {
    "agrees": ("✓", "agree", "$text-success"),
    "objects": ("≠", "object", "$text-warning"),
    "no view": ("–", "no view", "$text-muted"),
}
"""Sign of a member that stands so to a joint answer, the word before several, the colour of both."""
SHORT_SENTENCE = 24
"""Characters under which the sentence after the first is shown as well."""
SENTENCE_CHARS = 4_000
"""Of an answer looked at for its first sentence."""

_FILLER: Final = re.compile(
    r"(?:sure|certainly|of course|absolutely|great question|good question|okay|ok|yes|no problem|here is|here's|here are"
    r"|let me|i'd be happy|i am happy|i'm happy|happy to|thanks|thank you)\b[^.!?:]*[.!?:]?",
    re.IGNORECASE,
).fullmatch
_SENTENCE: Final = re.compile(r".+?(?:[.!?](?=\s|$)|[。！？])|.+$")
_MARKS: Final = re.compile(r"\*\*|__|`|^\s*(?:[-+*]|\d+[.)]|>)\s+|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)")


class LaneFacts(NamedTuple):
    """What is shown of a lane.

    Attributes:
        place: Its rank among those that have finished, from 1; 0 before.
        role: What its specialist does.
        sentence: The first sentence of its answer, once that is complete.
        agree: How many others agree with it.
        unread: Its answer is complete and was not shown yet.
        votes: How many voted for it; `None` when there was no vote.
        stance: How it stands to the joint answer; `None` where nobody says.
    """

    name: str
    turn: LiveTurn | None
    refusal: str = ""
    marked: bool = False
    picked: bool = False
    place: int = 0
    role: str = ""
    sentence: str = ""
    agree: int = 0
    unread: bool = False
    votes: int | None = None
    stance: Stance | None = None


def first_sentence(text: str) -> str:
    """Return the first sentence of an answer's prose: headings, code, tables and "Sure!" are skipped."""
    fallback, fenced = "", False
    for line in text[:SENTENCE_CHARS].splitlines():
        line = line.strip()
        if line.startswith(("```", "~~~")):
            fenced = not fenced
        elif line and not fenced:
            plain = _MARKS.sub("", line).strip()
            fallback = fallback or plain
            if line.startswith(("#", "|", "---", "===", "<")):
                continue
            kept = [part.strip() for part in _SENTENCE.findall(plain)]
            while kept and _FILLER(kept[0]):
                del kept[0]
            if kept:
                more = kept[1:2] if len(kept[0]) < SHORT_SENTENCE else []
                return " ".join([kept[0], *more])
    return fallback or text[:SENTENCE_CHARS].strip()


def state_colour(facts: LaneFacts) -> str:
    """Return the colour of a lane's state; it always has a symbol and a word beside it."""
    turn = facts.turn
    if turn is None:
        return "$text-error" if facts.refusal else "$text-muted"
    if not turn.ended:
        return "$text-warning" if turn.phase == "stalled" else "$text-primary"
    if turn.code:
        return "$text-muted" if turn.code == "cancelled" else "$text-error"
    return "$text-success"


def state_text(facts: LaneFacts) -> str:
    """Return what a lane does or how it ended, its symbol first."""
    turn = facts.turn
    if turn is None:
        return "✖ not asked" if facts.refusal else "○ waiting"
    if turn.ended and turn.code == "cancelled":
        return "○ stopped"
    if turn.ended and turn.code:
        return f"✖ {failure_words(turn.code).cause}"
    if turn.ended:
        return f"✓ {span(turn.total_time)}"
    return f"◐ {turn_words(turn)}"


def title_of(facts: LaneFacts, width: int) -> Content:
    """Return a card's upper border: marks, name, state; the state's details are dropped first."""
    head = f"{_marks(facts)}{facts.name} {state_text(facts)}"
    if cell_len(head) > width:
        head = head.partition(" · ")[0]
    return literal(one_line(head, max(1, width)), state_colour(facts))


def reader_title(facts: LaneFacts, width: int) -> Content:
    """Return the upper border of the lane that is read: marks, name, role, time, speed, tokens; the last are dropped first."""
    turn = facts.turn
    parts = [facts.role, state_text(facts)]
    if turn is not None:
        parts += [_speed(turn), f"{number(turn.tokens)} tok" if turn.tokens else ""]
    parts = [part for part in parts if part]
    name = f"{_marks(facts)}{facts.name}"
    while parts and cell_len(" · ".join([name, *parts])) > width:
        parts.pop(0 if parts[0] == facts.role else -1)
    return Content.assemble(
        literal(one_line(name, max(1, width)), "bold $foreground"),
        literal("".join(f" · {part}" for part in parts), "$text-muted"),
    )


def subtitle_of(facts: LaneFacts, width: int) -> Content:
    """Return a card's lower border: rank, first token, speed; dropped in this order when it is narrow."""
    turn = facts.turn
    if turn is None:
        return Content("")
    parts = [part for part in (f"#{facts.place}" if facts.place else "", _first(turn), _speed(turn)) if part]
    stance, tone = _stance(facts)
    room = width - cell_len(stance) - 3 * bool(stance)
    while len(parts) > 1 and len(" · ".join(parts)) > room:
        del parts[0]
    words = one_line(" · ".join(parts), max(1, room))
    return Content.assemble((stance, tone), " · " if stance else "", literal(words, "$text-muted"))


def whose_words(stances: Mapping[str, Stance], shares: Sequence[str], width: int) -> Content:
    """Return how members stand to a joint answer, for its lower border; where it does not say, whose words it shares."""
    keys = Content.assemble("  ", ("⏎", "bold $text-primary"), " read")
    room = max(1, width - keys.cell_length - 2)
    if not stances:
        return Content.assemble(
            literal(one_line(f"shares words with {' '.join(shares)}", room), "$text-muted"), keys
        )
    groups: dict[Stance, list[str]] = {
        stance: [name for name, said in stances.items() if said == stance] for stance in STANCES
    }
    names: dict[Stance, str] = {stance: " ".join(group) for stance, group in groups.items() if group}
    for stance in reversed(STANCES):  # who has no view is counted first where there is no room for names
        if (
            sum(cell_len(f"{STANCES[each][1]} {said}  ") for each, said in names.items()) - 2 > room
            and stance in names
        ):
            names[stance] = str(len(groups[stance]))
    said = Content("  ").join(
        Content.assemble((f"{STANCES[stance][1]} ", "$text-muted"), literal(who, STANCES[stance][2]))
        for stance, who in names.items()
    )
    return Content.assemble(said.truncate(room, ellipsis=True), keys)


def heading(order: Order, width: int, *, votes: bool = False) -> Content:
    """Return the head of the list; a sign stands at the column it is ordered by. `votes` stand in the place of agreement."""
    signs = {name: " ▴" if name == order else "" for name in ORDERS}
    time = f"{'TIME' + signs['finish']:>{TIME_CELLS}}" if width >= NARROW else " "
    left = f"  #  {'NAME' + signs['name']:<{NAME_CELLS}} {time}   FIRST SENTENCE{signs['length']}"
    right = "VOTES " if votes else f"AGREE{signs['agreement']} "
    gap = width - cell_len(left) - cell_len(right)
    return literal(f"{left}{' ' * gap}{right}" if gap > 0 else left, "$text-muted").truncate(
        width, ellipsis=True
    )


def row_of(facts: LaneFacts, width: int, *, here: bool, focused: bool) -> Content:
    """Return a lane as one row: rank, name, time, whether it was read, its first sentence, agreement, the pick."""
    turn, tone = facts.turn, state_colour(facts)
    answered = turn is not None and turn.ended and not turn.code
    ground = (" on $cursor-row" if focused else " on $panel") if here else ""
    rank = f"{facts.place:>2}" if facts.place and answered else "  "
    mark = "▌" if facts.marked else " "
    name_style = ("bold $foreground" if facts.unread else "$foreground") if answered else tone
    time = span(turn.total_time) if turn is not None and answered else state_text(facts)[:1] + " " * 4
    narrow = width < NARROW
    right = _right_end(facts, narrow) if answered else []
    time_cells = 1 if narrow else TIME_CELLS
    time = time.strip()[: 0 if answered else 1] if narrow else time
    left = 1 + len(rank) + 2 + NAME_CELLS + 1 + time_cells + 3
    room = max(1, width - left - sum(cell_len(text) for text, _style in right) - 1)
    words, style = _words(facts, room)
    words += " " * (room - cell_len(words))
    parts = [
        ("▎" if here else " ", "$text-primary"),
        (rank, "$text-muted"),
        (f" {mark}", "$text-primary"),
        (_fit(facts.name, NAME_CELLS) + " ", name_style),
        (_fit(time, time_cells, right=True), "$text-muted" if answered else tone),
        (" ● " if facts.unread else "   ", "$text-primary"),
        (words + " ", style),
        *right,
    ]
    return Content.assemble(*((text, f"{look}{ground}") for text, look in parts))


def more_row(count: int, what: str, names: Sequence[str], width: int) -> Content:
    """Return the row that stands for lanes there is no room for."""
    head = f" ▸ {count} more {what}   "
    return Content.assemble(
        (head, "$text-muted"),
        literal(one_line(" ".join(names), max(1, width - len(head) - 1)), "$text-disabled"),
    )


def _words(facts: LaneFacts, room: int) -> tuple[str, str]:
    """Return what a row says of its answer, and its style: the first sentence, the newest words, or what went wrong."""
    turn = facts.turn
    if turn is None:
        return one_line(
            facts.refusal or "waits to be asked", room
        ), "$text-error" if facts.refusal else "$text-muted"
    if turn.ended and turn.code == "cancelled":
        return one_line(f"stopped  {facts.sentence}", room), "$text-muted"
    if turn.ended and turn.code:
        cause = failure_words(turn.code).cause
        said = f" · {turn.error}" if turn.error and turn.error != cause else ""
        return f"{one_line(f'{cause}{said}', max(1, room - len(AGAIN)))}{AGAIN}", "$text-error"
    if turn.ended:
        return one_line(facts.sentence, room), "$foreground"
    tail = "".join(turn.text[-TAIL_PIECES:]).strip()
    if not tail:
        return one_line(turn_words(turn), room), state_colour(facts)
    return _end_of(tail, room - 1) + "▍", "$text-muted"


def _right_end(facts: LaneFacts, narrow: bool) -> list[tuple[str, str]]:
    """Return the right end of a finished row: votes, its stance, or marks of agreement; and whether it was picked."""
    count = facts.agree if facts.votes is None else facts.votes
    marks, style = "▪" * min(count, MOST_MARKS), "$text-success"
    if narrow:
        marks = str(count or "")
    if facts.stance is not None and facts.votes is None:
        marks, style = _stance(facts)
        marks = marks[:1] if narrow else marks
    elif facts.votes is not None:
        style = "bold $text-primary"
        marks = f"{count} vote{'s' * (count != 1)} {marks}" if count else ""
    elif count > MOST_MARKS and not narrow:
        marks = f"{count} {marks}"
    picked = [(" picked", "$text-secondary")] if facts.picked else []
    return [(marks, style), *picked, (" ", "")]


def _stance(facts: LaneFacts) -> tuple[str, str]:
    """Return how a member stands to the joint answer, behind its sign, and its colour; empty where nobody says."""
    if facts.stance is None:
        return "", ""
    sign, _word, tone = STANCES[facts.stance]
    return f"{sign} {facts.stance}", tone


def _marks(facts: LaneFacts) -> str:
    return ("★" if facts.picked else "") + ("▌" if facts.marked else "") + (" " if facts.picked else "")


def _first(turn: LiveTurn) -> str:
    return "" if turn.first_token_ms is None else f"first {milliseconds(turn.first_token_ms)}"


def _speed(turn: LiveTurn) -> str:
    speed = turn.rate()
    if speed is None:
        return ""
    return f"{number(round(speed)) if speed >= 1000 else rate(speed)} tok/s"


def _end_of(text: str, cells: int) -> str:
    """Return the end of a text in one line, with a mark where it is cut."""
    if cells < 2:
        return ""
    line = one_line(text, len(text) + 1)
    if cell_len(line) <= cells:
        return line
    cut = line[-(cells - 1) :]
    while cell_len(cut) > cells - 1:
        cut = cut[1:]
    return f"…{cut}"


def _fit(text: str, cells: int, *, right: bool = False) -> str:
    """Return text in exactly so many cells."""
    cut = one_line(text, cells) if text.strip() else text[:cells]
    gap = " " * max(0, cells - cell_len(cut))
    return gap + cut if right else cut + gap
