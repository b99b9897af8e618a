"""Actions that make a specialist of one's own: see what it would be, and write its file."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from backend.catalog import load_with, plain
from backend.config import FileFault
from backend.config.new_specialist import SkillFile, create_folder, fitting_name, refuse_existing, skill_file
from backend.config.specialist_files import MAX_FILE_BYTES, SKILL
from backend.home import Home
from backend.orchestration.action import action
from backend.schema.errors import TektonError
from backend.schema.params import CreateSpecialist, InvalidRequest, NewSpecialist, PreviewSpecialist
from backend.schema.results import DraftProblem, SpecialistCreated, SpecialistDraft

STAND_IN_NAME = "a-draft-without-a-name"
"""Under this name the other fields are looked at while the name cannot be used."""
IN_PROVIDER = "provider: "
FIELDS = ("name", "title", "capabilities", "persona", "provider", "model")
"""In the order in which problems are told."""


class _Checked(NamedTuple):
    """A draft, and the refusal of the first thing that is wrong with it."""

    draft: SpecialistDraft
    refusal: TektonError | None


@action(
    scope="read",
    routes=(("POST", "/api/v1/specialists/preview"),),
    mcp="PreviewSpecialist",
    cli="tekton call preview_specialist",
    console="new",
)
async def preview_specialist(
    params: PreviewSpecialist, *, home: Home, environment: Mapping[str, str]
) -> SpecialistDraft:
    """Show a new specialist's file and prompt, and what is wrong with it; write nothing."""
    return (await asyncio.to_thread(_check, params, home, environment)).draft


@action(
    scope="control",
    routes=(("POST", "/api/v1/specialists"),),
    mcp="CreateSpecialist",
    cli="tekton call create_specialist",
    console="new",
)
async def create_specialist(
    params: CreateSpecialist, *, home: Home, environment: Mapping[str, str]
) -> SpecialistCreated:
    """Write the file of a new specialist of one's own; within a second it can be launched.

    As with `tekton specialists new` the file is written where the call lands: where several gateways serve one fleet, below
    the home of the gateway that was asked. A name that is there or that ships is refused; nothing is written in part.
    """
    return await asyncio.to_thread(_create, params, home, environment)


def _create(params: CreateSpecialist, home: Home, environment: Mapping[str, str]) -> SpecialistCreated:
    draft, refusal = _check(params, home, environment)
    if refusal is not None:
        raise refusal
    create_folder(home, draft.name, {f"{draft.name}/{SKILL}": draft.text.encode()})
    return SpecialistCreated(f"{plain(draft.name)}-ai", plain(draft.name), draft.where)


def _check(params: NewSpecialist[Any], home: Home, environment: Mapping[str, str]) -> _Checked:
    """Look at a specialist as if it were there already; reads the files of the home.

    Raises:
        TektonError: The rest of the configuration cannot be used.
    """
    refusals: dict[str, TektonError] = {}
    given, name = params.name.strip(), ""
    try:
        if not given:
            raise InvalidRequest("give it a name")
        name = fitting_name(given)
        refuse_existing(home, name)
    except TektonError as error:
        refusals["name"] = error
    fields = partial(
        skill_file,
        title=params.title.strip(),
        capabilities=[word for each in params.capabilities if (word := each.strip())],
        provider=params.provider.strip(),
        model=params.model.strip(),
    )
    persona = params.persona.replace("\r\n", "\n").strip()
    if not persona:
        refusals["persona"] = InvalidRequest(
            "write who it is and what it does: the persona is its system prompt"
        )
    tried = STAND_IN_NAME if refusals.get("name") else name
    skill = fields(tried, persona or "-")
    where = f"{tried}/{SKILL}"
    _, catalog, faults = load_with(home, {where: skill.text.encode()}, environment)
    faults = [fault for fault in faults if fault.where == where]
    for fault in faults:
        reason = fault.reason.removeprefix(IN_PROVIDER)
        refusals.setdefault(_field(fault, skill), InvalidRequest(reason))
    row = next((row for row in catalog if row.name == plain(tried)), None)
    if row is not None and not row.own:
        words = f"{row.name} ships with the platform: take another name"
        refusals.setdefault("name", TektonError(words, code="conflict"))
    ordered = [(field, refusals[field]) for field in FIELDS if field in refusals]
    draft = SpecialistDraft(
        name,
        str(home.specialists / name / SKILL) if name else "",
        fields(name or given, persona).text,
        row.persona if persona and row is not None and not faults else persona,
        [DraftProblem(field, error.message) for field, error in ordered],
    )
    return _Checked(draft, _named(*ordered[0]) if ordered else None)


def _named(field: str, error: TektonError) -> TektonError:
    return TektonError(f"{field}: {error.message}", code=error.code)


def _field(fault: FileFault, skill: SkillFile) -> str:
    if fault.reason.startswith(IN_PROVIDER):
        return "provider"
    if len(skill.text.encode()) > MAX_FILE_BYTES:
        return "persona"
    return skill.field_at(fault.line)
