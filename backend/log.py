"""Log lines of a process: text for people, or one JSON object a line for programs; each with the request it belongs to.

`TEKTON_LOG_FORMAT=json` chooses JSON, for the backend and its workers alike. `redact` takes secrets out of a text
before it is shown, stored or logged. Knows nothing of what is logged.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import msgspec

from backend.text import escaped, escaped_line

_NAMED_SECRETS = (
    re.compile(
        r"(?i)(authorization|proxy-authorization|x-api-key|api[-_]?key|access[-_]token|[?&]token)"
        r"([\"']?\s*[:=]\s*[\"']?)(?:(?:bearer|basic|token)\s+)?[^\s\"',;&}\]]+"
    ),
    re.compile(r"(?i)\b([A-Z0-9_]*(?:_KEY|_TOKEN|_SECRET|PASSWORD))([\"']?\s*[:=]\s*[\"']?)[^\s\"',;&}\]]+"),
    re.compile(r"(?i)(\b[a-z][a-z0-9+.-]{0,30}://[^\s/:@]{0,200})(:)[^\s/@]+(?=@)"),
)
"""Two groups each, name and sign, that stay; what follows them goes."""
_BARE_SECRETS = re.compile(
    r"\b(?:sk|pk|rk|key|xai|gsk|glpat|xox[abp])-[A-Za-z0-9_-]{8,}"
    r"|\b(?:hf|ghp|gho|github_pat|AKIA|AIza)[A-Za-z0-9_-]{14,}"
    r"|(?i:\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}"
)
"""Keys that are known by their look."""
_WEB_TOKENS = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}+(\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]++)?+")
"""What may be a signed token (JWT), and is one with its two further parts: taken without them too, so that no piece of a
text is tried again and again."""
MARK = "[redacted]"
SHORTEST_SECRET = 4
"""A shorter one protects nothing, and taking it out would make a text unreadable."""
FORMAT_VARIABLE = "TEKTON_LOG_FORMAT"
request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The request whose work the running task does; set once where a request enters a process."""
structured = False
"""Whether this process writes JSON: what only programs want is then logged too."""


class _Json(logging.Formatter):
    """`time, level, logger, component, pid, message`, then `request_id`, extras and `exception` where there are any."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "component": self._component,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if name := getattr(record, "request_id", "") or request_id.get():
            line["request_id"] = name
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return escaped(msgspec.json.encode(line, enc_hook=str).decode())


class _Text(logging.Formatter):
    """Time, level, logger, message; the request in brackets where it is not in the message already.

    A record is one line, and its traceback is indented below: foreign text within cannot pass for a line of its own.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record)
        name = request_id.get()
        return escaped_line(f"{text} [{name}]" if name and name not in text else text)

    def formatException(self, ei: Any) -> str:
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"  {escaped_line(line)}" for line in lines)


def configure(component: str, environment: Mapping[str, str]) -> None:
    """Set the process's log up, at level INFO."""
    global structured
    structured = environment.get(FORMAT_VARIABLE, "").strip().lower() == "json"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(component) if structured else _Text())
    root = logging.getLogger()
    # libraries may have added handlers of their own, which would write every line twice
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


def redact(text: str, *secrets: str) -> str:
    """Return text without keys, tokens and the secrets named; what stood there is marked."""
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, MARK)
    for pattern in _NAMED_SECRETS:
        text = pattern.sub(rf"\1\2{MARK}", text)
    return redact_keys(text)


def redact_keys(text: str) -> str:
    """Return text without what looks like a key; for messages of ours, in which names stand before signs."""
    return _BARE_SECRETS.sub(MARK, _WEB_TOKENS.sub(lambda found: MARK if found[1] else found[0], text))
