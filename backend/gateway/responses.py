"""JSON answers and error answers of the gateway, with their status codes."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
from starlette.responses import Response

from backend.schema.errors import ErrorCode, InvalidRequest, TektonError
from backend.wire import encoder

STATUS: dict[ErrorCode, int] = {
    "invalid_json": 400,
    "invalid_request": 400,
    "unknown_type": 400,
    "context_overflow": 400,
    "config_invalid": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "unknown_specialist": 404,
    "unknown_session": 404,
    "not_found": 404,
    "model_not_found": 404,
    "already_running": 409,
    "conflict": 409,
    "foreign_port": 409,
    "launch_refused": 409,
    "line_too_long": 413,
    "too_large": 413,
    "budget_exceeded": 429,
    "too_many": 429,
    "lifecycle_off": 503,
    "launch_failed": 503,
    "registry_busy": 503,
    "backend_lost": 503,
    "not_running": 400,
    "provider_auth": 400,
    "cancelled": 400,
    "worker_lost": 424,
    "provider_unavailable": 424,
    "provider_rate_limited": 424,
    "stalled": 424,
    "timeout": 424,
    "internal": 424,
}
"""Status of each error code.

What lasts until somebody acts is 400: clients repeat 408, 409, 429 and every 5xx by themselves, and each repeat would
be one more call upstream. A turn that failed on its way is 424, a failed dependency, for the same reason; so is one that
its upstream refused for its rate. 429 is left for refusals of our own, behind which nobody upstream was asked.
"""
# an upstream may name a day or a year, and clients obey: they would look dead
MAX_RETRY_AFTER_S = 3_600


def status_of(error: TektonError) -> int:
    return getattr(error, "status", None) or STATUS.get(error.code, 500)


def json_reply(value: Any, status: int = 200) -> Response:
    return Response(encoder.encode(value), status, media_type="application/json")


def error_body(error: TektonError) -> dict[str, Any]:
    """Return the error shape all routes share: code, message, type, param."""
    status = status_of(error)
    kind = (
        "rate_limit_error"
        if status == 429 or error.code == "provider_rate_limited"
        else "server_error"
        if status >= 500 or status == 424
        else "invalid_request_error"
    )
    param = str(error.detail.get("param") or "") or None
    code = error.detail.get("error_code", error.code)  # by a vendor's own word its clients know what to do
    body: dict[str, Any] = {"code": code, "message": error.message, "type": kind, "param": param}
    if error.evidence:
        body["evidence"] = error.evidence
    if error.detail:
        body["detail"] = error.detail
    return {"error": body}


def error_reply(error: TektonError) -> Response:
    """Answer with an error in the shape all routes share."""
    return reply_with(error, error_body(error))


def reply_with(error: TektonError, body: object) -> Response:
    """Answer with an error's status and headers, and a body in any dialect."""
    headers = {"x-should-retry": "false"}  # SDKs obey it: nothing is asked again without a person's wish
    if status_of(error) == 401:
        headers["www-authenticate"] = "Bearer"
    retry_after = error.detail.get("retry_after_s")
    if isinstance(retry_after, int | float) and math.isfinite(retry_after):
        headers["retry-after"] = str(max(1, min(math.ceil(retry_after), MAX_RETRY_AFTER_S)))
    return Response(encoder.encode(body), status_of(error), headers, media_type="application/json")


def not_json(what: str, text: str | bytes, error: Exception) -> TektonError:
    """Return the failure that says why `what` is no JSON that we take.

    JSON may write half a character (`"\\ud800"`), which no encoding of text holds; our decoder says of it that data is missing.
    """
    reason = str(error)
    try:
        given = text if isinstance(text, str) else text.decode()
        json.dumps(json.loads(given, parse_constant=float), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        reason = "it holds half of a character, such as \\ud800 without its other half"
    except (ValueError, RecursionError):
        pass
    return TektonError(f"{what} is not JSON: {reason}", code="invalid_json")


def decode_object(body: bytes) -> dict[str, Any]:
    """Read a request body as a JSON object; an empty one is an empty object.

    Raises:
        TektonError: `invalid_json` or `invalid_request`.
    """
    # clients send no body at all where every parameter has a default
    if not body.strip():
        return {}
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise not_json("the body", body, error) from error
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object")
    return value  # pyright: ignore[reportUnknownVariableType]
