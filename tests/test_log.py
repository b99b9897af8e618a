"""Log lines for people: foreign text within a record, or within its traceback, never passes for a line of its own."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import logging
from backend import log as jsonlog
jsonlog.configure("test", {})
jsonlog.request_id.set("r-1\\n2026-01-01 00:00:00,000 ERROR forged: by the request")
log = logging.getLogger("real")
log.warning("cancel of %s", "x\\r\\n2026-01-01 00:00:00,000 ERROR forged: by an argument\\x1b[2J\\u2028z")
try:
    raise ValueError("first\\n2026-01-01 00:00:00,000 ERROR forged: by an exception\\x9b31m")
except ValueError:
    log.exception("it failed")
"""


def test_no_foreign_text_forges_a_line_or_steers_a_terminal() -> None:
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    lines = told.stderr.splitlines()
    begun = [line for line in lines if not line.startswith("  ")]
    assert [" WARNING real: " in begun[0], " ERROR real: " in begun[1], len(begun)] == [True, True, 2]
    assert any(line.startswith("  2026-01-01") for line in lines), (
        "the exception's own words are kept, indented"
    )
    assert "\\u001b[2J" in begun[0] and "\\u2028" in begun[0]
    assert not set(told.stderr) & {"\x1b", "\x9b", "\r", "\u2028"}
