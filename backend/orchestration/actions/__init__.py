"""All actions of the platform. Importing this package registers every one."""

from backend.orchestration.action import ACTIONS, SCOPE_RANK, Action, Scope
from backend.orchestration.actions import (
    attention,
    chat,
    errors,
    fleet,
    models,
    own_specialists,
    pipelines,
    platform,
    sessions,
    tools,
)

__all__ = [
    "ACTIONS",
    "SCOPE_RANK",
    "Action",
    "Scope",
    "attention",
    "chat",
    "errors",
    "fleet",
    "models",
    "own_specialists",
    "pipelines",
    "platform",
    "sessions",
    "tools",
]
