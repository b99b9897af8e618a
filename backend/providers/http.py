"""What the providers that ask over HTTP share: how a client is opened, and failures as provider errors.

A failure carries the status, the upstream's own words, and what to do. Its class comes from the status and from the code
or type of the error object, never from words of a page. Knows no vendor's library.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import math
import os
import re
import socket
import ssl
from base64 import b64encode
from collections.abc import Mapping
from time import time
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Struct

from backend.log import redact
from backend.providers.base import (
    ContextOverflow,
    ModelNotFound,
    ProviderAuth,
    ProviderError,
    ProviderFault,
    ProviderRateLimited,
    ProviderUnavailable,
)
from backend.providers.lenient import as_list, as_object
from backend.tls import is_loopback

IDLE_S, EVERY_S, TIMES = 10, 5, 3
"""Seconds of silence before the kernel asks whether an upstream's host is there, between two questions, and how many."""
KEEPALIVE_S = 2.0
"""How long an idle connection is kept. Many servers close theirs after 5 s; a prompt sent just then would be lost."""
REFUSAL_TIMEOUT_S = 5.0
MAX_REFUSAL_BYTES = 64 * 1024
EVIDENCE_CHARS = 4_000
SHOWN_CHARS = 200
"""Of an upstream's words in a message; all of them are in the evidence."""
MAX_WAIT_S = 86_400.0
"""The longest wait an upstream can ask for; more is shown as a day."""
CERTIFICATE_FILES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
"""Variables that name files Python opens for every TLS connection."""
NETWORK_LIBRARIES = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "anyio", "h11", "h2", "ssl"})
"""An error whose class comes from one of these, or is an OSError, is the connection's."""
STATUS_OF = {
    "insufficient_quota": 402, "billing_error": 402, "billing_not_active": 402, "payment_required": 402,
    "billing_hard_limit_reached": 402, "access_terminated": 402,
    "authentication_error": 401, "invalid_api_key": 401, "unauthorized": 401,
    "permission_error": 403, "permission_denied": 403,
    "model_not_found": 404, "not_found_error": 404, "notfounderror": 404,
    "request_too_large": 413, "context_length_exceeded": 413, "exceed_context_size_error": 413,
    "rate_limit_exceeded": 429, "rate_limit_error": 429, "tokens": 429, "requests": 429,
    "invalid_request_error": 400, "badrequesterror": 400, "unsupported_parameter": 400, "unsupported_value": 400,
    "timeout_error": 504, "overloaded_error": 529, "server_error": 500, "api_error": 500,
}  # fmt: skip
"""Status that the code or type of an error object stands for, where the answer itself was a 200."""
OVERFLOW = re.compile(
    r"(?:this model'?s maximum context length is|prompt is too long: \d|the input length exceeds the context length"
    r"|input length and `max_tokens` exceed|request \(\d+ tokens\) exceeds the available context size"
    r"|(?:the )?(?:input|prompt) \(?\d+ tokens?\)? (?:is|exceeds?|are) .{0,60}context"
    r"|requested tokens? \(\d+\) exceed context window|the number of tokens to keep from the initial prompt is greater"
    r"|please reduce the length of the (?:input |)(?:messages|prompt))",
    re.IGNORECASE,
)
"""How servers without a code for it begin the message of an error when a prompt does not fit."""
_STATUS = re.compile(r"[45]\d\d")
PARAMETER = re.compile(
    r"(?:unsupported (?:parameter|value)|unrecognized request arguments? supplied|unknown (?:parameter|field|name))"
    r"[^\w]{1,4}(\w+)",
    re.IGNORECASE,
)
"""How an error's message begins that refuses a parameter without saying which in a field of its own."""


class Upstream(Struct, frozen=True):
    """Who was asked, where, about which model; what must not be shown.

    `key_hint` names where the key is set, `setting` the key of config.toml that holds the address. `parameters` says of
    names that a server may refuse what the operator can set instead.
    """

    who: str
    where: str
    model: str = ""
    key_hint: str = "its key"
    setting: str = "its address"
    secrets: tuple[str, ...] = ()
    parameters: dict[str, str] = {}

    def evidence(self, text: str) -> str:
        """Return what an upstream said as it may be kept: without secrets, of a bounded length."""
        return redact(text[: 2 * EVIDENCE_CHARS], *self.secrets)[:EVIDENCE_CHARS]

    def quoted(self, text: str) -> str:
        """Return an upstream's words as they may stand in a message: one short line without secrets."""
        words = " ".join(self.evidence(text).split())
        return words if len(words) <= SHOWN_CHARS else f"{words[:SHOWN_CHARS]}…"


