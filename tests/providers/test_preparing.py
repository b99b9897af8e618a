"""Importing a provider's library is our own time: no limit on what an upstream may take counts it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend import providers
from backend.config import Settings
from backend.home import Home
from backend.orchestration import models
from backend.providers.base import ModelInfo, ProviderFault
from backend.schema.frames import ErrorReply, HealthResponse, InfoResponse, Request
from backend.specialists import configuring, plan
from backend.worker import provider_pool
from backend.worker import specialist as worker
from backend.worker.specialist import Specialist
from tests.orchestration.running import running
from tests.specialists.fleets import make_platform
from tests.specialists.tiny import TinyProvider, spec_with

TURNS = 200
"""Turns of the event loop that a slow import takes here: a limit of 0 s has long passed after them."""


class SlowToImport(TinyProvider):
    async def prepare(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)


class Hanging(TinyProvider):
    async def models(self) -> list[ModelInfo]:
        return await asyncio.Event().wait()  # type: ignore[return-value]

    async def health(self, model: str) -> Any:
        await asyncio.Event().wait()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[[TinyProvider], None]:
    """Return a function that has each provider of the platform be this one."""

    def use(provider: TinyProvider) -> None:
        monkeypatch.setattr(providers, "create", lambda *_: provider)

    return use


async def test_questions_have_their_whole_time_after_a_slow_import(made: Any, tmp_path: Path) -> None:
    made(one := SlowToImport())
    async with providers.opened("toy", Settings(), Home(tmp_path), {}, within_s=0) as provider:
        assert (await provider.health("tiny-1")).ok
    assert one.was_closed


async def test_a_question_that_hangs_ends_at_its_limit_and_the_provider_is_closed(
    made: Any, tmp_path: Path
) -> None:
    made(one := Hanging())
    with pytest.raises(TimeoutError):
        async with providers.opened("toy", Settings(), Home(tmp_path), {}, within_s=0.01) as provider:
            await provider.health("tiny-1")
    assert one.was_closed


async def test_an_import_that_never_ends_is_named_as_that(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(one := TinyProvider())
    one.prepared.clear()
    monkeypatch.setattr(providers, "PREPARE_TIMEOUT_S", 0.01)
    with pytest.raises(ProviderFault, match=r"'toy' was not ready within 0\.01 s"):
        async with providers.opened("toy", Settings(), Home(tmp_path), {}):
            pass
    assert one.was_closed


@pytest.mark.parametrize(
    ("provider", "said"), [(SlowToImport, ""), (Hanging, "openai: no answer within 0 s")]
)
async def test_a_check_of_a_specialists_model_counts_the_answer_alone(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: type[TinyProvider], said: str
) -> None:
    made(provider())
    monkeypatch.setattr(plan, "PROVIDER_CHECK_S", 0)
    root = tmp_path / "home"
    Home(root).prepare().config.write_text('[specialists.apollo]\nprovider = "openai"\nmodel = "m"\n')
    supervisor = make_platform(root).supervisor
    problems = await supervisor.model_problems(["apollo-ai"])
    await supervisor.close(stop_fleet=True)
    assert problems == ({"apollo-ai": said} if said else {})


@pytest.mark.parametrize(("provider", "said"), [(SlowToImport, ""), (Hanging, "no answer within 0 s")])
async def test_a_list_of_models_counts_the_answer_alone(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: type[TinyProvider], said: str
) -> None:
    async with running(tmp_path / "home", "apollo") as platform:
        made(provider())
        monkeypatch.setattr(models, "LISTING_TIMEOUT_S", 0)
        [row] = await platform.models.listing("openai")
        assert (row.ok, row.detail, [model.name for model in row.models]) == (
            (False, said, []) if said else (True, "", ["tiny-1"])
        )


def two_providers() -> tuple[Specialist, TinyProvider]:
    """Return a specialist of a worker, and the provider that it does not have yet."""
    kept: dict[str, TinyProvider] = {"scripted": TinyProvider(), "openai": TinyProvider()}
    return Specialist(spec_with(), lambda kind: kept[kind]), kept["openai"]


async def test_a_worker_takes_no_model_that_it_said_it_could_not_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, slow = two_providers()
    assert await one.prepare() is None
    slow.prepared.clear()
    monkeypatch.setattr(worker, "CONFIGURE_TIMEOUT_S", 0.01)
    change = Request(type="configure", provider="openai", model="other", token="worker-secret")
    refused = await one.answer(change)
    assert isinstance(refused, ErrorReply) and refused.code == "timeout"
    assert (
        "openai was not ready" in refused.message and "scripted:tiny-1 answers as before" in refused.message
    )
    slow.prepared.set()  # nobody waits for it any more
    await one.providers.get("openai")
    assert one.model == "scripted:tiny-1"
    taken = await one.answer(change)
    assert isinstance(taken, InfoResponse) and one.model == taken.model == "openai:other"
    await one.close()


def test_a_worker_gives_up_before_the_platform_does() -> None:
    checks = provider_pool.HEALTH_TIMEOUT_S + provider_pool.WINDOW_TIMEOUT_S
    assert worker.CONFIGURE_TIMEOUT_S + checks < configuring.CONFIGURE_TIMEOUT_S


async def test_a_worker_whose_provider_is_prepared_anew_says_that_and_blames_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = TinyProvider()
    provider.broken = "no weights"
    one = Specialist(spec_with(), lambda _: provider)
    assert await one.prepare() is not None
    provider.broken = ""
    provider.prepared.clear()
    monkeypatch.setattr(provider_pool, "HEALTH_TIMEOUT_S", 0.01)
    health = await one.answer(Request(type="health"))
    assert isinstance(health, HealthResponse) and health.detail == "warming: scripted is being prepared"
    provider.prepared.set()
    await one.providers.get("scripted")
    health = await one.answer(Request(type="health"))
    assert isinstance(health, HealthResponse) and health.status == "healthy"
    await one.close()
