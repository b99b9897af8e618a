"""All actions of the platform. Importing this package registers every one."""

from backend.orchestration.action import ACTIONS, SCOPE_RANK, Action, InvalidRequest, Scope
from backend.orchestration.actions import chat, errors, fleet, models, pipelines, platform, sessions

__all__ = [
    "ACTIONS",
    "SCOPE_RANK",
    "Action",
    "InvalidRequest",
    "Scope",
    "chat",
    "errors",
    "fleet",
    "models",
    "pipelines",
    "platform",
    "sessions",
]
