"""Models as OpenAI lists them: specialists, the team, whoever suits best. Pure."""

from __future__ import annotations

from typing import Any

from backend.gateway.completions.answer import AUTO_MODEL, TEAM_MODEL
from backend.schema.records import SpecialistStatus
from backend.schema.states import LIVE

OWNER = "tekton"
OF_MANY = (TEAM_MODEL, AUTO_MODEL)


def model_entry(name: str, created: float, **facts: Any) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(created), "owned_by": OWNER, **facts}


def specialist_entry(status: SpecialistStatus, created: float) -> dict[str, Any]:
    """Return a specialist as a model; beside OpenAI's fields who it is, whether it runs and what answers."""
    return model_entry(
        status.id,
        created,
        title=status.title,
        state=status.state,
        active=status.state in LIVE,
        backing_model=status.model,
        capabilities=status.capabilities,
    )
