"""`tekton doctor` and `tekton config`: each thing that is wrong on a machine is found and comes with its mend."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import psutil
import pytest
from commandline import Line


def _findings(line: Line, **environment: str) -> tuple[int, dict[str, str]]:
    """Return the exit code, and the mend of each thing that is not well, by what was found."""
    line.environment.update(environment)
    done = line("tekton", "doctor")
    assert done.stderr == "", done.stderr
    rows = done.stdout.splitlines()
    bad = {row[5:]: rows[number + 1].strip() for number, row in enumerate(rows) if row.startswith("FAIL")}
    assert all(mend.startswith("mend: ") and len(mend) > 10 for mend in bad.values()), bad
    return done.returncode, bad


def test_a_healthy_home_has_nothing_to_mend_and_looking_changes_nothing(quiet: Line) -> None:
    code, bad = _findings(quiet)
    assert (code, bad) == (0, {}) and not quiet.processes()
    assert not quiet.home.exists(), "looking made a home"


def test_permissions_that_others_could_use_are_found(quiet: Line) -> None:
    quiet.home.mkdir(mode=0o755, parents=True)
    quiet.home.chmod(0o755)
    (quiet.home / "token").write_text("t" * 40)
    (quiet.home / "token").chmod(0o644)
    code, bad = _findings(quiet)
    assert code == 1 and set(bad.values()) == {
        f"mend: chmod 700 {quiet.home}",
        f"mend: chmod 600 {quiet.home}/token",
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
    ours = {what: mend for what, mend in bad.items() if f"port {port} " in what}
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
    [(what, mend)] = bad.items()
    assert code == 1 and what.startswith(f"provider {kind}") and wanted in mend


def test_missing_weights_are_found_with_the_command_that_gets_them(quiet: Line, tmp_path: Path) -> None:
    quiet.home.mkdir(mode=0o700, parents=True)
    (quiet.home / "config.toml").write_text(f'[providers.embedded]\ngguf = "{tmp_path}/none.gguf"\n')
    code, bad = _findings(quiet)
    assert code == 1 and list(bad.values()) == ["mend: tekton models fetch"]


def test_the_settings_in_force_are_shown_checked_and_found(quiet: Line) -> None:
    quiet.home.mkdir(mode=0o700, parents=True)
    (quiet.home / "config.toml").write_text("[gateway]\nmax_streams = 7\n")
    assert json.loads(quiet("tekton", "config", "show").stdout)["gateway"]["max_streams"] == 7
    assert quiet("tekton", "config", "path").stdout == f"{quiet.home}/config.toml\n"
    assert "good" in quiet("tekton", "config", "check").stdout
