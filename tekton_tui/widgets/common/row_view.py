"""A view of rows drawn one by one, whose own size does not depend on how many there are."""

from __future__ import annotations

from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.widget import Widget


class RowView(ScrollView):
    """Says how many rows it has with `set_rows`. Its height must come from its style or from what is around it.

    Textual lays the whole screen out whenever the size of what scrolls changes; here only when a scrollbar comes or goes.
    Written against Textual 8.2, which is pinned.
    """

    def set_rows(self, rows: int) -> None:
        """Say how many rows there are, as wide as the view; where fewer are left the scroll position follows."""
        size = Size(self.scrollable_content_region.width, rows)
        if size != self.virtual_size:
            self.set_reactive(Widget.virtual_size, size)  # pyright: ignore[reportArgumentType]
            self._scroll_update(size)
