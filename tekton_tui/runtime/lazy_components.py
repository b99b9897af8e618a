"""Component classes that are styled when they are first drawn.

Textual styles every component class of a widget each time the widget itself is: when it is mounted, gets or loses the focus,
or has a class added. A transcript has 33 of them, a page of eighteen lanes six hundred, of which most draw nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.css.styles import RenderStyles
from textual.dom import DOMNode
from textual.widget import Widget

_Base = Widget if TYPE_CHECKING else object


class LazyComponents(_Base):
    """To be put before the widget that has `COMPONENT_CLASSES`; what they look like stays in its style sheet."""

    @classmethod
    def _get_component_classes(cls) -> frozenset[str]:
        # What the style sheet is to style with the widget: nothing.
        return frozenset()

    def get_component_styles(self, *names: str) -> RenderStyles:
        """Return the styles of component classes, later ones over earlier ones.

        Raises:
            KeyError: The widget has no such component class.
        """
        known = super()._get_component_classes()
        for name in names:
            if name in known and name not in self._component_styles:
                part = DOMNode(classes=name)
                part._attach(self)
                self.app.stylesheet.apply(part)
                self._component_styles[name] = part.styles
        return super().get_component_styles(*names)

    def notify_style_update(self) -> None:
        """Forget the styles of parts: the widget has others now, or the theme has."""
        self._component_styles.clear()
        super().notify_style_update()
