"""Loads the Markdown parser and the code lexers in a thread, so that the first token of an answer does not wait."""

from __future__ import annotations

import threading
from typing import Final

_SAMPLE: Final = "# a\n\n- **b** `c`\n\n| d |\n|---|\n| [e](f) |\n"
_started = threading.Event()


def warm() -> None:
    """Start loading, once in a process; returns at once. Call it after the first paint or when a turn begins."""
    if not _started.is_set():
        _started.set()
        threading.Thread(target=_load, name="transcript-warm", daemon=True).start()


def _load() -> None:
    from tekton_tui.transcript.code import highlight
    from tekton_tui.transcript.markdown import draw_markdown

    draw_markdown(_SAMPLE, 40)
    highlight(["def f(): return 1"], "python")
