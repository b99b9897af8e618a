"""Component classes that are styled when they are first drawn.

Textual styles every component class of a widget each time the widget itself is: when it is mounted, gets or loses the focus,
or has a class added. A transcript has 33 of them, a page of eighteen lanes six hundred, of which most draw nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.css.styles import RenderStyles
from textual.dom import DOMNode
from textual.widget import Widget

from tekton_tui.runtime.frame_scheduler import app_of

_Base = Widget if TYPE_CHECKING else object


class LazyComponents(_Base):
    """To be put before the widget that has `COMPONENT_CLASSES`; what they look like stays in its style sheet."""

    if not TYPE_CHECKING:  # Textual has a class method here, which it asks of widgets alone

        def _get_component_classes(self) -> frozenset[str]:
            """Return that there are none, and forget their styles: asked whenever the widget has been styled."""
            self._component_styles.clear()
            self._rich_style_cache.clear()
            return frozenset()

    def get_component_styles(self, *names: str) -> RenderStyles:
        """Return the styles of component classes, later ones over earlier ones.

        Raises:
            KeyError: The widget has no such component class.
        """
        known = super()._get_component_classes()
        style_sheet: Any = app_of(self).stylesheet
        for name in names:
            if name in known and name not in self._component_styles:
                part = DOMNode(classes=name)
                part._attach(self)
                style_sheet.apply(part)
                self._component_styles[name] = part.styles
        return super().get_component_styles(*names)
