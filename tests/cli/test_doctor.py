"""`tekton doctor` and `tekton config`: each thing that is wrong on a machine is found and comes with its fix."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from backend.config import Memory
from backend.events import EventStream
from backend.home import Home
from backend.memory import SqliteStore, TokenEstimator
from backend.orchestration.error_log import ErrorLog
from backend.orchestration.maintenance import DAY_S, RETAINED_AT, Maintenance
from backend.providers.discovery import PROBE_TIMEOUT_S
from tests.cli.commandline import Line
from tests.stores import say


def _findings(line: Line, **environment: str) -> tuple[int, dict[str, str]]:
    """Return the exit code, and the fix of each thing that is not well, by what was found."""
    line.environment.update(environment)
    done = line("tekton", "doctor")
    assert done.stderr == "", done.stderr
    rows = done.stdout.splitlines()
    bad = {row[5:]: rows[number + 1].strip() for number, row in enumerate(rows) if row.startswith("FAIL")}
    assert all(fix.startswith("fix: ") and len(fix) > 10 for fix in bad.values()), bad
    return done.returncode, bad


class _Models(BaseHTTPRequestHandler):
    """A server of OpenAI's protocol with one model."""

    def do_GET(self) -> None:
        data = b'{"data": [{"id": "gemma3-12b", "object": "model", "created": 1, "owned_by": "organization_owner"}]}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _SlowModels(_Models):
    """One that takes longer than a start waits for."""

    def do_GET(self) -> None:
        threading.Event().wait(2 * PROBE_TIMEOUT_S)
        super().do_GET()


@pytest.mark.parametrize("kind", [_Models, _SlowModels])
def test_a_server_that_was_found_is_asked_as_the_backend_asks_it(quiet: Line, kind: type[_Models]) -> None:
    """`auto` took LM Studio, and it was called broken for want of a key for OpenAI; one that was slow was found and not taken."""
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = f"http://127.0.0.1:{server.server_port}/v1"
        quiet.home.mkdir(mode=0o700)
        config = f'[providers]\nlocal = ["{where}"]\n[providers.ollama]\nhost = "http://127.0.0.1:9"\n'
        (quiet.home / "config.toml").write_text(config)
        code, bad = _findings(quiet, TEKTON_PROVIDER="auto")
        assert (code, bad) == (0, {})
        assert f"{where} answers" in quiet("tekton", "doctor").stdout
        server.shutdown()


def test_a_healthy_home_has_nothing_to_mend_and_looking_changes_nothing(quiet: Line) -> None:
    code, bad = _findings(quiet)
    assert (code, bad) == (0, {}) and not quiet.processes()
    assert not quiet.home.exists(), "looking made a home"


def test_a_damaged_database_is_found_and_repaired_on_request(quiet: Line) -> None:
    assert quiet("tekton", "doctor", "--repair").returncode == 3
    assert quiet("tekton", "launch", "apollo").returncode == 0
    assert quiet("aish", "apollo", "precious [[repeat 2000]]").returncode == 0
    refused = quiet("tekton", "doctor", "--repair")
    assert refused.returncode == 6 and "tekton stop" in refused.stderr
    assert quiet("tekton", "stop", "--fleet").returncode == 0
    whole = quiet("tekton", "doctor", "--repair")
    assert whole.returncode == 0 and "nothing was to be repaired" in whole.stdout
    database = quiet.home / "state" / "engram.sqlite3"
    aside = database.with_name("engram.sqlite3.corrupt-20200101-000000")
    database.rename(aside)
    code, bad = _findings(quiet)
    assert code == 0, bad  # no database: a backend makes one and says what is lost
    assert quiet("tekton", "launch", "apollo").returncode == 0
    assert "conversations are lost" in quiet("tekton", "errors").stdout
    assert quiet("tekton", "stop", "--fleet").returncode == 0
    code, bad = _findings(quiet)
    assert code == 1 and any(aside.name in what for what in bad) and "--repair" in " ".join(bad.values())
    done = quiet("tekton", "doctor", "--repair")
    assert done.returncode == 0 and f"{aside.name}: brought back: 1 sessions, 2 messages" in " ".join(
        done.stdout.split()
    )
    assert quiet("tekton", "launch", "apollo").returncode == 0
    assert "precious" in quiet("tekton", "sessions").stdout


def test_permissions_that_others_could_use_are_found(quiet: Line) -> None:
    quiet.home.mkdir(mode=0o755, parents=True)
    quiet.home.chmod(0o755)
    (quiet.home / "token").write_text("t" * 40)
    (quiet.home / "token").chmod(0o644)
    code, bad = _findings(quiet)
    assert code == 1 and set(bad.values()) == {
        f"fix: chmod 700 {quiet.home}",
        f"fix: chmod 600 {quiet.home}/token",
    }


