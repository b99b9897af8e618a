"""The console in a browser: `textual-serve` runs one console process for each page, behind `web.auth`.

Whoever has the token controls the fleet, so the server listens on loopback unless an address is named; use an SSH tunnel
from other machines. Knows no screens.
"""

from __future__ import annotations

import asyncio
import shlex
import ssl
import sys
from pathlib import Path
from typing import Any, NamedTuple, cast

from aiohttp import web
from textual_serve.server import Server, to_int

from backend.client import attach, own_home
from backend.schema.errors import TektonError
from tekton_tui.web.auth import LOOPBACK, WebAuth
from tekton_tui.web.page import page

HOST = "127.0.0.1"
MIN_TOKEN_CHARS = 32
MAX_PAGES = 16
"""Pages open at once: each is a process."""
ANY_ADDRESS = frozenset({"0.0.0.0", "::", ""})
FONT_PIXELS = 16


class Certificate(NamedTuple):
    """The files (PEM) by which pages are encrypted; none: they are not."""

    cert: str = ""
    key: str = ""

    def context(self) -> ssl.SSLContext | None:
        """Return the server's TLS context, `None` without files.

        Raises:
            TektonError: A file is missing, cannot be used, or does not fit the other.
        """
        if not self.cert and not self.key:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.cert, self.key or None)
        except (OSError, ssl.SSLError) as error:
            reason = (error.strerror if type(error) is not ssl.SSLError else error.reason) or str(error)
            raise TektonError(
                f"{self.cert or 'no certificate'} and {self.key or 'no key'} cannot be used: {reason.lower()}",
                code="config_invalid",
            ) from error
        return context


class WebConsole(Server):
    """A server that authenticates every request, and whose pages name the host they were requested by."""

    def __init__(self, arguments: list[str], auth: WebAuth, host: str, port: int) -> None:
        command = shlex.join([sys.executable, "-P", "-m", "tekton_tui", *arguments])
        cast(Any, super()).__init__(command, host=host, port=port, title="tekton")
        self._auth = auth
        self._pages = 0

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.middlewares.append(self._auth.middleware())
        return app

    def serve(self, debug: bool = False, *, secure: ssl.SSLContext | None = None) -> None:
        """Serve until interrupted, encrypted with `secure`."""
        web.run_app(
            self._make_app(),
            host=self.host,
            port=self.port,
            print=None,
            handle_signals=True,
            ssl_context=secure,
        )

    def initialize_logging(self) -> None:
        """Log nothing: `serve` prints one line, and refusals are answers."""

    async def on_startup(self, app: web.Application) -> None:
        """Print nothing: `serve` prints where the console is."""

    async def handle_index(self, request: web.Request) -> web.Response:
        """Return the page; its WebSocket goes to the host the browser used."""
        socket = f"{'wss' if request.secure else 'ws'}://{request.host}/ws"
        pixels = to_int(request.query.get("fontsize", ""), FONT_PIXELS)
        return web.Response(text=page(self.title, socket, pixels), content_type="text/html")

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
    certificate: Certificate | None = None,
    without_tls: bool = False,
) -> int:
    """Serve until interrupted; return the exit code. An address beyond this machine needs a certificate, or `without_tls`.

    With `url` the pages show that gateway, and the token in `token_file` opens them; else this home's backend, which
    is started if none runs, and the home's token.
    """
    try:
        if host in ANY_ADDRESS:
            raise TektonError(
                "--serve-host: name the one address this is to be reached by", code="config_invalid"
            )
        secure = certificate.context() if certificate else None
        if secure is None and not without_tls and not _is_near(host):
            raise TektonError(
                f"--serve-host: {host} can be reached from other machines: the token and all that is typed could be read on "
                "the way. Give --serve-cert and --serve-key, or say that this is meant: --without-tls",
                code="config_invalid",
            )
        token, where = _token(url, token_file)
    except (TektonError, OSError, UnicodeDecodeError) as error:
        print(f"tekton-tui: {error}", file=sys.stderr)
        return 1
    name = f"[{host}]" if ":" in host else host.lower()
    arguments = ["--connect", url, "--token-file", where] if url else []
    arguments += ["--ca-file", str(Path(ca_file).expanduser().absolute())] if url and ca_file else []
    server = WebConsole(arguments, WebAuth(token, LOOPBACK | {name}), host, port)
    print(
        f"tekton-tui in a browser: {'https' if secure else 'http'}://{name}:{port}  (asks for the token in {where}; ctrl-c ends it)",
        file=sys.stderr,
    )
    try:
        server.serve(secure=secure)
    except OSError as error:
        print(
            f"tekton-tui: cannot serve on {name}:{port}: {error.strerror}; try --serve-port", file=sys.stderr
        )
        return 1
    return 0


def _is_near(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _token(url: str | None, token_file: str | None) -> tuple[str, str]:
    """Return the token that opens the pages, and the path of its file.

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
    # the home's own token is written by us, for its owner alone
    if path.stat().st_mode & 0o077 and url:
        raise TektonError(
            f"{path} can be read by others on this machine; make it yours alone: chmod 600 {path}",
            code="unauthorized",
        )
    token = path.read_text(encoding="ascii").strip()
    if len(token) < MIN_TOKEN_CHARS:
        raise TektonError(
            f"{path}: a token of at least {MIN_TOKEN_CHARS} characters is needed", code="unauthorized"
        )
    return token, str(path)


async def _start(home: Any) -> None:
    """Start the home's backend if none runs; it writes the token."""
    client = await attach(home)
    await client.close()
