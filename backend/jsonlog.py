"""Log lines of a process: text for people, or one JSON object a line for programs; each with the request it belongs to.

`TEKTON_LOG_FORMAT=json` chooses JSON, for the backend and its workers alike. Knows nothing of what is logged.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, TextIO

import msgspec

_STEERING = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
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
        return msgspec.json.encode(line, enc_hook=str).decode()


class _Text(logging.Formatter):
    """Time, level, logger, message; the request in brackets where it is not in the message already.

    A record is one line, and its traceback is indented below: foreign text within cannot pass for a line of its own.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record)
        name = request_id.get()
        return _visible(f"{text} [{name}]" if name and name not in text else text)

    def formatException(self, ei: Any) -> str:
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"  {_visible(line)}" for line in lines)


def _visible(text: str) -> str:
    """Return a text with what ends lines or steers terminals written out."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def configure(component: str, environment: Mapping[str, str], stream: TextIO | None = None) -> None:
    """Set the process's log up, at level INFO."""
    global structured
    structured = environment.get(FORMAT_VARIABLE, "").strip().lower() == "json"
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Json(component) if structured else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
