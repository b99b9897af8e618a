"""A vote of a team: each member names the best answer but its own. What is asked, how it is read, the tally. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from tekton_tui.stores import LiveTeam, LiveTurn

LANE: Final = "vote"
"""Names the turns of a vote in their team turn: `vote/apollo-ai`, with a number behind from the second vote on."""
_words: Final = re.compile(r"\w+").findall


def is_vote(turn: LiveTurn) -> bool:
    return turn.lane.partition("/")[0] == LANE


def question(prompt: str, names: Iterable[str]) -> str:
    """Return what a member is asked; the answers go along as what others said."""
    return (
        f"The team was asked: {prompt}\n\nWhich of the answers above is the best? It is one of: {', '.join(names)}. "
        "Reply with that name alone."
    )


def voted_for(reply: str, voter: str, candidates: Iterable[str]) -> str:
    """Return the id of the candidate a reply names first, not the voter; empty for none."""
    names = {ai_id.removesuffix("-ai").casefold(): ai_id for ai_id in candidates if ai_id != voter}
    said = (word.casefold() for word in _words(reply))
    return next((names[word] for word in said if word in names), "")


def tally(team: LiveTeam) -> Mapping[str, int] | None:
    """Return how many named whom in the newest vote; `None` when nobody was asked to vote."""
    newest: dict[str, LiveTurn] = {}
    for turn in team.lanes.values():
        if is_vote(turn):
            # a later vote of the same member takes the place of its earlier one
            newest[turn.ai_id] = turn
    if not newest:
        return None
    choices = (
        voted_for(turn.content, turn.ai_id, team.start.lanes) for turn in newest.values() if turn.ended
    )
    return Counter(filter(None, choices))


def vote_words(team: LiveTeam) -> str:
    """Return how a vote stands: who leads and how many have said whom; empty for no vote."""
    counted = tally(team)
    if counted is None:
        return ""
    voters = {turn.ai_id: turn for turn in team.lanes.values() if is_vote(turn)}
    ended = sum(turn.ended for turn in voters.values())
    most = max(counted.values(), default=0)
    leaders = [ai_id.removesuffix("-ai") for ai_id, count in counted.items() if count == most]
    none = ended - sum(counted.values())
    head = " and ".join(sorted(leaders)) if leaders else "nobody"
    if ended < len(voters):
        return f"vote {ended} of {len(voters)}"
    if not counted:
        return "vote: nobody named an answer"
    return f"vote {head} {most} of {ended}" + (f", {none} named nobody" if none else "")
