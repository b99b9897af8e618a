"""A gigabyte of attachments, offered in ten tries of 100 MB: each refused with its status, and the backend's memory flat.

    python bench/large_bodies.py [--tries 10]

The client sends all of a body that says its length before it reads the answer, as the vendors' libraries do.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.gateway.serving import Backend, start_backend

GROWTH_MB = 48
"""How much memory may have grown at the end."""


def attachment() -> bytes:
    """Return a question with a file of 75 MB in base64."""
    file = {"type": "file", "file": {"file_data": "data:a/b;base64,PLACE"}}
    body = json.dumps({"model": "apollo", "messages": [{"role": "user", "content": [file]}]}).encode()
    return body.replace(b"PLACE", b"QUJD" * (25 << 20))


def offer(backend: Backend, tries: int) -> tuple[list[int], float, int]:
    """Return the statuses, the seconds all tries took, and by how many bytes the backend grew."""
    process, body = psutil.Process(backend.process.pid), attachment()
    before, began = process.memory_info().rss, time.monotonic()
    with httpx.Client(
        base_url=backend.url, headers=backend.auth("chat"), trust_env=False, timeout=60.0
    ) as http:
        statuses = [http.post("/v1/chat/completions", content=body).status_code for _ in range(tries)]
    return statuses, time.monotonic() - began, process.memory_info().rss - before


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        backend = start_backend(Path(folder) / "home", launch=("apollo",))
        try:
            statuses, took_s, grown = offer(backend, options.tries)
        finally:
            backend.stop()
    refused = statuses.count(413)
    print(
        f"{refused} of {len(statuses)} tries of 100 MB refused (413) in {took_s:.1f} s; memory {grown / 2**20:+.0f} MB"
    )
    kept = refused == len(statuses) and grown < GROWTH_MB << 20
    print(f"goal, all refused and less than {GROWTH_MB} MB more: {'kept' if kept else 'missed'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
