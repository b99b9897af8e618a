"""A table of rows with columns whose rows end where its view ends."""

from __future__ import annotations

from typing import Any

from textual.widgets import DataTable


class Table(DataTable[Any]):
    """A `DataTable` that is drawn again once it has heard of its new size.

    Textual keeps rows as they were drawn until then. Where the new size is painted before it is heard of, a head and a
    cursor end where the view ended before.
    """

    def on_resize(self) -> None:
        self.refresh()
