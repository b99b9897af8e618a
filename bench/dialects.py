"""Gateway CPU for a streamed token in each dialect, relative to chat completions, and the first token's way.

    python bench/dialects.py [--tokens 40000] [--rounds 3]

A real backend with a scripted specialist; the client reads raw bytes and parses nothing. What is measured is the CPU time
of the backend's process, so other work of the machine disturbs it little. Rounds go through the dialects in turn; the
median counts. Goal: at most 1.3 times chat completions.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.gateway.serving import Backend, start_backend

GOAL = 1.3


def requests_for(text: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return path and body of one streamed question in each dialect."""
    said = [{"role": "user", "content": text}]
    return {
        "chat completions": ("/v1/chat/completions", {"messages": said}),
        "Responses": ("/v1/responses", {"input": text, "store": False}),
        "Messages": ("/v1/messages", {"messages": said, "max_tokens": 1_000_000}),
        "Ollama": ("/api/chat", {"messages": said}),
    }


def ask(http: httpx.Client, path: str, body: dict[str, Any]) -> tuple[float, int]:
    """Return seconds to the first byte behind the head of a stream, and its bytes."""
    began, first, size = time.perf_counter(), 0.0, 0
    with http.stream("POST", path, json={"model": "apollo", "stream": True, **body}) as answer:
        answer.raise_for_status()
        for piece in answer.iter_raw():
            first = first or time.perf_counter() - began
            size += len(piece)
    return first, size


def measure(backend: Backend, tokens: int, rounds: int) -> dict[str, tuple[float, float, int]]:
    """Return microseconds of CPU a token, milliseconds to the first byte, and bytes a token, by dialect."""
    process = psutil.Process(backend.process.pid)
    cpu: dict[str, list[float]] = {}
    firsts: dict[str, list[float]] = {}
    sizes: dict[str, int] = {}
    with httpx.Client(
        base_url=backend.url, headers=backend.auth("chat"), trust_env=False, timeout=300.0
    ) as http:
        for number in range(rounds + 1):  # the first one warms up
            for name, (path, body) in requests_for(f"[[repeat {tokens}]]").items():
                before = process.cpu_times()
                first, size = ask(http, path, body)
                after = process.cpu_times()
                if number:
                    used = after.user + after.system - before.user - before.system
                    cpu.setdefault(name, []).append(used / tokens * 1e6)
                    firsts.setdefault(name, []).append(first * 1e3)
                    sizes[name] = size // tokens
    return {
        name: (statistics.median(cpu[name]), statistics.median(firsts[name]), sizes[name]) for name in cpu
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        backend = start_backend(Path(folder) / "home", launch=("apollo",))
        try:
            found = measure(backend, options.tokens, options.rounds)
        finally:
            backend.stop()
    base = found["chat completions"][0]
    worst = 0.0
    for name, (cpu, first, size) in found.items():
        worst = max(worst, cpu / base)
        print(
            f"{name:<17} {cpu:6.1f} µs CPU a token  {cpu / base:4.2f} × chat  first byte {first:5.1f} ms  {size} bytes a token"
        )
    print(f"goal {GOAL} ×: {'kept' if worst <= GOAL else 'missed'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
