"""The shell's own pipe over the real embedded model, alive and dead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.home import Home
from backend.providers.embedded import EmbeddedSettings, weights
from backend.schema.errors import TektonError
from tests.cli.commandline import Line


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Line]:
    one = Line(tmp_path / "home", TEKTON_PROVIDER="embedded")
    try:
        weights.find(EmbeddedSettings(), Home(one.home))
    except TektonError as missing:
        pytest.skip(missing.message)
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home" / "config.toml").write_text("[providers.embedded]\nmax_tokens = 16\n")
    try:
        yield one
    finally:
        one.end()


@pytest.mark.e2e
@pytest.mark.model
@pytest.mark.timeout(180)
def test_an_answer_goes_through_two_specialists_into_a_file_and_a_dead_one_leaves_nothing(
    real: Line, tmp_path: Path
) -> None:
    assert real("tekton", "launch", "apollo", "athena").returncode == 0
    done = real.shell('set -o pipefail; echo "x" | aish apollo | aish athena > out.txt', tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (tmp_path / "out.txt").read_text().strip()
    assert real("tekton", "kill", "apollo").returncode == 0
    done = real.shell('set -o pipefail; echo "x" | aish apollo | aish athena > none.txt', tmp_path)
    assert done.returncode != 0 and (tmp_path / "none.txt").read_text() == ""
    assert "apollo: not_running" in done.stderr
    line = real("aish", "-c", 'echo "x" | athena | apollo')
    assert (line.returncode, line.stdout) == (4, "") and "stage 3 apollo: not_running" in line.stderr