def test_a_broken_configuration_is_found_once_and_named(quiet: Line) -> None:
    quiet.home.mkdir(mode=0o700, parents=True)
    (quiet.home / "config.toml").write_text("[fleet\n")
    code, bad = _findings(quiet)
    assert code == 1 and len(bad) == 1 and "config.toml" in next(iter(bad))


def test_a_strangers_port_is_named_with_its_holder(quiet: Line) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, bad = _findings(
            quiet, TEKTON_PORT_PROFILE="default", TEKTON_AI_PORT_BASE=str(port - 12), TEKTON_GATEWAY_PORT="0"
        )
    ours = {what: fix for what, fix in bad.items() if f"port {port} " in what}
    assert code == 1 and len(ours) == 1
    assert f"pid {psutil.Process().pid}" in next(iter(ours)) and "apollo" in next(iter(ours))


@pytest.mark.parametrize(
    ("kind", "environment", "wanted"),
    [
        ("ollama", {}, "ollama serve"),
        ("anthropic", {}, "ANTHROPIC_API_KEY"),
        ("openai", {}, "providers.openai"),
    ],
)
def test_a_provider_that_cannot_be_used_is_found(
    quiet: Line, kind: str, environment: dict[str, str], wanted: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    quiet.home.mkdir(mode=0o700, parents=True)
    (quiet.home / "config.toml").write_text(
        f'[providers.ollama]\nhost = "http://127.0.0.1:{port}"\n[providers.openai]\nbase_url = "http://127.0.0.1:{port}/v1"\n'
    )
    code, bad = _findings(quiet, TEKTON_PROVIDER=kind, **environment)
    [(what, fix)] = bad.items()
    assert code == 1 and what.startswith(f"provider {kind}") and wanted in fix


def test_the_address_of_a_specialist_of_ones_own_is_asked_as_well(quiet: Line) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    quiet.home.mkdir(mode=0o700, parents=True)
    (quiet.home / "config.toml").write_text(
        f'[specialists.mine]\ntransport = "api"\nbase_url = "http://127.0.0.1:{port}/v1"\nmodel = "m"\n'
    )
    code, bad = _findings(quiet)
    [(what, fix)] = bad.items()
    assert code == 1 and "provider openai of mine" in what and f"127.0.0.1:{port}" in what
    assert "connection refused" in what and "providers.openai" in fix


def test_missing_weights_are_found_with_the_command_that_gets_them(quiet: Line, tmp_path: Path) -> None:
    quiet.home.mkdir(mode=0o700, parents=True)
    (quiet.home / "config.toml").write_text(f'[providers.embedded]\ngguf = "{tmp_path}/none.gguf"\n')
    code, bad = _findings(quiet)
    assert code == 1 and list(bad.values()) == ["fix: tekton models fetch"]


def test_the_settings_in_force_are_shown_checked_and_found(quiet: Line) -> None:
    quiet.home.mkdir(mode=0o700, parents=True)
    (quiet.home / "config.toml").write_text("[gateway]\nmax_streams = 7\n")
    assert json.loads(quiet("tekton", "config", "show").stdout)["gateway"]["max_streams"] == 7
    assert quiet("tekton", "config", "path").stdout == f"{quiet.home}/config.toml\n"
    assert "good" in quiet("tekton", "config", "check").stdout


def test_the_size_of_the_conversations_and_what_the_retention_did_are_told(quiet: Line) -> None:
    home = Home(quiet.home).prepare()

    async def keep_house() -> None:
        store = SqliteStore(home.database)
        await store.open()
        session = await store.sessions.create("apollo-ai")
        for _ in range(3):
            await say(store, session.id, "long ago", created_at=1.0)
        chores = Maintenance(
            store, ErrorLog(store.errors, EventStream()), Memory(retention_days=9), TokenEstimator()
        )
        await chores.look()
        await store.close()

    asyncio.run(keep_house())
    told = quiet("tekton", "doctor").stdout
    found = re.search(r"engram\.sqlite3, (\S+) MB; retention \d+s ago: (.*?) ok ", " ".join(told.split()))
    assert found is not None and float(found[1]) > 0 and "messages deleted 3" in found[2]

    async def leap() -> None:
        store = SqliteStore(home.database)
        await store.open()
        await store.settings.put(RETAINED_AT, time.time() - 40 * DAY_S)
        await store.close()

    asyncio.run(leap())
    code, bad = _findings(quiet)
    assert code == 1 and any("the last retention was on" in what for what in bad)
    home.config.write_text(f'[memory]\nclock_checked = "{time.strftime("%Y-%m-%d")}"\n')
    assert not any("the last retention" in what for what in _findings(quiet)[1])
    home.database.write_bytes(b"not a database" * 500)
    code, bad = _findings(quiet)
    assert code == 1 and any("cannot be read" in what for what in bad)
