"""A conversation as one line-drawn widget, from source text to strips."""

from tekton_tui.transcript.entry import SPEAKER_COLOURS, AskCard, Ending, Entry, Kind, ToolRow
from tekton_tui.transcript.markdown import warm
from tekton_tui.transcript.message import Look
from tekton_tui.transcript.widget import MEASURE, Transcript

__all__ = [
    "MEASURE",
    "SPEAKER_COLOURS",
    "AskCard",
    "Ending",
    "Entry",
    "Kind",
    "Look",
    "ToolRow",
    "Transcript",
    "warm",
]
