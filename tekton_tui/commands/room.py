"""What every command needs: the app as far as it is known here, the desk, the stores; small things all share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from textual.screen import Screen

from tekton_tui.desk import Desk
from tekton_tui.stores import Stores

if TYPE_CHECKING:
    from backend.schema.events import Topic


class Shell(Protocol):
    """What commands need of the app."""

    def push_screen(self, screen: Screen[Any], callback: Callable[[Any], None] | None = None) -> Any: ...

    def show_pane(self, name: str) -> None: ...

    def in_pane(self, name: str, act: Callable[[Any], None]) -> None: ...

    def copy_to_clipboard(self, text: str) -> None: ...

    def leave(self) -> None: ...

    def open_help(self) -> None: ...


class Room:
    """Base of all commands. `shell` is the app."""

    def __init__(self, shell: Shell, desk: Desk) -> None:
        self._shell, self._desk = shell, desk
        self._stores: Stores = desk.stores

    def known_names(self) -> set[str]:
        """Return the names, ids and groups a person may write for specialists."""
        rows = self._stores.fleet.rows.values()
        return {name for row in rows for name in (row.name, row.id, *row.groups)}

    def tell(self, text: str, *, bad: bool = False) -> None:
        self._desk.notice.emit(text, bad)

    def fetch(self, action: str, then: Callable[[Any], None], **params: Any) -> None:
        """Call an action for a widget; a failure becomes a notice."""
        self._desk.do(action, then=then, **params)

    def fetch_log(self, ai_id: str, tail: int, then: Callable[[dict[str, Any]], None]) -> None:
        """Fetch the newest log lines quietly: a missing log is no news."""
        self.fetch_quietly("specialist_logs", then, id=ai_id, tail=tail)

    def fetch_quietly(self, action: str, then: Callable[[dict[str, Any]], None], **params: Any) -> None:
        """Call an action whose failure is no news: nothing is shown then."""
        from backend.schema.errors import TektonError

        async def fetch() -> None:
            try:
                answer = await self._desk.call(action, **params)
            except TektonError:
                return
            then(answer)

        self._desk.spawn(fetch())

    def copy(self, text: str, what: str) -> None:
        self._shell.copy_to_clipboard(text)
        self._desk.notice.emit(f"copied {what}", False)

    def read_topics(self, *topics: Topic) -> None:
        """Hear more of what happens from now on."""
        for topic in topics:
            self._desk.spawn(self._desk.add_topic(topic))
