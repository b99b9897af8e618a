"""Frames of the protocol: JSON-RPC 2.0, one object a line, without I/O. Bytes in, frames out, and back.

A line that is no frame, or too long, is given out as what is wrong with it, and the lines behind it are read on.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

MAX_LINE_BYTES = 16 * 1024 * 1024
"""Longest line that is read; the rest of a longer one is thrown away."""
SHOWN = 80

# the first three are JSON-RPC's own, the last one is that of the Language Server Protocol
METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR, REQUEST_CANCELLED = -32601, -32602, -32603, -32800
CANCEL_REQUEST = "$/cancel_request"
"""The notification that takes a request back."""

Id = int | str


class CancelRequest(Struct, rename="camel"):
    """Parameters of `CANCEL_REQUEST`."""

    request_id: Id


class RpcError(Struct, omit_defaults=True):
    """Why a request failed. `data` is whatever the other side adds."""

    code: int
    message: str = ""
    data: Raw = Raw(b"")


class Frame(Struct):
    """A frame as it comes: with `method` and `id` a request, with `method` a notification, else a response."""

    id: Id | UnsetType | None = UNSET
    method: str | UnsetType = UNSET
    params: Raw = Raw(b"{}")
    result: Raw = Raw(b"")
    error: RpcError | UnsetType | None = UNSET


class BadLine(Struct):
    """A line that is no frame, and why. `noise`: it is not even meant as one, such as a log line on standard output."""

    why: str
    noise: bool = False


class _Request(Struct):
    id: Id
    method: str
    params: Struct
    jsonrpc: Literal["2.0"] = "2.0"


class _Notification(Struct):
    method: str
    params: Struct
    jsonrpc: Literal["2.0"] = "2.0"


class _Result(Struct):
    id: Id
    result: Struct
    jsonrpc: Literal["2.0"] = "2.0"


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Frame).decode


def request(number: Id, method: str, params: Struct) -> bytes:
    """Return the line of a request."""
    return _encode(_Request(number, method, params)) + b"\n"


def notification(method: str, params: Struct) -> bytes:
    """Return the line of a notification."""
    return _encode(_Notification(method, params)) + b"\n"


def result(number: Id, value: Struct) -> bytes:
    """Return the line that answers a request."""
    return _encode(_Result(number, value)) + b"\n"


def failure(number: Id | None, code: int, message: str) -> bytes:
    """Return the line that refuses a request."""
    return _encode({"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}}) + b"\n"


class FrameReader:
    """Reads frames from a stream of bytes. Holds at most `limit` bytes of a line, and scans each byte once."""

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self.limit = limit
        self._parts: list[bytes] = []
        self._held = 0
        self._skipping = False

    def feed(self, data: bytes) -> list[Frame | BadLine]:
        """Add what was read; return what it completes, in order."""
        *lines, rest = data.split(b"\n")
        found: list[Frame | BadLine] = []
        for line in lines:
            whole = self._complete(line)
            if whole is None:
                found.append(BadLine(f"a line of more than {self.limit:,} bytes"))
            elif whole := whole.strip():
                found.append(read_frame(whole))
        if rest and not self._skipping:
            self._held += len(rest)
            # what came of it is dropped at once: a partner that never ends a line must not fill our memory
            if self._held > self.limit:
                self._parts, self._skipping = [], True
            else:
                self._parts.append(rest)
        return found

    def _complete(self, line: bytes) -> bytes | None:
        """Return the line that this piece completes; `None` when it is too long."""
        too_long = self._skipping or self._held + len(line) > self.limit
        whole = None if too_long else b"".join((*self._parts, line))
        self._parts, self._held, self._skipping = [], 0, False
        return whole


def read_frame(line: bytes) -> Frame | BadLine:
    """Read one line."""
    if line[:1] != b"{":
        return BadLine(f"no frame: {_shown(line)}", noise=True)
    try:
        frame = _decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return BadLine(f"no frame ({error}): {_shown(line)}")
    if frame.method is UNSET and frame.id in (UNSET, None) and not frame.error:
        return BadLine(f"neither request nor response: {_shown(line)}")
    return frame


def _shown(line: bytes) -> str:
    return repr(line[:SHOWN].decode(errors="replace")) + ("…" if len(line) > SHOWN else "")
