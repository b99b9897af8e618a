"""The words Rhetor uses to lead a team: prompts for rounds, synthesis and consensus. Pure text, no calls."""

from __future__ import annotations

from backend.orchestration.settings import Style

_STYLES: dict[Style, str] = {
    "collaborative": "Build on what is good in each answer and keep what they agree on.",
    "directive": "Decide: choose the strongest position, say so plainly and give the next step.",
    "autonomous": "Weigh the answers yourself and write the answer you would give, naming your sources.",
}

_ROUNDS: dict[Style, str] = {
    "collaborative": "Say what you would take from the others, what you would add, and where you still differ.",
    "directive": "Say which one position should stand, and why, in at most three sentences.",
    "autonomous": "Reconsider your own answer in the light of the others and give it again, improved.",
}


def synthesis_prompt(question: str, missing: list[str], style: Style) -> str:
    """Return what Rhetor is asked once the members have answered; their answers come as context."""
    return (
        f"The team was asked: {question}\n\n"
        f"Their answers are given above, each under its author's name.{_absence(missing)} "
        f"Write one joint answer for the person who asked. {_STYLES[style]}"
    )


def consensus_prompt(question: str, missing: list[str], style: Style) -> str:
    """Return what Rhetor is asked to find agreement and dissent."""
    return (
        f"The team was asked: {question}\n\n"
        f"Their answers are given above, each under its author's name.{_absence(missing)} "
        "State first what all of them agree on, then each point on which they differ and who holds which view, "
        f"then whether there is a consensus: yes, partly or no. {_STYLES[style]}"
    )


def round_prompt(question: str, style: Style) -> str:
    """Return what each member is asked in a discussion round; the others' last answers come as context."""
    return f"We discuss this question: {question}\n\nThe other members' last answers are given above. {_ROUNDS[style]}"


def _absence(missing: list[str]) -> str:
    return f" No answer came from {', '.join(missing)}; say so if it matters." if missing else ""
