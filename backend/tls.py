"""TLS for our own sockets beyond this machine: contexts from given files, and why a handshake failed, in words.

Knows no socket, no setting and no specialist. Certificates are not made here: they come from whoever runs the network.

TlsRefused      a file is missing, damaged or expired, or two do not fit each other      config_invalid
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
"""Seconds the other side has to answer the closing of the connection."""

_NO_TLS = (
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
    "PACKET_LENGTH",
)
_VERIFIED = {
    9: "its certificate is not valid yet (is a clock wrong?)",
    10: "its certificate has expired (or this machine's clock is ahead)",
    62: "its certificate is made out to others than {host}",
    64: "its certificate is made out to others than {host}",
}
"""By the codes of X509_verify_cert_error_string(3)."""


class TlsRefused(TektonError):
    """A file cannot be used; the message names it and says what is wrong with it."""

    code = "config_invalid"


class Trust(NamedTuple):
    """Which certificates a client accepts: its context, and the `name` they must carry instead of the host's."""

    context: ssl.SSLContext
    name: str = ""


class Certificate(NamedTuple):
    """The names of a certificate, and until when it is valid, in unix seconds."""

    names: tuple[str, ...]
    until: float

    @property
    def days_left(self) -> int:
        """Whole days until it expires; negative if it has."""
        return int((self.until - time.time()) // 86_400)


def serving(cert: str, key: str) -> ssl.SSLContext:
    """Return the context of a server with a certificate chain and its private key (PEM files).

    Raises:
        TlsRefused: A file cannot be read, or the two do not fit each other.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # 1.0 and 1.1 are out of use since RFC 8996
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for what, path in (("certificate", cert), ("private key", key)):
        _readable(what, path)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        raise TlsRefused(f"{cert} and {key} cannot be used together: {_reason(error)}") from error
    return context


def trusting(ca: str, name: str = "") -> Trust:
    """Return a client's trust in every certificate signed by an authority of a file (PEM).

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
    """Return the first certificate of a file (PEM), which is a server's own.

    Raises:
        TlsRefused: The file cannot be read.
    """
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    body, ended, _ = _readable("certificate", cert).partition(begin)[2].partition(end)
    return f"{begin}{body}{end}\n" if ended else ""


def pinning(pem: str) -> Trust:
    """Return a client's trust in one certificate only, whatever names it carries.

    Raises:
        TlsRefused: The text is no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # without it OpenSSL looks on for the signer, and a certificate signed by an authority could not be pinned
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError) as error:
        raise TlsRefused(f"no certificate: {_reason(error)}") from error
    return Trust(context)


def rehearse(server: ssl.SSLContext, trust: Trust) -> Certificate:
    """Do a handshake within this process and return the server's certificate, so that it fails now and not later.

    Raises:
        ssl.SSLError: The error that a client would get.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust.context.wrap_bio(to_client, to_server)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    # TLS 1.2 takes two rounds, 1.3 fewer; a step too many does nothing
    # in memory, without a socket: what a client would be told is known before one comes
    for side in (client, other, client, other):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return _read(client.getpeercert() or {})


def check(cert: str, key: str, ca: str = "") -> Certificate | None:
    """Check the files of a configuration together, before they are needed; return `None` if it names none.

    Raises:
        TlsRefused: One of them is missing, damaged or expired, or does not fit the others.
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
    """Return in words why a TLS connection to a host failed; empty if the error has nothing to do with TLS."""
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
    """Return whether an address or name is this machine's own: connections there need no TLS and no token."""
    return host in ("::1", "localhost") or (host.startswith("127.") and host.replace(".", "").isdigit())


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
