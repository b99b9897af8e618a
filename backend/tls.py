"""TLS for our own sockets beyond this machine: contexts from given files, and in words why a handshake failed.

Knows certificates and no socket, no setting and no specialist. Nothing is made here: certificates come from whoever
runs the network.

TlsRefused      a file is missing, damaged, expired or does not belong to the other      config_invalid
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from backend.schema.errors import TektonError

HANDSHAKE_S = 5.0
"""Seconds a client has for its handshake before it is cut off."""
SHUTDOWN_S = 1.0
"""Seconds the other side has to say good-bye."""

_NO_TLS = (
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
    "PACKET_LENGTH",
)
_VERIFIED = {
    9: "its certificate is not valid yet (is a clock wrong?)",
    10: "its certificate has expired",
    62: "its certificate is made out to others than {host}",
    64: "its certificate is made out to others than {host}",
}
"""By the codes of X509_verify_cert_error_string(3)."""


class TlsRefused(TektonError):
    """What was given cannot be used; the message names the file and what is wrong with it."""

    code = "config_invalid"


class Trust(NamedTuple):
    """Whom to believe: a client's context, and the `name` that certificates must carry instead of the host."""

    context: ssl.SSLContext
    name: str = ""


class Certificate(NamedTuple):
    """What a certificate says of itself. `until` in unix seconds."""

    names: tuple[str, ...]
    until: float

    @property
    def days_left(self) -> int:
        return int((self.until - time.time()) // 86_400)


def serving(cert: str, key: str) -> ssl.SSLContext:
    """Return the context of a server with this chain and private key (PEM).

    Raises:
        TlsRefused: A file cannot be read or the two do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for what, path in (("certificate", cert), ("private key", key)):
        _readable(what, path)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        raise TlsRefused(f"{cert} and {key} cannot be used together: {_reason(error)}") from error
    return context


def trusting(ca: str, name: str = "") -> Trust:
    """Return a client's trust in whatever the authorities of a file (PEM) have signed.

    Raises:
        TlsRefused: The file cannot be read or holds no certificate.
    """
    _readable("file of authorities", ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise TlsRefused(f"{ca} holds no certificate of an authority: {_reason(error)}") from error
    return Trust(context, name)


def first_of(cert: str) -> str:
    """Return the first certificate (PEM) of a file: what a server shows as its own.

    Raises:
        TlsRefused: The file cannot be read.
    """
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    body, ended, _ = _readable("certificate", cert).partition(begin)[2].partition(end)
    return f"{begin}{body}{end}\n" if ended else ""


def pinning(pem: str) -> Trust:
    """Return a client's trust in one certificate and in no other, whatever names it carries.

    Raises:
        TlsRefused: It is no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError) as error:
        raise TlsRefused(f"no certificate: {_reason(error)}") from error
    return Trust(context)


def rehearse(server: ssl.SSLContext, trust: Trust, host: str = "") -> Certificate:
    """Shake hands within this process and return what the server showed: what would fail later fails here.

    Raises:
        ssl.SSLError: As a client would meet it.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    name = (trust.name or host or None) if trust.context.check_hostname else None
    client = trust.context.wrap_bio(to_client, to_server, server_hostname=name)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, other, client, other):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return _read(client.getpeercert() or {})


def check(cert: str, key: str, ca: str = "") -> Certificate | None:
    """Look at the files of a configuration as a whole, before anybody depends on them; `None` when it names none.

    Raises:
        TlsRefused: One of them is missing, damaged, expired, or does not fit the others.
    """
    if bool(cert) != bool(key):
        raise TlsRefused("tls.cert and tls.key belong together: set both or neither")
    if not cert:
        return None
    server = serving(cert, key)
    found: list[Certificate] = []
    trusts = [pinning(first_of(cert))] + ([trusting(ca)] if ca else [])
    for trust in trusts:
        trust.context.check_hostname = False
        try:
            found.append(rehearse(server, trust))
        except ssl.SSLError as error:
            by = f" (looked up in {ca})" if trust is not trusts[0] else ""
            raise TlsRefused(f"{cert} cannot be used: {failure(error, 'this host')}{by}") from error
    return found[0]


def failure(error: BaseException, host: str) -> str:
    """Return in words why a TLS connection to a host did not come about; empty when it was nothing of TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        words = _VERIFIED.get(error.verify_code, f"its certificate is not trusted: {error.verify_message}")
        return words.format(host=host)
    if isinstance(error, ssl.SSLError):
        if any(word in (error.reason or "") for word in _NO_TLS):
            return "it does not speak TLS there"
        return f"TLS failed: {_reason(error)}"
    if isinstance(error, ConnectionError):
        return "it closed the connection during the TLS handshake (does it speak TLS there?)"
    return ""


def is_loopback(host: str) -> bool:
    """Return whether an address or name stays on this machine, where nothing is encrypted."""
    return host.startswith("127.") or host in ("::1", "localhost")


def _readable(what: str, path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:  # workers import little: no pathlib here
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not PEM"
        raise TlsRefused(f"the {what} {path} cannot be read: {why}") from error


def _no_password() -> str:
    raise TlsRefused(
        "the private key asks for a password; give one without (openssl pkey -in KEY -out PLAIN)"
    )


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    return (reason or str(error)).replace("_", " ").lower()


def _read(peer: Mapping[str, Any]) -> Certificate:
    names = tuple(str(value) for _, value in peer.get("subjectAltName", ()))
    return Certificate(names, ssl.cert_time_to_seconds(str(peer["notAfter"])) if peer else 0.0)
