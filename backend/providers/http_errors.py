"""Failures of HTTP upstreams as provider errors: the status, the upstream's own words, and what to do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time

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
    "context_length",
    "context length",
    "exceed_context",
    "too many tokens",
    "prompt is too long",
    "maximum context",
)


def from_status(
    who: str,
    status: int,
    body: str,
    headers: Mapping[str, str],
    *,
    model: str,
    key_hint: str,
    secret: str = "",
) -> ProviderError:
    """Return the error for an upstream's status. `key_hint` says where its key is set."""
    evidence = redact(f"HTTP {status}\n{body}", secret)[:EVIDENCE_CHARS]
    if status == 401:
        return ProviderAuth(f"{who} refused the key (401): check {key_hint}", evidence=evidence)
    if status == 403:
        return ProviderAuth(f"{who} forbids this (403): the key may not use {model}", evidence=evidence)
    if status == 404:
        return ModelNotFound(f"{who} has no model {model!r} (404)", evidence=evidence)
    if status == 429:
        seconds = retry_after(headers)
        wait = f"; it asks to wait {seconds:.0f} s" if seconds is not None else ""
        detail: dict[str, object] = {"retry_after_s": seconds} if seconds is not None else {}
        return ProviderRateLimited(f"{who} limits the rate (429){wait}", evidence=evidence, detail=detail)
    if status in (400, 413) and any(word in body.lower() for word in OVERFLOW_WORDS):
        return ContextOverflow(
            f"the prompt does not fit the context of {model}: shorten it", evidence=evidence
        )
    if status == 529:
        return ProviderUnavailable(f"{who} is overloaded (529)", evidence=evidence)
    if status >= 500:
        return ProviderUnavailable(f"{who} failed inside ({status})", evidence=evidence)
    return ProviderFault(f"{who} did not accept the request ({status})", evidence=evidence)


def from_connection(who: str, where: str, error: BaseException, secret: str = "") -> ProviderError:
    """Return the error for a connection that could not be made, or broke."""
    evidence = redact(" ← ".join(f"{type(e).__name__}: {e}" for e in chain(error)), secret)[:EVIDENCE_CHARS]
    causes = list(chain(error))
    text = " ".join(str(cause) for cause in causes).lower()
    if (
        any(isinstance(cause, socket.gaierror) for cause in causes)
        or "name or service" in text
        or "nodename" in text
    ):
        return ProviderUnavailable(f"{who}: the name in {where} is not known (DNS)", evidence=evidence)
    if any(isinstance(cause, ssl.SSLError) for cause in causes) or "certificate" in text:
        return ProviderUnavailable(f"{who}: no trusted TLS connection to {where}", evidence=evidence)
    if (
        any(isinstance(cause, ConnectionRefusedError) for cause in causes)
        or "refused" in text
        or "all connection attempts failed" in text
    ):
        return ProviderUnavailable(f"{who}: connection refused at {where}: is it running?", evidence=evidence)
    if any(
        "timeout" in type(cause).__name__.lower() or isinstance(cause, TimeoutError | asyncio.TimeoutError)
        for cause in causes
    ):
        return ProviderUnavailable(f"{who}: no answer from {where} in time", evidence=evidence)
    return ProviderFault(f"{who}: the connection to {where} broke", evidence=evidence)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds an upstream asks to wait, from a number or a date."""
    value = headers.get("retry-after")
    if value is None:
        return None
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
