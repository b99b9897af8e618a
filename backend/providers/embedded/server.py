"""The embedded model server: llama.cpp's own HTTP server in a process of its own, shared by all specialists.

`python -m backend.providers.embedded.server --ready-fd N`, the platform's settings as JSON on stdin. Writes one line
of facts to the ready pipe when it serves; ends on TERM. What the library prints goes to the process's log.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads would starve everybody else

import argparse
import ctypes.util
import platform
import secrets
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import psutil

from backend.config import ConfigError, Settings
from backend.home import Home
from backend.identity import own_identity
from backend.providers.base import ModelNotFound
from backend.providers.embedded import PROVIDER
from backend.providers.embedded.settings import EmbeddedSettings
from backend.providers.embedded.weights import FILE_NAME, find, verify
from backend.wire import encode_line

MAX_SLOTS = 20
MIN_SLOTS = 2
MAX_THREADS = 8
KV_BYTES_PER_TOKEN = 23 * 1024
"""Of the shipped model at 16-bit keys and values."""
KV_MEMORY_SHARE = 0.25
"""Part of the free memory that slots may take."""
BATCH, MICRO_BATCH = 512, 256
PROMPT_CACHE_MIB = 256


class CannotServe(Exception):
    """The machine cannot run the embedded model; the text says why in plain words."""


def main(arguments: list[str] | None = None) -> int:
    """Serve until TERM; return the exit code."""
    parser = argparse.ArgumentParser(prog="embedded model server")
    parser.add_argument("--ready-fd", type=int, required=True)
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    try:
        own = PROVIDER.own(msgspec.json.decode(sys.stdin.buffer.read() or b"{}", type=Settings))
        path = find(own, Home.from_environment())
        if path.name == FILE_NAME:
            verify(path)
        server, facts = start(path, own)
    except (CannotServe, ModelNotFound, ConfigError, msgspec.MsgspecError) as error:
        print(f"the embedded model cannot run: {error}", file=sys.stderr, flush=True)
        return 1
    os.write(options.ready_fd, encode_line(facts))
    os.close(options.ready_fd)
    stop.wait()
    del server
    os._exit(0)  # the library's threads do not end by themselves


def start(path: Path, settings: EmbeddedSettings) -> tuple[Any, dict[str, object]]:
    """Load the model and serve it on a free loopback port; return the server and its facts.

    Raises:
        CannotServe: The processor or the system lacks what the library needs, or the file is no model.
    """
    check_machine()
    try:
        import xllamacpp as library
    except ImportError as error:
        raise CannotServe(f"the runtime cannot be loaded: {error}. Reinstall with `make setup`.") from error
    runtime: Any = library
    slots, threads = sized_slots(settings), sized_threads(settings)
    api_key = secrets.token_urlsafe(24)
    params = parameters(library, path, settings, slots, threads)
    params.api_keys = [api_key]
    try:
        server = runtime.Server(params)
    except RuntimeError as error:
        raise CannotServe(f"{path} could not be loaded: {error}") from error
    own = own_identity()
    facts: dict[str, object] = {
        "url": server.listening_address,
        "api_key": api_key,
        "pid": os.getpid(),
        "process_start": own.start,
        **own.metadata(),
        "model": path.name.removesuffix(".gguf"),
        "slots": slots,
        "context": settings.context,
    }
    return server, facts


def parameters(library: Any, path: Path, settings: EmbeddedSettings, slots: int, threads: int) -> Any:
    """Return llama.cpp's parameters: a slot a specialist, continuous batching, loopback, no page of its own."""
    params = library.CommonParams()
    params.model.path = str(path)
    params.model_alias = {"embedded"}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = slots
    params.n_ctx = slots * settings.context
    params.n_batch, params.n_ubatch = BATCH, MICRO_BATCH
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_threads_http = slots + 4
    params.n_gpu_layers = 0
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.ui, params.offline, params.verbosity = False, True, 1
    params.endpoint_slots, params.endpoint_metrics = True, True
    params.sampling.temp = settings.temperature
    return params


def sized_slots(settings: EmbeddedSettings) -> int:
    """Return the slots: as configured, else as many as a share of the free memory holds, 2 to 20."""
    if settings.slots:
        return settings.slots
    room = psutil.virtual_memory().available * KV_MEMORY_SHARE
    return max(MIN_SLOTS, min(MAX_SLOTS, int(room / (settings.context * KV_BYTES_PER_TOKEN))))


def sized_threads(settings: EmbeddedSettings) -> int:
    """Return the threads: as configured, else one a core, at most 8."""
    return settings.threads or min(
        MAX_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )


def check_machine() -> None:
    """Say in plain words what the runtime would otherwise die of.

    Raises:
        CannotServe: No AVX2, or no OpenMP library.
    """
    if platform.system() != "Linux":
        return
    if platform.machine() in ("x86_64", "AMD64"):
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if " avx2" not in flags:
            raise CannotServe(
                "this processor has no AVX2, which the embedded model needs; connect Ollama instead"
            )
    if ctypes.util.find_library("gomp") is None and not Path("/usr/lib/libgomp.so.1").exists():
        raise CannotServe("the OpenMP library is missing; install it, on Debian: apt-get install libgomp1")


if __name__ == "__main__":
    sys.exit(main())
