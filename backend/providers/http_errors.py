"""Failures of HTTP upstreams as provider errors: the status, the upstream's own words, and what to do.

Knows no vendor's library; errors are told apart by what they are and what caused them.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time

from msgspec import Struct

from backend.providers.base import (
    ContextOverflow,
    ModelNotFound,
    ProviderAuth,
    ProviderError,
    ProviderFault,
    ProviderRateLimited,
    ProviderUnavailable,
)
from backend.providers.redact import redact

EVIDENCE_CHARS = 4_000
OVERFLOW_WORDS = (
    "context_length", "context length", "context window", "context size", "exceed_context", "too many tokens",
    "prompt is too long", "maximum context", "input length and `max_tokens` exceed",
)  # fmt: skip
"""How upstreams say that a prompt does not fit, small letters."""
NETWORK_LIBRARIES = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "anyio", "h11", "h2", "ssl"})
"""An error whose class comes from one of these, or is an OSError, is the connection's."""


class Upstream(Struct, frozen=True):
    """Who was asked, where, about which model; where its key is set; what must not be shown."""

    who: str
    where: str
    model: str = ""
    key_hint: str = "its key"
    secret: str = ""

    def evidence(self, text: str) -> str:
        return redact(text, self.secret)[:EVIDENCE_CHARS]


def from_status(upstream: Upstream, status: int, body: str, headers: Mapping[str, str]) -> ProviderError:
    """Return the error for an upstream's status and body."""
    who, model = upstream.who, upstream.model
    evidence = upstream.evidence(f"HTTP {status}\n{body}")
    words = body.lower()
    match status:
        case 400 | 413 | 422 | 500 if any(word in words for word in OVERFLOW_WORDS) or status == 413:
            return ContextOverflow(
                f"the prompt does not fit the context of {model}: shorten it", evidence=evidence
            )
        case 401:
            return ProviderAuth(f"{who} refused the key (401): check {upstream.key_hint}", evidence=evidence)
        case 402:
            return ProviderAuth(
                f"{who} wants payment (402): check the account behind {upstream.key_hint}", evidence=evidence
            )
        case 403:
            return ProviderAuth(f"{who} forbids this (403): the key may not use {model}", evidence=evidence)
        case 404 if "model" in words or not body.strip():
            return ModelNotFound(f"{who} has no model {model!r} (404)", evidence=evidence)
        case 404:
            return ModelNotFound(
                f"{who} does not know {model!r} or the address {upstream.where} is not an API (404)",
                evidence=evidence,
            )
        case 408 | 504:
            return ProviderUnavailable(f"{who} gave up waiting ({status})", evidence=evidence)
        case 429:
            seconds = retry_after(headers)
            wait = f"; it asks to wait {seconds:.0f} s" if seconds is not None else ""
            detail: dict[str, object] = {"retry_after_s": seconds} if seconds is not None else {}
            return ProviderRateLimited(f"{who} limits the rate (429){wait}", evidence=evidence, detail=detail)
        case 529:
            return ProviderUnavailable(f"{who} is overloaded (529)", evidence=evidence)
        case _ if status >= 500:
            return ProviderUnavailable(f"{who} failed inside ({status})", evidence=evidence)
        case _:
            return ProviderFault(f"{who} did not accept the request ({status})", evidence=evidence)


def from_connection(upstream: Upstream, error: BaseException) -> ProviderError:
    """Return the error for a connection that could not be made, or broke, or carried something malformed."""
    who, where = upstream.who, upstream.where
    causes = chain(error)
    evidence = upstream.evidence(" ← ".join(f"{type(e).__name__}: {e}" for e in causes))
    text = " ".join(str(cause) for cause in causes).lower()
    names = " ".join(type(cause).__name__ for cause in causes).lower()
    if _is(socket.gaierror, causes) or "name or service" in text or "nodename" in text:
        return ProviderUnavailable(f"{who}: the name in {where} is not known (DNS)", evidence=evidence)
    if _is(ssl.SSLError, causes) or "certificate" in text:
        return ProviderUnavailable(f"{who}: no trusted TLS connection to {where}", evidence=evidence)
    if _is(ConnectionRefusedError, causes) or "refused" in text or "connection attempts failed" in text:
        return ProviderUnavailable(f"{who}: connection refused at {where}: is it running?", evidence=evidence)
    if "connecttimeout" in names:
        return ProviderUnavailable(f"{who}: no connection to {where} in time", evidence=evidence)
    if _is(TimeoutError, causes) or "timeout" in names:
        return ProviderUnavailable(f"{who}: no answer from {where} in time", evidence=evidence)
    if "connecterror" in names:
        return ProviderUnavailable(f"{who}: no connection to {where}", evidence=evidence)
    if any(_is_network(cause) for cause in causes):
        return ProviderFault(f"{who}: the connection to {where} broke", evidence=evidence)
    return ProviderFault(f"{who} sent something that is not its format", evidence=evidence)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds an upstream asks to wait: milliseconds, seconds or a date, whichever it says."""
    with contextlib.suppress(KeyError, ValueError):
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    value = headers.get("retry-after", "")
    with contextlib.suppress(ValueError):
        return max(0.0, float(value))
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    return None


def chain(error: BaseException) -> list[BaseException]:
    """Return an error and what caused it, outermost first."""
    found: list[BaseException] = []
    here: BaseException | None = error
    while here is not None and here not in found:
        found.append(here)
        here = here.__cause__ or here.__context__
    return found


def _is(kind: type[BaseException], causes: list[BaseException]) -> bool:
    return any(isinstance(cause, kind) for cause in causes)


def _is_network(error: BaseException) -> bool:
    if isinstance(error, OSError) or "APIConnection" in type(error).__name__:
        return True
    return type(error).__module__.partition(".")[0] in NETWORK_LIBRARIES
