"""How a model is said in one row of the first form. Pure."""

from __future__ import annotations

from textual.content import Content

from backend.schema.records import ModelCandidate
from tekton_tui.safe_text import literal, one_line

NAME_CELLS, WHENCE_CELLS = 15, 20


def model_row(one: ModelCandidate, cells: int, *, taken: bool) -> Content:
    """Return a model that can be taken: where it was found, and what speaks for it or against it."""
    facts = [f"{one.size / 1e9:.{int(one.size < 1e10)}f} GB"] if one.size else []
    facts += ["paid by token"] if one.paid else []
    said = one.why.rpartition(one.address)[2].lstrip(": ") if one.address else one.why
    if one.stand_in:
        facts = ["stand-in: it talks, it knows nothing"]
    elif not one.paid and one.fits is not None:
        memory = "fits in memory" if one.fits else "more than memory takes well"
        facts.append(said if said == "loaded now" else memory)
    elif not one.paid:
        facts += [said or "answers"]
    room = cells - NAME_CELLS - WHENCE_CELLS - 4
    for ability in one.abilities:  # whole words, as many as fit
        facts += [ability] if len(" · ".join([*facts, ability])) <= room else []
    sign = ("◉ " if taken else "○ ", "$text-primary")
    name = one_line(one.display or one.model, NAME_CELLS + 6)
    return Content.assemble(
        " ", sign,
        literal(name.ljust(NAME_CELLS), "bold" if taken else ""),
        literal(f" {one_line(_whence(one), WHENCE_CELLS - 1)}".ljust(WHENCE_CELLS + 1), "$text-muted"),
        literal(" · ".join(facts), "$text-warning" if one.stand_in or one.paid else "$text-muted"),
    )  # fmt: skip


def away_row(one: ModelCandidate) -> Content:
    """Return a model that does not answer, and why."""
    name = one_line(one.display or one.model or one.provider, NAME_CELLS + 6)
    pull = f"`ollama pull {one.model}`"
    why = f"{one.why}: start it, then {pull}" if one.provider == "ollama" and pull not in one.why else one.why
    return Content.assemble("   ", literal(f"{name.ljust(NAME_CELLS)} {one_line(why)}", "$text-disabled"))


def _whence(one: ModelCandidate) -> str:
    """Return where a model was found, in a few words."""
    if one.stand_in:
        return "comes with tekton"
    if one.paid:
        return "a key is set"
    who, answers, _where = one.why.partition(" answers at ")
    if not answers:
        return one.provider
    port = one.address.partition("://")[2].partition("/")[0].rpartition(":")[2]
    return f"{who} :{port}" if port.isdigit() else who
