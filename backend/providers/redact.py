"""Take secrets out of text before it is shown, stored or logged."""

from __future__ import annotations

import re

_PATTERNS = (
    re.compile(
        r"(?i)(authorization|proxy-authorization|x-api-key|api[-_]?key|access[-_]token|[?&]token)"
        r"([\"']?\s*[:=]\s*[\"']?)(?:(?:bearer|basic|token)\s+)?[^\s\"',;&}\]]+"
    ),
    re.compile(r"(?i)\b([A-Z0-9_]*(?:_KEY|_TOKEN|_SECRET|PASSWORD))([\"']?\s*[:=]\s*[\"']?)[^\s\"',;&}\]]+"),
    re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://[^\s/:@]*)(:)[^\s/@]+(?=@)"),
)
"""Two groups each, name and sign, that stay; what follows them goes."""
_BARE = re.compile(
    r"\b(?:sk|pk|rk|key|xai|gsk|glpat|xox[abp])-[A-Za-z0-9_-]{8,}"
    r"|\b(?:hf|ghp|gho|github_pat|AKIA|AIza)[A-Za-z0-9_-]{14,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+"
    r"|(?i:\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}"
)
"""Keys that are known by their look."""
MARK = "[redacted]"


def redact(text: str, *secrets: str) -> str:
    """Return text without keys, tokens and the secrets named; what stood there is marked."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, MARK)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\1\2{MARK}", text)
    return _BARE.sub(MARK, text)
