"""The console at a gateway elsewhere: over a slow line that breaks, and refused for each reason in words."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backend.client import Client, attach
from backend.home import Home
from tekton_tui.app import TektonApp
from tekton_tui.runtime.connect import connector
from tekton_tui.screens.dialogs import Dialog
from tekton_tui.transcript import Transcript
from tekton_tui.widgets.composer.composer import Composer
from tests.tui.conftest import until
from tests.tui.lossy_proxy import LossyProxy
from tests.tui.test_console import screen_text

LIMIT_S = 60.0
TOKENS = 80


@pytest.fixture
async def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Home, Client]]:
    """A real backend of its own with apollo running, scripted; ended with its specialists."""
    home = Home(tmp_path / "home").prepare()
    reader = hashlib.sha256(b"r" * 40).hexdigest()
    (home.root / "tokens.toml").write_text(
        f'[[token]]\nlabel = "guest"\nscope = "read"\nsha256 = "{reader}"\n'
    )
    for name, value in {
        "TEKTON_HOME": str(home.root), "TEKTON_PORT_PROFILE": "free", "TEKTON_GATEWAY_PORT": "0",
        "TEKTON_PROVIDER": "scripted",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    client = await attach(home)
    try:
        launched = await client.request("launch", {"ids": ["apollo"]}, timeout_s=LIMIT_S)
        assert launched["results"][0]["ok"], launched
        yield home, client
    finally:
        await client.request("shutdown", {"stop_fleet": True}, timeout_s=LIMIT_S)
        await client.close()


@pytest.mark.e2e
async def test_a_chat_over_a_slow_line_that_breaks_is_complete_and_nothing_comes_twice(
    platform: tuple[Home, Client],
) -> None:
    home, client = platform
    async with LossyProxy(client.url, delay_s=0.25) as line:
        app = TektonApp(connector(None, line.url, str(home.token)))
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: app.stores.connection.state == "attached")
            await until(pilot, lambda: "apollo" in {row.name for row in app.stores.fleet.live()})
            app.commands.navigator.open_chat("apollo-ai")
            await until(pilot, lambda: bool(app.query(Composer)))
            composer = app.query_one(Composer)
            await until(pilot, lambda: composer.has_focus_within)
            composer.draft = f"[[repeat {TOKENS}]] [[rate 40]]"
            await pilot.press("enter")
            view = app.query_one(Transcript)
            await until(pilot, lambda: "10" in view.entries[-1].text if view.entries else False)
            heard = view.entries[-1].text
            line.open = False
            line.cut()
            await until(pilot, lambda: app.stores.connection.state == "lost")
            assert "lost" in screen_text(app)
            await pilot.press(*"while away")
            assert composer.draft == "while away"
            line.open = True
            await until(pilot, lambda: app.stores.connection.state == "attached")
            await until(pilot, lambda: not app.stores.turns.turns and len(view.entries) == 2)
            history = await client.request(
                "conversation_history", {"specialist_id": "apollo-ai", "limit": 10}
            )
            stored = [message["content"] for message in history["messages"]]
            await until(pilot, lambda: [entry.text for entry in view.entries] == stored)
            assert stored[-1].startswith(heard) and len(stored) == 2
            assert composer.draft == "while away" and line.connections >= 2


@pytest.mark.e2e
async def test_a_token_that_may_only_read_is_said_at_once_and_a_refused_action_says_why(
    platform: tuple[Home, Client], tmp_path: Path
) -> None:
    _, client = platform
    (tmp_path / "guest").touch(mode=0o600)
    (tmp_path / "guest").write_text("r" * 40)
    app = TektonApp(connector(None, client.url, str(tmp_path / "guest")))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.stores.connection.state == "attached")
        await until(pilot, lambda: "may only read" in notices(app))
        app.commands.fleet.stop(["apollo-ai"])
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        await pilot.press("left", "enter")
        await until(pilot, lambda: "has scope read" in notices(app))
        assert "1" in screen_text(app) and app.stores.fleet.rows["apollo-ai"].state == "ready"


@pytest.mark.e2e
async def test_a_refusal_names_its_reason_and_connecting_again_is_one_key(
    platform: tuple[Home, Client], tmp_path: Path
) -> None:
    home, client = platform
    right = home.token.read_text()
    token = tmp_path / "token"
    for case, said in (("token", "the token is not known"), ("tls", "TLS"), ("nobody", "no gateway there")):
        token.touch(mode=0o600)
        token.write_text("x" * 48 if case == "token" else right)
        async with LossyProxy(client.url) as line:
            line.open = case != "nobody"
            url = line.url.replace("http:", "https:") if case == "tls" else line.url
            app = TektonApp(connector(None, url, str(token)))
            async with app.run_test(size=(120, 40)) as pilot:
                await until(pilot, lambda app=app: app.stores.connection.state == "failed")
                await until(pilot, lambda app=app, said=said: said in screen_text(app))
                token.write_text(right)
                line.open = True
                await pilot.press("f5")
                wanted = "failed" if case == "tls" else "attached"
                await until(pilot, lambda app=app, wanted=wanted: app.stores.connection.state == wanted)


@pytest.mark.parametrize("url", ["10.0.0.5:8003", "ftp://10.0.0.5", "http://", "nonsense"])
async def test_an_address_that_is_none_says_how_one_looks(tmp_path: Path, url: str) -> None:
    (tmp_path / "token").write_text("x" * 48)
    (tmp_path / "token").chmod(0o600)
    app = TektonApp(connector(None, url, str(tmp_path / "token")))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.stores.connection.state == "failed")
        assert "http://10.0.0.5:8003" in app.stores.connection.reason and url in app.stores.connection.reason


async def test_without_a_token_file_it_says_where_a_token_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEKTON_TOKEN_FILE", raising=False)
    app = TektonApp(connector(None, "http://127.0.0.1:9", None))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.stores.connection.state == "failed")
        assert "--token-file" in app.stores.connection.reason


def notices(app: TektonApp) -> str:
    return " ".join(notice.message for notice in app._notifications)
