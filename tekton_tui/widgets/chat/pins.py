"""Pins messages of a conversation, also those that came by the stream and whose number in memory is not known yet."""

from __future__ import annotations

from backend.schema.params import ListMessages
from backend.schema.records import StoredMessage
from tekton_tui.commands import Commands
from tekton_tui.transcript import Entry, Transcript
from tekton_tui.widgets.chat.entries import stored_entry

SEARCHED = 60
"""Newest messages among which the number of one that was streamed is looked for."""


class Pins:
    """What `p` does in a transcript."""

    def __init__(self, transcript: Transcript, commands: Commands) -> None:
        self._transcript, self._commands = transcript, commands

    def toggle(self, session_id: str) -> None:
        """Pin the message under the cursor, or unpin it; the number of one that was streamed is fetched first."""
        entry = self._transcript.current()
        if entry is None:
            self._commands.notify("no message is under the cursor")
            return
        if self._transcript.is_streaming(entry.key):
            self._commands.notify("still being written: pin it when it is complete", failed=True)
        elif entry.message_id:
            self._pin(entry)
        else:
            self._commands.controller.request(
                ListMessages(session_id, limit=SEARCHED),
                lambda listed: self._number_and_pin(listed.messages, entry),
            )

    def _number_and_pin(self, messages: list[StoredMessage], wanted: Entry) -> None:
        """Give messages that came by the stream their numbers, then pin the one that was meant."""
        if not self._transcript.is_attached:
            return
        numbers = {entry.key: entry.message_id for entry in map(stored_entry, messages)}
        for entry in self._transcript.entries:
            # all that were read get their numbers: the next pin asks nothing
            entry.message_id = entry.message_id or numbers.get(entry.key, 0)
        if wanted.message_id:
            self._pin(wanted)
        else:
            self._commands.notify("not in memory: only a stored message can be pinned", failed=True)

    def _pin(self, entry: Entry) -> None:
        pinned = not entry.pinned

        def show() -> None:
            if self._transcript.is_attached:
                self._transcript.set_pinned(entry.key, pinned)

        self._commands.sessions.pin_message(entry.message_id, pinned, show)
