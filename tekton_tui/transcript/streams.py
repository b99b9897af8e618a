"""What a transcript holds: messages loaded, added and streamed; knows no keys, no search and no verbs.

Text that arrives is only kept until the frame clock gives the widget a frame; how it is drawn is `surface.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tekton_tui.transcript.entry import Entry
from tekton_tui.transcript.surface import Surface
from tekton_tui.transcript.warm import warm


class Streams(Surface):
    """A column of messages that may still grow."""

    @property
    def entries(self) -> Sequence[Entry]:
        """All messages, oldest first; the texts of running streams lag by at most a frame."""
        return self._flow.entries

    @property
    def unread(self) -> int:
        """How many messages got text below what is being read."""
        return self._viewport.unread

    def load(self, entries: Sequence[Entry]) -> None:
        """Replace everything and go to the tail; does not depend on how much there is."""
        self._cursor.clear()
        self._viewport.load(entries)
        self._ask()

    def prepend(self, entries: Sequence[Entry]) -> None:
        """Put older messages before the first; what is being read stays where it is."""
        self._flow.prepend(entries)
        self._ask()

    def clear(self) -> None:
        """Forget everything."""
        self.load([])

    def append_entry(self, entry: Entry) -> None:
        """Add a finished message at the end."""
        self._viewport.note_news(self._flow.append(entry))
        self._ask()

    def begin(self, entry: Entry) -> None:
        """Open a message that will stream: its key names it in the calls below."""
        warm()
        self._viewport.note_news(self._flow.append(entry, streaming=True))
        self._ask()

    def append_text(self, key: str, text: str) -> None:
        """Take more of a streaming answer; drawn with the next frame. Unknown keys are ignored."""
        stream = self._flow.streaming(key)
        if stream is not None:
            stream[1].write(text)
            self._ask()

    def append_reasoning(self, key: str, text: str) -> None:
        """Take more of a streaming model's reasoning; drawn with the next frame."""
        stream = self._flow.streaming(key)
        if stream is not None:
            stream[1].write_reasoning(text)
            self._ask()

    def set_phase(self, key: str, phase: str) -> None:
        """Say what a turn waits for ("prefill 4.1 s") until its first token."""
        stream = self._flow.streaming(key)
        if stream is not None:
            stream[1].set_phase(phase)
            self._ask()

    def finish(self, key: str, *, footer: str = "") -> None:
        """End a stream; `footer` holds short facts about it."""
        self._end(key, footer=footer)

    def fail(self, key: str, code: str, text: str, *, footer: str = "") -> None:
        """End a stream with an error shown under the text it had."""
        self._end(key, code=code, error=text, footer=footer)

    def text_of(self, key: str) -> str | None:
        """Return the whole source text of a message, also what waits for its frame."""
        stream = self._flow.streaming(key)
        if stream is not None:
            stream[1].settle_pending()
        number = self._flow.find_key(key)
        return None if number is None else self._flow.entry(number).text

    def _end(self, key: str, *, footer: str, code: str = "", error: str = "") -> None:
        stream = self._flow.streaming(key)
        if stream is None:
            return
        number, message = stream
        message.entry.footer, message.entry.code, message.entry.error = footer, code, error
        message.finish()
        self._flow.measure(number)
        self._flow.end_stream(key)
        self._viewport.note_news(number)
        self._ask(urgent=True)
