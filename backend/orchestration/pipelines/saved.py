"""Pipelines kept under a name, for every console and shell of this backend. Knows no runs."""

from __future__ import annotations

import asyncio

from backend.grammar import parse
from backend.orchestration.stored import Stored
from backend.schema.errors import TektonError
from backend.schema.records import SavedPipeline

SAVED_KEY = "saved-pipeline:"
MAX_NAME_CHARS, MAX_SAVED = 40, 200


class SavedPipelines:
    """Saved by name. What is saved can be read, not necessarily run: names of specialists are looked up at a run."""

    def __init__(self, store: Stored) -> None:
        self._store = store
        self._lock = asyncio.Lock()

    async def all(self) -> list[SavedPipeline]:
        """Return what is saved, by name."""
        rows = [(key, await self._store.get(key, str)) for key in await self._store.keys(SAVED_KEY)]
        return [SavedPipeline(key.removeprefix(SAVED_KEY), text) for key, text in rows if text is not None]

    async def text(self, name: str) -> str:
        """Return a saved pipeline.

        Raises:
            TektonError: Nothing is saved under this name (`not_found`).
        """
        found = await self._store.get(SAVED_KEY + name.strip(), str)
        if found is None:
            raise TektonError(
                f"no pipeline is saved as {name!r}; `tekton pipe --saved` lists them", code="not_found"
            )
        return found

    async def save(self, name: str, pipeline: str, *, replace: bool = False) -> SavedPipeline:
        """Keep a pipeline under a name; another one of that name goes only when `replace` says so.

        Raises:
            TektonError: The name cannot be used, the text is no pipeline, or the name is taken (`conflict`).
        """
        name = _checked(name)
        parse(pipeline)
        async with self._lock:
            saved = {row.name: row.pipeline for row in await self.all()}
            if name in saved and saved[name] != pipeline and not replace:
                raise TektonError(
                    f"{name!r} is saved already, as {saved[name]!r}; replace it, or choose another name",
                    code="conflict",
                )
            if name not in saved and len(saved) >= MAX_SAVED:
                raise TektonError(
                    f"{MAX_SAVED} pipelines are saved already; remove one first", code="conflict"
                )
            await self._store.put(SAVED_KEY + name, pipeline)
        return SavedPipeline(name, pipeline)

    async def remove(self, name: str) -> SavedPipeline:
        """Forget a saved pipeline and return it. Raises `TektonError` (`not_found`)."""
        async with self._lock:
            text = await self.text(name)
            await self._store.put(SAVED_KEY + name.strip(), None)
        return SavedPipeline(name.strip(), text)


def _checked(name: str) -> str:
    name = name.strip()
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable() or "/" in name:
        raise TektonError(
            f"a saved pipeline's name has 1 to {MAX_NAME_CHARS} printable characters and no slash",
            code="invalid_request",
        )
    return name
