"""The registry: which specialist runs where, in one locked file that other programs may read.

`store` the file, `audit` its log, `identity` who a process is, `ports` who holds one, `sync` what is provably dead.
"""

from backend.registry.store import Registry, RegistryBusy, RegistryError, Transaction

__all__ = ["Registry", "RegistryBusy", "RegistryError", "Transaction"]
