"""Who may call: token, scope, Host and Origin, decided from the connection itself at each endpoint.

Nothing here looks at a reconstructed URL: a crafted Host header must not choose what is checked. A token is accepted
in `Authorization: Bearer`, on WebSockets too, or else in Anthropic's `x-api-key`.

Refused
├── 400 malformed Host      ├── 403 foreign Host or Origin, scope too small      ├── 401 no or wrong token
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import tomllib
from dataclasses import dataclass

import msgspec
from msgspec import Struct
from starlette.requests import HTTPConnection

from backend.config import ConfigError, Settings
from backend.gateway.protocols import TRUST
from backend.home import Home, read_token, write_private
from backend.orchestration.action import SCOPE_RANK, Scope
from backend.schema.errors import TektonError

# in base64, as we make them, 192 bits: nobody guesses one
MIN_TOKEN_CHARS = 32
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})


class Refused(TektonError):
    """A call was turned away before it was read. `status` is the HTTP status; the message is the reason."""

    def __init__(self, status: int, reason: str, token: str = "") -> None:
        super().__init__(reason, code="unauthorized" if status == 401 else "forbidden")
        self.status = status
        self.token = token
        """Label of the token, where one was known."""


@dataclass(frozen=True)
class Principal:
    """Who calls: the label of the token and what it allows."""

    label: str
    scope: Scope

    def may(self, scope: Scope) -> bool:
        return SCOPE_RANK[self.scope] >= SCOPE_RANK[scope]


class _ScopedToken(Struct, forbid_unknown_fields=True):
    label: str
    scope: Scope
    sha256: str


class _TokenFile(Struct, forbid_unknown_fields=True):
    token: list[_ScopedToken] = []


def read_or_make_token(home: Home) -> str:
    """Return the platform's token, made at first start, readable by the user alone."""
    if not home.token.exists():
        write_private(home.token, secrets.token_urlsafe(48).encode() + b"\n")
    token = read_token(home.token)
    # a copy, or an archive that was unpacked, may be readable by others
    if home.token.stat().st_mode & 0o077:
        home.token.chmod(0o600)
    if len(token) < MIN_TOKEN_CHARS:
        raise ConfigError(
            f"{home.token}: the token is shorter than {MIN_TOKEN_CHARS} characters. Remove the file; a new one is made."
        )
    return token


class Guard:
    """Authentication and authorization of every endpoint. Built once per gateway; `check` takes microseconds."""

    def __init__(self, home: Home, settings: Settings, host: str) -> None:
        token = read_or_make_token(home)
        self._tokens: list[tuple[bytes, Principal]] = [(_digest(token), Principal("owner", "control"))]
        self._tokens += _scoped_tokens(home)
        self._hosts = {*_LOOPBACK, *(name.lower() for name in settings.gateway.allowed_hosts)}
        if host not in _ANY_ADDRESS:
            self._hosts.add(f"[{host}]" if ":" in host else host.lower())
        self._origins = set(settings.gateway.allowed_origins)

    def check_place(self, connection: HTTPConnection) -> None:
        """Check Host and Origin, which need no token.

        Raises:
            Refused: The Host is malformed or not ours, or a web page of another place calls.
        """
        headers = connection.headers
        hosts = headers.getlist("host")
        # of two Host headers a proxy in front of us may have judged the other one
        match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if match is None:
            raise Refused(400, "malformed Host header")
        # a web page may let its own name resolve to 127.0.0.1 (DNS rebinding) and would then pass for this origin:
        # the Host header still says its name
        if match[1].lower() not in self._hosts:
            raise Refused(403, f"the Host {match[1]} is not allowed here; see gateway.allowed_hosts")
        origins = headers.getlist("origin")
        # A page that this gateway served itself names the address it was loaded from, under either scheme behind a proxy.
        own = {f"http://{hosts[0].lower()}", f"https://{hosts[0].lower()}"}
        if any(origin.lower() not in own and origin not in self._origins for origin in origins):
            raise Refused(403, f"the Origin {origins[0]} is not allowed here; see gateway.allowed_origins")
        # Browsers leave Origin out of some requests, such as those of an <img>, but say where they come from.
        if not origins and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Refused(403, "a web page of another place may not call")

    def check(self, connection: HTTPConnection, scope: Scope) -> Principal:
        """Check place, token and scope of a call and return who calls.

        Raises:
            Refused: With the status and the reason.
        """
        self.check_place(connection)
        principal = self._principal(connection)
        if not principal.may(scope):
            raise Refused(
                403,
                f"the token {principal.label!r} has scope {principal.scope}; this needs {scope}",
                principal.label,
            )
        # from here on the listener does not close this connection in favour of a newer one
        if trust := connection.scope.get("extensions", {}).get(TRUST):
            trust()
        return principal

    def _principal(self, connection: HTTPConnection) -> Principal:
        values = connection.headers.getlist("authorization")
        if not values:  # Anthropic's clients have a header of their own
            values = [f"Bearer {key}" for key in connection.headers.getlist("x-api-key")]
        if not values:
            raise Refused(
                401,
                "no token: send `Authorization: Bearer <token>`; it lies in the file `token` of TEKTON_HOME",
            )
        kind, _, token = values[0].partition(" ")
        if len(values) > 1 or kind.lower() != "bearer" or not token:
            raise Refused(401, "only one `Authorization: Bearer <token>` is accepted")
        digest = _digest(token.strip())
        found: Principal | None = None
        for known, principal in self._tokens:  # compare every token, so that timing reveals nothing
            if hmac.compare_digest(known, digest):
                found = principal
        if found is None:
            raise Refused(401, "the token is not known here")
        return found


def _digest(token: str) -> bytes:
    # Digests are all of one length, so comparing them shows nothing of the token, its length included.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _scoped_tokens(home: Home) -> list[tuple[bytes, Principal]]:
    """Read the further tokens of `tokens.toml`: label, scope and the SHA-256 of each, never the token itself."""
    path = home.root / "tokens.toml"
    if not path.exists():
        return []
    try:
        file = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _TokenFile)
        return [(bytes.fromhex(row.sha256), Principal(row.label, row.scope)) for row in file.token]
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError) as error:
        raise ConfigError(
            f"{path}: expected [[token]] tables with label, scope and sha256: {error}"
        ) from error


def check_bind(host: str, token: str) -> None:
    """Refuse to listen beyond this machine without a long token.

    Raises:
        ConfigError: `host` is not loopback and the token is too short.
    """
    if host not in ("127.0.0.1", "::1", "localhost") and len(token) < MIN_TOKEN_CHARS:
        raise ConfigError(f"gateway.host = {host!r} needs a token of at least {MIN_TOKEN_CHARS} characters")
