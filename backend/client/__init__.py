"""All that the console, the command line and a program of yours need to know of the backend."""

from backend.client.attach import BackendFailed, attach, locate, own_home, start_backend
from backend.client.connection import Client, ConnectionChanged, ConnectionState, RemoteError

__all__ = [
    "BackendFailed",
    "Client",
    "ConnectionChanged",
    "ConnectionState",
    "RemoteError",
    "attach",
    "locate",
    "own_home",
    "start_backend",
]
