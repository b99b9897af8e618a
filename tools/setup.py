"""Make and fill the environment of this checkout, and remove it again: what `make` runs before anything else.

`python tools/setup.py install VENV run|dev` · `python tools/setup.py remove VENV [--force]`. The standard library alone,
readable by any Python from 3.8 on. One set-up at a time: others wait for it, then find its work done. One that was interrupted is
noticed and made anew, because what it left may look whole. Settings of pip that send packages elsewhere are not heard.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
ELSEWHERE = (
    "TARGET",
    "PREFIX",
    "ROOT",
    "DRY_RUN",
    "REQUIRE_HASHES",
    "NO_DEPS",
    "EDITABLE",
    "PYTHON",
    "CONSTRAINT",
    "REQUIREMENT",
)
"""Variables `PIP_…` that would install into another place, or not at all; where packages come from stays as it is set."""
EXTRAS = {"run": ".", "dev": ".[dev]"}


def main(words):
    """Do one of the two; return the exit code."""
    verb, venv = words[0], Path(words[1])
    if verb == "remove":
        return remove(venv, force="--force" in words[2:])
    if sys.version_info < OLDEST:
        print("tekton-tui needs Python 3.11 or newer; name one: make PYTHON=python3.12", file=sys.stderr)
        return 1
    venv.parent.mkdir(parents=True, exist_ok=True)
    with open(str(venv) + ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f"-- another make is setting up {venv}: waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        return install(venv, words[2])


def install(venv, what):
    """Bring the environment up to `run` or `dev`; return the exit code."""
    done, unfinished = venv / ("." + what), venv / ".unfinished"
    wanted = [ROOT / "pyproject.toml", ROOT / "constraints.txt"]
    if (
        done.exists()
        and not unfinished.exists()
        and all(done.stat().st_mtime >= file.stat().st_mtime for file in wanted)
    ):
        return 0
    if venv.exists() and (unfinished.exists() or not has_pip(venv)):
        print(f"-- an earlier set-up of {venv} was interrupted: making it anew", flush=True)
        shutil.rmtree(str(venv))
    environment = {
        name: value for name, value in os.environ.items() if name not in {"PIP_" + word for word in ELSEWHERE}
    }
    environment.pop("PYTHONHOME", None)
    environment.update(PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1")
    if not venv.exists():
        print(f"-- making the environment {venv}", flush=True)
        venv.mkdir()
        unfinished.touch()
        if code := subprocess.call([sys.executable, "-m", "venv", str(venv)], env=environment):
            print(
                "the environment could not be made; on Debian and Ubuntu: apt-get install python3-venv",
                file=sys.stderr,
            )
            return code
    unfinished.touch()
    more = " and what its tests need" if what == "dev" else ""
    print(f"-- installing tekton-tui{more} (a minute or two, once)", flush=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "-c", "constraints.txt", "-e", EXTRAS[what]]
    if code := subprocess.call(pip, env=environment, cwd=str(ROOT)):
        if code > 0:  # it ended by itself and took back what it had begun; a signal leaves the mark
            unfinished.unlink()
        return code
    subprocess.call(
        [str(venv / "bin" / "python"), "-m", "compileall", "-q", "backend", "tekton_tui"], cwd=str(ROOT)
    )
    for name in ("run", "dev") if what == "dev" else ("run",):
        (venv / ("." + name)).touch()
    unfinished.unlink()
    return 0


def has_pip(venv):
    """Return whether an environment works as far as pip."""
    command = [str(venv / "bin" / "python"), "-c", "import pip"]
    try:
        return subprocess.call(command, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def remove(venv, *, force):
    """Remove the environment, unless programs run from it; return the exit code."""
    pids = running_from(venv)
    if pids and not force:
        print(
            f"{len(pids)} processes run from {venv} (pid {', '.join(pids)}): end them first with "
            f"`{venv}/bin/tekton stop --fleet`, or remove all the same with `make clean FORCE=1`",
            file=sys.stderr,
        )
        return 1
    shutil.rmtree(venv, ignore_errors=True)
    if os.path.exists(f"{venv}.lock"):
        os.remove(f"{venv}.lock")
    return 0


def running_from(venv):
    """Return the pids of processes whose program lies in the environment, beside this one."""
    inside = str(venv.resolve()) + os.sep
    listed = subprocess.run(
        ["ps", "-axo", "pid=,command="], stdout=subprocess.PIPE, text=True, check=False
    ).stdout
    rows = [line.split(None, 1) for line in listed.splitlines()]
    return [
        row[0] for row in rows if len(row) == 2 and row[1].startswith(inside) and row[0] != str(os.getpid())
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