class ErrorWords(Struct, frozen=True):
    """What an error says: its message, its code or type in small letters, its status, the parameter it is about.

    `is_object` is false for a page or a text: its words are not looked at.
    """

    message: str = ""
    code: str = ""
    status: int = 0
    parameter: str = ""
    is_object: bool = False


def client_options(library: Any, url: str) -> dict[str, Any]:
    """Return an HTTP client's options for an upstream: this machine without proxies, others under watch.

    `library` is httpx or its successor. Without the watch a stream whose other end is cut off would stay open for ever;
    with it the kernel ends it after `IDLE_S` + `TIMES` x `EVERY_S` seconds of a silence that no probe breaks. Redirects
    are not followed: where an address leads is for the operator to write down.

    Raises:
        ProviderUnavailable: A variable of the environment names a proxy or a file that cannot be used.
    """
    near = is_this_machine(url)
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", IDLE_S), ("TCP_KEEPINTVL", EVERY_S), ("TCP_KEEPCNT", TIMES)):
        if (option := getattr(socket, name, None)) is not None:  # not every system has each
            options.append((socket.IPPROTO_TCP, option, value))
    # A server may close an idle connection in the moment a prompt is sent on it, which is then lost. A new one costs
    # nothing on this machine.
    limits = library.Limits(
        max_connections=1_000, max_keepalive_connections=0 if near else 100, keepalive_expiry=KEEPALIVE_S
    )
    variable, proxy = ("", None) if near else _proxy_for(url)
    try:
        transport = library.AsyncHTTPTransport(
            limits=limits, proxy=proxy, socket_options=None if near else options
        )
    except (OSError, ssl.SSLError) as error:
        wrong = [
            name for name in CERTIFICATE_FILES if name in os.environ and not os.path.exists(os.environ[name])
        ]
        names = ", ".join(f"{name}={os.environ[name]}" for name in wrong)
        raise ProviderUnavailable(
            f"certificates cannot be read ({error}): "
            + (f"{names} is not there" if wrong else "look at SSL_CERT_FILE")
        ) from error
    except Exception as error:  # the libraries have a class of their own for what is no address
        if proxy is None:
            raise
        raise ProviderUnavailable(
            f"the proxy in {variable} cannot be used for {url}: {error}; correct {variable}, or name the host in NO_PROXY"
        ) from error
    return {"trust_env": False, "transport": transport, "follow_redirects": False}


def sdk_options(sdk: Any, url: str, connect_s: float) -> dict[str, Any]:
    """Return the options that the clients of the vendors' libraries have in common; imports httpx2, so call it in a thread.

    `sdk` is the library (`anthropic`, `openai`), `connect_s` how long a connection may take to be made, in seconds.
    """
    import httpx2

    # Connecting is limited, reading is not: between two tokens minutes may pass, and the worker watches those.
    timeout = httpx2.Timeout(None, connect=connect_s)
    http_client = sdk.DefaultAsyncHttpxClient(timeout=timeout, **client_options(httpx2, url))
    # The libraries ask twice more by default; one prompt is one upstream call.
    return {"base_url": url, "max_retries": 0, "timeout": timeout, "http_client": http_client}


def _proxy_for(url: str) -> tuple[str, str | None]:
    """Return the proxy of the environment for an address and the variable that names it; `NO_PROXY` is honoured."""
    from urllib.request import getproxies, proxy_bypass

    parts, proxies = urlsplit(url), getproxies()
    kind = next((kind for kind in (parts.scheme, "all") if proxies.get(kind)), "")
    if not kind or proxy_bypass(f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)):
        return "", None
    proxy = proxies[kind]
    return f"{kind.upper()}_PROXY", proxy if "://" in proxy else f"http://{proxy}"


def is_this_machine(url: str) -> bool:
    """Return whether an address is this machine: then no proxy of the environment may come in between.

    The addresses that a server listens on everywhere with, `0.0.0.0` and `[::]`, lead here too.
    """
    host = urlsplit(url if "://" in url else f"//{url}").hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return is_loopback(host)
    return address.is_loopback or address.is_unspecified


