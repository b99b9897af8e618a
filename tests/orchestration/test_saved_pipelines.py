"""Pipelines kept under a name: read back, run, replaced only when asked to, still there after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backend.events import EventStream
from backend.memory.sqlite.store import SqliteStore
from backend.orchestration.error_log import ErrorLog
from backend.orchestration.pipelines.saved import MAX_SAVED, SavedPipelines
from backend.orchestration.stored import Stored
from backend.schema.errors import TektonError


async def opened(path: Path) -> SqliteStore:
    store = SqliteStore(path / "memory.db")
    await store.open()
    return store


def saved_in(store: SqliteStore) -> SavedPipelines:
    return SavedPipelines(Stored(store.settings, ErrorLog(store.errors, EventStream())))


@pytest.fixture
async def memory(tmp_path: Path) -> Any:
    store = await opened(tmp_path)
    yield store
    await store.close()


async def test_what_is_saved_is_there_in_another_life_of_the_store(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await saved_in(store).save(" review ", 'apollo | athena "shorter"')
    await store.close()
    store = await opened(tmp_path)
    saved = saved_in(store)
    assert [(row.name, row.pipeline) for row in await saved.all()] == [
        ("review", 'apollo | athena "shorter"')
    ]
    assert await saved.text("review") == 'apollo | athena "shorter"'
    await saved.remove("review")
    assert await saved.all() == []
    await store.close()


async def test_a_taken_name_is_kept_unless_it_is_to_be_replaced(memory: Any) -> None:
    saved = saved_in(memory)
    await saved.save("review", "apollo")
    await saved.save("review", "apollo")  # the same again is no conflict
    with pytest.raises(TektonError) as taken:
        await saved.save("review", "athena")
    assert taken.value.code == "conflict" and "apollo" in taken.value.message
    await saved.save("review", "athena", replace=True)
    assert await saved.text("review") == "athena"


@pytest.mark.parametrize("name", ["", "   ", "a/b", "x" * 41, "a\nb", "a\x1b[31mb"])
async def test_a_name_that_cannot_be_used_is_refused(memory: Any, name: str) -> None:
    with pytest.raises(TektonError) as refused:
        await saved_in(memory).save(name, "apollo")
    assert refused.value.code == "invalid_request"


async def test_what_is_no_pipeline_is_not_saved(memory: Any) -> None:
    with pytest.raises(TektonError):
        await saved_in(memory).save("broken", "apollo ||")
    assert await saved_in(memory).all() == []


async def test_nothing_of_that_name_says_how_to_list_them(memory: Any) -> None:
    for ask in (saved_in(memory).text, saved_in(memory).remove):
        with pytest.raises(TektonError) as missing:
            await ask("nobody")
        assert missing.value.code == "not_found" and "--saved" in missing.value.message


async def test_there_is_a_named_limit(memory: Any) -> None:
    saved = saved_in(memory)
    for number in range(MAX_SAVED):
        await saved.save(f"p{number}", "apollo")
    with pytest.raises(TektonError) as full:
        await saved.save("one more", "apollo")
    assert str(MAX_SAVED) in full.value.message
    await saved.save("p0", "athena", replace=True)
