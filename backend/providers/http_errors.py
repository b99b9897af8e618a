"""Failures of HTTP upstreams as provider errors: the status, the upstream's own words, and what to do.

Knows no vendor's library; errors are told apart by what they are and what caused them.
"""

from __future__ import annotations

import contextlib
import math
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
    """Who was asked, where, about which model; what must not be shown.

    `key_hint` names where the key is set, `setting` the key of config.toml that holds the address.
    """

    who: str
    where: str
    model: str = ""
    key_hint: str = "its key"
    setting: str = "its address"
    secrets: tuple[str, ...] = ()

    def evidence(self, text: str) -> str:
        return redact(text, *self.secrets)[:EVIDENCE_CHARS]


def from_status(upstream: Upstream, status: int, body: str, headers: Mapping[str, str]) -> ProviderError:
    """Return the error for an upstream's status and body."""
    who, model = upstream.who, upstream.model
    evidence = upstream.evidence(f"HTTP {status}\n{body}")
    words = body.lower()
    kind: type[ProviderError] = ProviderUnavailable if status >= 500 else ProviderFault
    match status:
        case 400 | 413 | 422 | 500 if any(word in words for word in OVERFLOW_WORDS) or status == 413:
            kind = ContextOverflow
            text = f"the prompt does not fit the context of {model}: shorten it, or begin a new session"
        case 401:
            kind, text = ProviderAuth, f"{who} refused the key (401): check {upstream.key_hint}"
        case 402:
            kind = ProviderAuth
            text = f"{who} wants payment (402): check the account behind {upstream.key_hint}"
        case 403:
            kind = ProviderAuth
            text = (
                f"{who} forbids this (403): the key may not use {model}; choose another model, or another key"
            )
        case 404 if "model" in words or not body.strip():
            kind, text = (
                ModelNotFound,
                f"{who} has no model {model!r} (404): `tekton models` lists what it has",
            )
        case 404:
            kind = ModelNotFound
            text = f"{who} does not know {model!r}, or {upstream.where} is no API (404): check {upstream.setting}"
        case 408 | 504:
            kind, text = ProviderUnavailable, f"{who} gave up waiting ({status}): ask again, or ask for less"
        case 429:
            return _limited(upstream, headers, evidence)
        case 529:
            text = f"{who} is overloaded (529): ask again later, or choose another model"
        case _ if status >= 500:
            text = f"{who} failed inside ({status}): ask again; if it stays so, look at its own log or status page"
        case _:
            text = f"{who} did not accept the request ({status}): its own words say why"
    return kind(text, evidence=evidence)


def _limited(upstream: Upstream, headers: Mapping[str, str], evidence: str) -> ProviderError:
    seconds = retry_after(headers)
    if seconds is None:
        text = f"{upstream.who} limits the rate (429): wait a little, or ask with fewer specialists at a time"
        return ProviderRateLimited(text, evidence=evidence)
    text = f"{upstream.who} limits the rate (429): it asks to wait {math.ceil(seconds)} s"
    return ProviderRateLimited(text, evidence=evidence, detail={"retry_after_s": seconds})


def from_connection(upstream: Upstream, error: BaseException) -> ProviderError:
    """Return the error for a connection that could not be made, or broke, or carried something malformed."""
    causes = chain(error)
    evidence = upstream.evidence(" ← ".join(f"{type(e).__name__}: {e}" for e in causes))
    text = " ".join(str(cause) for cause in causes).lower()
    names = " ".join(type(cause).__name__ for cause in causes).lower()
    who, where = upstream.who, upstream.where
    correct = f"correct {upstream.setting}"
    if _is(socket.gaierror, causes) or "name or service" in text or "nodename" in text:
        said = f"the name in {where} is not known (DNS): {correct}"
    elif _is(ssl.SSLError, causes) or "certificate" in text:
        said = f"no trusted TLS connection to {where}: {correct}, or have this machine trust its certificate"
    elif _is(ConnectionRefusedError, causes) or "refused" in text or "connection attempts failed" in text:
        said = f"connection refused at {where}: start it, or {correct}"
    elif "connecttimeout" in names:
        said = f"no connection to {where} in time: is the host up? Else {correct}"
    elif _is(TimeoutError, causes) or "timeout" in names:
        said = f"no answer from {where} in time: ask again"
    elif "connecterror" in names:
        said = f"no connection to {where}: start it, or {correct}"
    elif any(_is_network(cause) for cause in causes):
        return ProviderFault(f"{who}: the connection to {where} broke: ask again", evidence=evidence)
    else:
        text = f"{who} sent something that is not its format: is {where} really one? Else {correct}"
        return ProviderFault(text, evidence=evidence)
    return ProviderUnavailable(f"{who}: {said}", evidence=evidence)


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
