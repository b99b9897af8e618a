"""What a transcript says to its owner; nothing here acts.

Handlers are named after the transcript: `on_transcript_copied`, `@on(Transcript.Copied)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.message import Message

from tekton_tui.transcript.entry import Entry

if TYPE_CHECKING:
    from tekton_tui.transcript.widget import Transcript


class About(Message):
    """Base of what the reader asks for about one message."""

    def __init__(self, transcript: Transcript, entry: Entry, text: str) -> None:
        super().__init__()
        self.transcript = transcript
        self.entry = entry
        """The message under the cursor."""
        self.text = text
        """Its text, neutralised; of a code block when the cursor is on one."""

    @property
    def control(self) -> Transcript:
        """The transcript it came from."""
        return self.transcript


class Copied(About, namespace="transcript"):
    """Posted when text was put on the clipboard."""


class AskAgain(About, namespace="transcript"):
    """Posted on `R`: ask the question of this message again."""


class Pipe(About, namespace="transcript"):
    """Posted on `|`: take this message as input of a pipeline."""


class Quote(About, namespace="transcript"):
    """Posted on `>`: put this message, quoted, into the composer."""


class EditAndAsk(About, namespace="transcript"):
    """Posted on `i`: put this question into the composer to change and send it."""


class SearchChanged(Message, namespace="transcript"):
    """Posted when the search has found more, has looked at everything, or another match is shown."""

    def __init__(self, transcript: Transcript, count: int, done: bool, at: int = 0) -> None:
        super().__init__()
        self.transcript = transcript
        self.count = count
        """Messages that match, so far."""
        self.done = done
        self.at = at
        """Which of them the cursor is on, counted from 1 at the oldest; 0 when it is on none."""

    @property
    def control(self) -> Transcript:
        """The transcript it came from."""
        return self.transcript


class FollowChanged(Message, namespace="transcript"):
    """Posted when the reader left the tail or came back to it."""

    def __init__(self, transcript: Transcript, following: bool) -> None:
        super().__init__()
        self.transcript = transcript
        self.following = following

    @property
    def control(self) -> Transcript:
        """The transcript it came from."""
        return self.transcript
