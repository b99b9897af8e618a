"""Conversations and what else must survive a restart: sessions, messages, search, windowing, errors, usage, settings."""

from backend.memory.errors import (
    MemoryFault,
    OutOfRange,
    StoreClosed,
    StoreFailed,
    UnknownMessage,
    UnknownSession,
)
from backend.memory.factory import choose_store
from backend.memory.records import TEAM, YOU, Conversation, OpenTurn, Retention, RetentionReport, SessionPage
from backend.memory.sqlite.store import SqliteStore
from backend.memory.store import (
    ErrorStore,
    MemoryStore,
    MessageStore,
    SessionStore,
    SettingStore,
    ToolCallStore,
    TurnStore,
)
from backend.memory.windowing import TokenEstimator, Window, choose_window, with_tools

__all__ = [
    "TEAM",
    "YOU",
    "Conversation",
    "ErrorStore",
    "MemoryFault",
    "MemoryStore",
    "MessageStore",
    "OpenTurn",
    "OutOfRange",
    "Retention",
    "RetentionReport",
    "SessionPage",
    "SessionStore",
    "SettingStore",
    "SqliteStore",
    "StoreClosed",
    "StoreFailed",
    "TokenEstimator",
    "ToolCallStore",
    "TurnStore",
    "UnknownMessage",
    "UnknownSession",
    "Window",
    "choose_store",
    "choose_window",
    "with_tools",
]
