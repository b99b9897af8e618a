"""Reads one conversation from memory: its newest messages, and older ones page by page. Knows no widget."""

from __future__ import annotations

from collections.abc import Callable

from backend.schema.params import GetHistory, ListMessages
from backend.schema.records import StoredMessage
from backend.schema.results import MessageList
from tekton_tui.runtime.controller import Controller
from tekton_tui.runtime.latest import Latest
from tekton_tui.stores import LiveTurn

PAGE = 60
"""Messages fetched at a time."""
SEARCHED_PAGE = 500
"""Messages fetched at a time while the whole conversation is searched."""


class Reader:
    """Of readings that overlap the newest alone is shown, and an older page only above the messages it was asked for.

    An answer is stored before the backend says that its turn has ended. So a reading holds every turn that ended before it
    was asked for; those that ended after, until it came, are kept here.
    """

    def __init__(self, ai_id: str, controller: Controller) -> None:
        self._ai_id = ai_id
        self._newest, self._older = Latest(controller), Latest(controller)
        self._oldest = 0
        """Number of the oldest message that was read; 0 when there is none before it."""
        self._ended: list[LiveTurn] = []

    @property
    def under_way(self) -> bool:
        """Whether the newest messages are being read."""
        return self._newest.under_way

    def read(
        self,
        session_id: str,
        show: Callable[[str, list[StoredMessage], list[LiveTurn]], None],
        otherwise: Callable[[], None],
    ) -> None:
        """Read the newest messages of a session, or of the specialist's default one where none is named.

        `show` gets the session's id, the messages, and the turns that have ended since; `otherwise` is called on a failure.
        """
        self._ended = []

        def came(session: str, messages: list[StoredMessage]) -> None:
            self._older.forget()
            # a page that is not full was the last
            self._oldest = messages[0].id if len(messages) >= PAGE else 0
            ended, self._ended = self._ended, []
            show(session, messages, ended)

        if session_id:
            self._newest.request(
                ListMessages(session_id, limit=PAGE),
                lambda listed: came(session_id, listed.messages),
                otherwise=otherwise,
            )
        else:
            self._newest.request(
                GetHistory(self._ai_id, limit=PAGE),
                lambda history: came(history.conversation_id, history.messages),
                otherwise=otherwise,
            )

    def note_ended(self, turn: LiveTurn) -> None:
        """Keep a turn of this specialist that ended for the reading under way, which may lack it."""
        if self.under_way:
            self._ended.append(turn)

    def read_older(
        self, session_id: str, show: Callable[[list[StoredMessage]], None], *, searched: bool = False
    ) -> None:
        """Read the messages before the oldest, if there are any and nothing is being read; more at a time for a search."""
        if not self._oldest or self.under_way or self._older.under_way:
            return
        limit = SEARCHED_PAGE if searched else PAGE

        def came(listed: MessageList) -> None:
            self._oldest = listed.messages[0].id if len(listed.messages) >= limit else 0
            if listed.messages:
                show(listed.messages)

        self._older.request(ListMessages(session_id, before_id=self._oldest, limit=limit), came)
