"""A conversation as one line-drawn widget, from source text to strips."""

from tekton_tui.tick import FrameTick, frame_tick
from tekton_tui.transcript.entry import SPEAKER_COLOURS, Entry, Kind
from tekton_tui.transcript.message import Look
from tekton_tui.transcript.warm import warm
from tekton_tui.transcript.widget import Transcript

__all__ = ["SPEAKER_COLOURS", "Entry", "FrameTick", "Kind", "Look", "Transcript", "frame_tick", "warm"]
