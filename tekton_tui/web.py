"""The console in a browser, on this machine only: `textual-serve` runs one console for each page.

Whoever reaches the page controls the fleet, so it listens on loopback alone; use an SSH tunnel from elsewhere.
"""

from __future__ import annotations

import sys

HOST = "127.0.0.1"


def serve(port: int) -> int:
    """Serve until interrupted; return the exit code."""
    from textual_serve.server import Server

    server = Server(f"{sys.executable} -m tekton_tui", host=HOST, port=port, title="tekton")
    print(f"tekton-tui in a browser: http://{HOST}:{port}  (ctrl-c ends it)", file=sys.stderr)
    server.serve()
    return 0
