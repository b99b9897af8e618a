"""Engram: sessions, messages, search, windowing, and the records that survive restarts."""

from backend.memory.choosing import choose_store
from backend.memory.estimate import TokenEstimator
from backend.memory.faults import MemoryFault, StoreClosed, StoreFailed, UnknownMessage, UnknownSession
from backend.memory.sqlite import SqliteStore
from backend.memory.store import (
    TEAM,
    YOU,
    Conversation,
    Export,
    MemoryStore,
    OpenTurn,
    RetentionReport,
    UsageRow,
)
from backend.memory.windowing import Window
from backend.memory.windowing import choose as choose_window

__all__ = [
    "TEAM",
    "YOU",
    "Conversation",
    "Export",
    "MemoryFault",
    "MemoryStore",
    "OpenTurn",
    "RetentionReport",
    "SqliteStore",
    "StoreClosed",
    "StoreFailed",
    "TokenEstimator",
    "UnknownMessage",
    "UnknownSession",
    "UsageRow",
    "Window",
    "choose_store",
    "choose_window",
]