def split_user(url: str) -> tuple[str, str]:
    """Return an address as it may be shown, and the `Authorization` for the user and password in it, if any."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url, ""
    user, _, address = parts.netloc.rpartition("@")
    return parts._replace(netloc=address).geturl(), f"Basic {b64encode(unquote(user).encode()).decode()}"


def quiet_libraries() -> None:
    """Keep the libraries' own lines, one a request, out of logs."""
    for name in ("httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)


def read_error(body: object) -> ErrorWords:
    """Return what an error says, in whichever shape a server puts it: text, `error`, `message`, `detail`, a list."""
    value = body
    if isinstance(body, str | bytes):
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return ErrorWords(body if isinstance(body, str) else body.decode(errors="replace"))
    if isinstance(value, list) and value:
        value = cast(list[object], value)[0]
    if not isinstance(value, dict):
        return ErrorWords("" if value is None else str(cast(object, value)))
    outer = cast(dict[str, object], value)
    inner = outer.get("error") or outer.get("errors") or outer
    if isinstance(inner, list) and inner:
        inner = cast(list[object], inner)[0]
    if not isinstance(inner, dict):
        text = str(cast(object, inner))
        return ErrorWords(text, *_code(outer, {}), _parameter({}, None, text), is_object=True)
    error = cast(dict[str, object], inner)
    said = next((error[name] for name in ("message", "detail", "msg", "description") if error.get(name)), "")
    text = said if isinstance(said, str) else _dumped(said or error)
    return ErrorWords(text, *_code(error, outer), _parameter(error, said, text), is_object=True)


def _code(error: Mapping[str, object], outer: Mapping[str, object]) -> tuple[str, int]:
    """Return the word an error calls itself, and the status it gives or stands for; 0 for none."""
    values = [
        where.get(name) for where in (error, outer) for name in ("code", "type", "status", "status_code")
    ]
    words = [value.lower() for value in values if isinstance(value, str)]
    numbers = [int(v) if isinstance(v, str) and _STATUS.fullmatch(v) else v for v in values]
    given = next((v for v in numbers if isinstance(v, int) and not isinstance(v, bool) and 400 <= v < 600), 0)
    known = next((word for word in words if word in STATUS_OF), "")
    return known or (words[0] if words else ""), given or STATUS_OF.get(known, 0)


def _parameter(error: Mapping[str, object], said: object, text: str) -> str:
    """Return the parameter that an error is about, empty when it names none."""
    if isinstance(name := error.get("param"), str) and name:
        return name
    rows = as_list(as_object(cast(object, said)).get("detail") if isinstance(said, dict) else said)
    if rows and (place := as_list(as_object(rows[0]).get("loc"))):
        return str(place[-1])
    found = PARAMETER.match(text)
    return found[1] if found else ""


def _dumped(value: object) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        return str(value)


async def refusal_text(response: Any) -> str:
    """Return the beginning of the body of a streamed response of httpx, as much of it as comes within a bounded time."""
    body = b""
    with contextlib.suppress(Exception):  # the status says enough
        async with asyncio.timeout(REFUSAL_TIMEOUT_S):
            async for data in response.aiter_bytes():
                body += data
                if len(body) > MAX_REFUSAL_BYTES:
                    break
    return body.decode(errors="replace")


def from_status(upstream: Upstream, status: int, body: object, headers: Mapping[str, str]) -> ProviderError:
    """Return the error for an upstream's status and body, the body as it came or decoded."""
    words = read_error(body)
    raw = (
        body
        if isinstance(body, str)
        else body.decode(errors="replace")
        if isinstance(body, bytes)
        else _dumped(body)
    )
    evidence = upstream.evidence(f"HTTP {status}\n{raw}")
    if status == 429 and words.status == 402:
        status = 402  # a quota that is used up comes back by paying, not by waiting
    if status == 429 or (status == 424 and words.status == 429):  # the limit of a server behind this one
        return _limited(upstream, headers, evidence)
    if 300 <= status < 400:
        where = upstream.quoted(headers.get("location", ""))
        said = f"{upstream.who} redirects ({status})" + (f" to {where}" if where else "")
        return ProviderFault(f"{said}: correct {upstream.setting}", evidence=evidence)
    kind, text = _explained(upstream, status, words)
    return kind(text, evidence=evidence)


def from_error(upstream: Upstream, body: object) -> ProviderError:
    """Return the error for an error object that came with a 200, alone or in the middle of a stream."""
    words = read_error(body)
    if words.status or OVERFLOW.match(words.message):
        return from_status(upstream, words.status or 400, body, {})
    text = f"{upstream.who} broke off: {upstream.quoted(words.message) or 'it says no more'}"
    return ProviderFault(text, evidence=upstream.evidence(_dumped(body)))


def _explained(upstream: Upstream, status: int, words: ErrorWords) -> tuple[type[ProviderError], str]:
    """Return the class of an error and what to do about it."""
    who, model = upstream.who, upstream.model
    names_model = words.is_object and bool(model) and model in words.message
    if status == 413 or (
        status in (400, 422, 500) and (STATUS_OF.get(words.code) == 413 or OVERFLOW.match(words.message))
    ):
        return (
            ContextOverflow,
            f"the prompt does not fit the context of {model}: shorten it, or begin a new session",
        )
    match status:
        case 400 | 404 if words.code == "model_not_found" or (status == 404 and names_model):
            return (
                ModelNotFound,
                f"{who} has no model {model!r} ({status}): `tekton models` lists what it has",
            )
        case 401:
            return ProviderAuth, f"{who} refused the key (401): check {upstream.key_hint}"
        case 402:
            return ProviderAuth, f"{who} wants payment (402): check the account behind {upstream.key_hint}"
        case 403:
            why = "the key may not use it" if not model else f"the key may not use {model}"
            return ProviderAuth, f"{who} forbids this (403): {why}; choose another model, or another key"
        case 404:
            text = f"{who} does not know {model!r}, or {upstream.where} is no API (404): check {upstream.setting}"
            return ModelNotFound, text
        case 408 | 504:
            return ProviderUnavailable, f"{who} gave up waiting ({status}): ask again, or ask for less"
        case 529:
            return ProviderUnavailable, f"{who} is overloaded (529): ask again later, or choose another model"
        case _ if status >= 500:
            text = f"{who} failed inside ({status}): ask again; if it stays so, look at its own log or status page"
            return ProviderUnavailable, text
        case _:
            text = f"{who} did not accept the request ({status}): {upstream.quoted(words.message) or 'it says no more'}"
            hint = upstream.parameters.get(words.parameter, "")
            return ProviderFault, f"{text}: {hint}" if hint else text


def _limited(upstream: Upstream, headers: Mapping[str, str], evidence: str) -> ProviderError:
    seconds = retry_after(headers)
    if seconds is None:
        text = f"{upstream.who} limits the rate (429): wait a little, or ask with fewer specialists at a time"
        return ProviderRateLimited(text, evidence=evidence)
    words = "a day or more" if seconds >= MAX_WAIT_S else f"{math.ceil(seconds)} s"
    text = f"{upstream.who} limits the rate (429): it asks to wait {words}"
    return ProviderRateLimited(text, evidence=evidence, detail={"retry_after_s": seconds})


def from_connection(upstream: Upstream, error: BaseException, *, begun: bool = False) -> ProviderError:
    """Return the error for a connection that could not be made, or broke, or carried something malformed.

    `begun` says that a part of the answer had come. Before that, a connection that breaks is `provider_unavailable`
    whatever it broke with: a connection kept from an earlier call may have been closed by the upstream just now.
    """
    # Libraries wrap the system's errors, some of them as text alone, so types, names and words are all looked at.
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
    elif "decodingerror" in names:
        text = f"{who} sent a body that is not packed as its content-encoding says: {correct}"
        return ProviderFault(text, evidence=evidence)
    elif not any(_is_network(cause) for cause in causes):
        text = f"{who} sent something that is not its format: is {where} really one? Else {correct}"
        return ProviderFault(text, evidence=evidence)
    elif begun:
        return ProviderFault(f"{who}: the connection to {where} broke: ask again", evidence=evidence)
    else:
        said = f"the connection to {where} broke before an answer began: ask again"
    return ProviderUnavailable(f"{who}: {said}", evidence=evidence)


def as_provider_error(upstream: Upstream, error: Exception, *, begun: bool = False) -> ProviderError:
    """Return any failure of a call as a provider error: one that is already, an answer with a status, a connection."""
    if isinstance(error, ProviderError):
        return error
    response = getattr(error, "response", None)
    if response is not None and hasattr(error, "status_code"):
        return from_status(upstream, response.status_code, response.text, response.headers)
    return from_connection(upstream, error, begun=begun)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds an upstream asks to wait, at most `MAX_WAIT_S`; milliseconds, seconds or a date, as it says.

    `None` where it says nothing that is a length of time.
    """
    from email.utils import parsedate_to_datetime

    said: list[float] = []
    with contextlib.suppress(KeyError, ValueError):
        said.append(float(headers["retry-after-ms"]) / 1000)
    value = headers.get("retry-after", "")
    with contextlib.suppress(ValueError):
        said.append(float(value))
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        said.append(parsedate_to_datetime(value).timestamp() - time())
    return next((min(max(0.0, seconds), MAX_WAIT_S) for seconds in said if math.isfinite(seconds)), None)


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
