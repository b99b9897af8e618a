"""The console in a browser: `textual-serve` runs one console for each page, behind the gate of `web_gate`.

Whoever has the token controls the fleet, so it listens on loopback unless an address is named; use an SSH tunnel from
elsewhere. Knows no screens.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
from pathlib import Path
from typing import Any

import aiohttp_jinja2
from aiohttp import web
from textual_serve.server import Server, to_int

from backend.client import attach, own_home
from backend.schema.errors import TektonError
from tekton_tui.web_gate import LOOPBACK, Gate

HOST = "127.0.0.1"
MIN_TOKEN_CHARS = 32
MAX_PAGES = 16
"""Pages open at once: each is a process."""
ANY_ADDRESS = frozenset({"0.0.0.0", "::", ""})
FONT_PIXELS = 16


class WebConsole(Server):
    """A server whose every answer passes the gate, and whose pages name the host they were asked by."""

    def __init__(self, arguments: list[str], gate: Gate, host: str, port: int) -> None:
        command = shlex.join([sys.executable, "-m", "tekton_tui", *arguments])
        super().__init__(command, host=host, port=port, title="tekton")
        self._gate = gate
        self._pages = 0

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.middlewares.append(self._gate.middleware())
        return app

    def initialize_logging(self) -> None:
        """Leave the terminal to our own line; a refusal is an answer, not a log."""

    async def on_startup(self, app: web.Application) -> None:
        """Say nothing: `serve` says where the console is."""

    @aiohttp_jinja2.template("app_index.html")
    async def handle_index(self, request: web.Request) -> dict[str, Any]:
        """Return what the page needs; its WebSocket goes to the host the browser knows."""
        return {
            "font_size": to_int(request.query.get("fontsize", ""), FONT_PIXELS),
            "app_websocket_url": f"{'wss' if request.secure else 'ws'}://{request.host}/ws",
            "config": {"static": {"url": "/static/"}},
            "application": {"name": self.title},
        }

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Run a console for a page, as long as the page is open."""
        if self._pages >= MAX_PAGES:
            raise web.HTTPTooManyRequests(text=f"{MAX_PAGES} consoles are open already")
        self._pages += 1
        try:
            return await super().handle_websocket(request)
        finally:
            self._pages -= 1


def serve(
    port: int,
    *,
    host: str = HOST,
    url: str | None = None,
    token_file: str | None = None,
    ca_file: str | None = None,
) -> int:
    """Serve until interrupted; return the exit code.

    With `url` the pages show that gateway, and the token in `token_file` opens them; else this home's backend, which
    is started if none runs, and the home's token.
    """
    try:
        if host in ANY_ADDRESS:
            raise TektonError(
                "--serve-host: name the one address this is to be reached by", code="config_invalid"
            )
        token, where = _token(url, token_file)
    except (TektonError, OSError, UnicodeDecodeError) as error:
        print(f"tekton-tui: {error}", file=sys.stderr)
        return 1
    name = f"[{host}]" if ":" in host else host.lower()
    arguments = ["--connect", url, "--token-file", where] if url else []
    arguments += ["--ca-file", str(Path(ca_file).expanduser().absolute())] if url and ca_file else []
    server = WebConsole(arguments, Gate(token, LOOPBACK | {name}), host, port)
    print(
        f"tekton-tui in a browser: http://{name}:{port}  (asks for the token in {where}; ctrl-c ends it)",
        file=sys.stderr,
    )
    try:
        server.serve()
    except OSError as error:
        print(
            f"tekton-tui: cannot serve on {name}:{port}: {error.strerror}; try --serve-port", file=sys.stderr
        )
        return 1
    return 0


def _token(url: str | None, token_file: str | None) -> tuple[str, str]:
    """Return the token that opens the pages, and where it lies.

    Raises:
        TektonError: There is none, it is too short, or the backend could not be started.
    """
    if url:
        if not token_file:
            raise TektonError("--connect needs --token-file", code="unauthorized")
        path = Path(token_file).expanduser().absolute()
    else:
        home = own_home()
        asyncio.run(_start(home))
        path = home.token
    token = path.read_text(encoding="ascii").strip()
    if len(token) < MIN_TOKEN_CHARS:
        raise TektonError(
            f"{path}: a token of at least {MIN_TOKEN_CHARS} characters is needed", code="unauthorized"
        )
    return token, str(path)


async def _start(home: Any) -> None:
    """See that the home's backend runs: with it the token exists."""
    client = await attach(home)
    await client.close()
