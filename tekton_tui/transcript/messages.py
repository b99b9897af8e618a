"""The messages a transcript posts to its owner.

Handlers are named after the transcript: `on_transcript_copied`, `@on(Transcript.Copied)`.
"""

from __future__ import annotations

from textual.message import Message
from textual.widget import Widget

from tekton_tui.transcript.entry import Entry


class _FromTranscript(Message):
    def __init__(self, transcript: Widget) -> None:
        super().__init__()
        self._transcript = transcript

    @property
    def control(self) -> Widget:
        """The transcript it came from."""
        return self._transcript


class About(_FromTranscript):
    """Base of what the reader asks for about one message."""

    def __init__(self, transcript: Widget, entry: Entry, text: str) -> None:
        super().__init__(transcript)
        self.entry = entry
        """The message under the cursor."""
        self.text = text
        """Its text, neutralised; of a code block when the cursor is on one."""


class Copied(About, namespace="transcript"):
    """Posted when text was put on the clipboard."""


class AskAgain(About, namespace="transcript"):
    """Posted on `R`: ask the question of this message again."""


class Pipe(About, namespace="transcript"):
    """Posted on `|`: use this message as input of a pipeline."""


class Quote(About, namespace="transcript"):
    """Posted on `>`: put this message, quoted, into the composer."""


class EditAndAsk(About, namespace="transcript"):
    """Posted on `i`: put this question into the composer to change and send it."""


class WhatWasSent(About, namespace="transcript"):
    """Posted on `I`: show what the model was sent for this message."""


class CardChosen(_FromTranscript, namespace="transcript"):
    """Posted when the card of a call that waits was chosen, by Enter or by a click."""

    def __init__(self, transcript: Widget, entry: Entry, call: int, key: str = "") -> None:
        super().__init__(transcript)
        self.entry = entry
        self.call = call
        """Number of the call in its message."""
        self.key = key
        """The key of the card that was clicked, empty for none."""


class SearchChanged(_FromTranscript, namespace="transcript"):
    """Posted when the search has found more, has looked at everything, or another match is shown."""

    def __init__(self, transcript: Widget, count: int, done: bool, at: int = 0) -> None:
        super().__init__(transcript)
        self.count = count
        """Hits, so far."""
        self.done = done
        """Whether every message was looked at."""
        self.at = at
        """Which of them is shown, counted from 1 at the oldest; 0 for none."""


class FollowChanged(_FromTranscript, namespace="transcript"):
    """Posted when the reader left the tail or came back to it."""

    def __init__(self, transcript: Widget, following: bool) -> None:
        super().__init__(transcript)
        self.following = following
