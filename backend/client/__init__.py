"""The client library: find, start and call a backend, read its events, or ask one specialist directly."""

from backend.client.attach import BackendFailed, attach, locate, own_home, start_backend
from backend.client.connection import Client, ConnectionChanged, ConnectionState, RemoteError
from backend.client.direct import SpecialistUnreachable, ai_send, ai_send_sync, ai_stream
from backend.client.local import run_tekton
from backend.client.remote import ADDRESS, CA_FILE, TOKEN_FILE, connect_to

__all__ = [
    "ADDRESS",
    "CA_FILE",
    "TOKEN_FILE",
    "BackendFailed",
    "Client",
    "ConnectionChanged",
    "ConnectionState",
    "RemoteError",
    "SpecialistUnreachable",
    "ai_send",
    "ai_send_sync",
    "ai_stream",
    "attach",
    "connect_to",
    "locate",
    "own_home",
    "run_tekton",
    "start_backend",
]
