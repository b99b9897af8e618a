"""The registry: which specialist runs where, in one locked file that other programs may read.

`store` has the file, `audit` its log, `identity` tells processes apart, `ports` allocates, `sync` removes the dead.
"""

from backend.registry.store import Registry, RegistryBusy, RegistryError, Transaction

__all__ = ["Registry", "RegistryBusy", "RegistryError", "Transaction"]
