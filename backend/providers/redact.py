"""Take secrets out of text before it is shown, stored or logged."""

from __future__ import annotations

import re

_PATTERNS = (
    re.compile(
        r"(?i)(authorization|proxy-authorization|x-api-key|api[-_]key)(\"?\s*[:=]\s*\"?)(?:bearer\s+)?[^\s\",;}]+"
    ),
    re.compile(r"(?i)\b([A-Z0-9_]*(?:_KEY|_TOKEN|_SECRET|PASSWORD))(\s*[:=]\s*)[^\s\",;}]+"),
)
_BARE = re.compile(r"\b(?:sk|pk|rk|key)-[A-Za-z0-9_-]{8,}|\bBearer\s+[A-Za-z0-9._~+/=-]{8,}")


def redact(text: str, *secrets: str) -> str:
    """Return text without keys, tokens and the secrets named; what stood there is marked."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[redacted]")
    for pattern in _PATTERNS:
        text = pattern.sub(r"\1\2[redacted]", text)
    return _BARE.sub("[redacted]", text)
