"""Authentication of the console in a browser, by the gateway's rules. Knows aiohttp, no console.

A browser cannot send `Authorization` when it opens a page, so the token is entered once in a form, never in an address,
and the browser gets a cookie that is valid until this server ends. Programs may send `Authorization: Bearer` instead.

Refusals: 400 malformed Host; 403 foreign Host or Origin, or a request that another page made; 401 no or a wrong token.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import re
import secrets

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from tekton_tui.web.page import ACCENT, GROUND, ICON, TEXT

LOGIN, COOKIE = "/login", "tekton_console"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
MAX_FORM_BYTES = 4096
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "font-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # With `no-referrer` a browser would send the form with `Origin: null`.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_PAGE = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>tekton</title>
<link rel="icon" href="{icon}"><style>
body {{ background: {ground}; color: {text}; font: 16px monospace; display: grid; place-items: center; height: 95vh; }}
form {{ padding: 2em; border: 1px solid {accent}; width: 30em; }}
input, button {{ font: inherit; padding: .5em; width: 100%; box-sizing: border-box; margin-top: 1em; }}
</style></head><body><form method="post" action="{action}"><b>tekton</b><p id="why">{why}</p>
<input type="password" name="token" autofocus autocomplete="current-password" aria-label="token">
<button>Open the console</button></form></body></html>"""


class WebAuth:
    """Makes an aiohttp middleware. `hosts` are the names this server is reached by, without port."""

    def __init__(self, token: str, hosts: frozenset[str]) -> None:
        self._token = _digest(token)
        self._session = secrets.token_urlsafe(32)
        self._hosts = hosts

    def middleware(self) -> Middleware:
        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            answer = self._refuse_foreign(request)
            if answer is None and request.path == LOGIN and request.method == "POST":
                answer = await self._log_in(request)
            if answer is None and not self._authenticated(request):
                answer = _refusal(401, "Paste the token: it lies in the file `token` of TEKTON_HOME.")
            if answer is None:
                answer = await handler(request)
            if not answer.prepared:
                answer.headers.update(HEADERS)
            return answer

        return check

    def _refuse_foreign(self, request: web.Request) -> web.Response | None:
        """Return a refusal for a request to a foreign host or from a foreign page, by Host, Origin and Sec-Fetch-Site."""
        hosts = request.headers.getall("Host", [])
        match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if match is None:
            return _refusal(400, "malformed Host header")
        if match[1].lower() not in self._hosts:
            return _refusal(403, f"the Host {match[1]} is not allowed here")
        own = {f"http://{hosts[0].lower()}", f"https://{hosts[0].lower()}"}
        origins = request.headers.getall("Origin", [])
        if any(origin.lower() not in own for origin in origins):
            return _refusal(403, f"the Origin {origins[0]} is not allowed here")
        if not origins and request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return _refusal(403, "a web page of another place may not open this")
        if not origins and request.headers.get("Upgrade") and not request.headers.get("Authorization"):
            return _refusal(403, "a WebSocket of a browser names its Origin")
        return None

    def _authenticated(self, request: web.Request) -> bool:
        cookie = request.cookies.get(COOKIE, "")
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        by_cookie = hmac.compare_digest(_digest(cookie), _digest(self._session))
        by_token = hmac.compare_digest(_digest(token.strip()), self._token) and kind.lower() == "bearer"
        return by_cookie or by_token

    async def _log_in(self, request: web.Request) -> web.Response:
        if (request.content_length or 0) > MAX_FORM_BYTES or request.content_length is None:
            return _refusal(413, "that is no token")
        given = (await request.post()).get("token", "")
        if not isinstance(given, str) or not hmac.compare_digest(_digest(given.strip()), self._token):
            return _refusal(401, "The token is not known here. It lies in the file `token` of TEKTON_HOME.")
        answer = web.Response(status=303, headers={"Location": "/"})
        answer.set_cookie(
            COOKIE, self._session, httponly=True, samesite="Strict", path="/", secure=request.secure
        )
        return answer


def _login_page(why: str) -> str:
    return _PAGE.format(
        why=html.escape(why), action=LOGIN, icon=html.escape(ICON), ground=GROUND, text=TEXT, accent=ACCENT
    )


def _refusal(status: int, why: str) -> web.Response:
    body = _login_page(why) if status == 401 else html.escape(why)
    return web.Response(status=status, text=body, content_type="text/html" if status == 401 else "text/plain")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
