"""Parts of a widget that are styled when they are first drawn look as those that are styled with it."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from textual.app import App, ComposeResult
from textual.css.stylesheet import Stylesheet
from textual.widget import Widget

from tekton_tui.runtime.lazy_components import LazyComponents
from tekton_tui.transcript import Transcript
from tekton_tui.transcript.palette import COMPONENT_CLASSES
from tekton_tui.widgets.composer.editor import Editor

PARTS = frozenset({"parts--one", "parts--two"})
CSS = """
Eager, Lazy {
    color: $foreground;
    & > .parts--one { color: $primary; background: $surface 40%; }
    & > .parts--two { color: $secondary; text-style: bold; }
    &:focus > .parts--one { color: $error; }
    &.-loud > .parts--two { color: $warning; }
}
Screen.-other Eager > .parts--two, Screen.-other Lazy > .parts--two { color: $success; }
"""


class Eager(Widget, can_focus=True):
    COMPONENT_CLASSES: ClassVar[set[str]] = set(PARTS)

    def looks(self) -> list[object]:
        both = [self.get_component_rich_style(*sorted(PARTS))]
        return both + [
            self.get_component_rich_style(name, partial=partial)
            for name in sorted(PARTS)
            for partial in (False, True)
        ]


class Lazy(LazyComponents, Eager):
    pass


class Twins(App[None]):
    CSS = CSS

    def compose(self) -> ComposeResult:
        yield Eager()
        yield Lazy()


async def test_a_part_looks_as_one_that_is_styled_with_its_widget_whatever_changes() -> None:
    async with Twins().run_test() as pilot:
        eager, lazy = pilot.app.query(Eager)  # a Lazy is one, too
        pilot.app.set_focus(None)
        seen: list[list[object]] = []

        async def alike() -> None:
            await pilot.pause()
            assert type(eager) is Eager and isinstance(lazy, Lazy) and lazy.looks() == eager.looks()
            seen.append(lazy.looks())

        await alike()
        for one in (eager, lazy):
            one.add_class("-loud")
        await alike()
        pilot.app.theme = "textual-light"
        await alike()
        pilot.app.screen.add_class("-other")
        await alike()
        for one in (eager, lazy):
            one.remove_class("-loud")
            one.styles.background = "red"
        await alike()
        assert len({str(looks) for looks in seen}) == len(seen), "each step shows"
        before = [one.looks() for one in (eager, lazy)]
        after: list[list[object]] = []
        for one in (eager, lazy):
            one.focus()
            await pilot.pause()
            after.append(one.looks())
        assert before[0] == before[1] and after[0] == after[1] and before[0] != after[0]
        eager.focus()
        await pilot.pause()
        assert lazy.looks() == before[1], "what lost the focus looks as before"


async def test_a_part_that_does_not_exist_is_named() -> None:
    async with Twins().run_test() as pilot:
        lazy = pilot.app.query_one(Lazy)
        with pytest.raises(KeyError, match="parts--three"):
            lazy.get_component_styles("parts--three")


@pytest.mark.parametrize(("kind", "count"), [(Transcript, len(COMPONENT_CLASSES)), (Editor, 14)])
async def test_a_widget_that_gets_and_loses_the_focus_styles_the_parts_it_draws(
    monkeypatch: pytest.MonkeyPatch, kind: Any, count: int
) -> None:
    class One(App[None]):
        def compose(self) -> ComposeResult:
            yield kind("") if kind is Editor else kind()
            yield Eager(id="other")

    styled: list[object] = []
    apply = Stylesheet.apply

    def counted(self: Stylesheet, node: Any, **options: Any) -> None:
        styled.append(node)
        apply(self, node, **options)

    async with One().run_test() as pilot:
        pilot.app.query_one("#other").focus()
        await pilot.pause()
        monkeypatch.setattr(Stylesheet, "apply", counted)
        for _ in range(3):
            pilot.app.query_one(kind).focus()
            await pilot.pause()
            pilot.app.query_one(kind).blur()
            await pilot.pause()
        parts = [node for node in styled if getattr(node, "parent", None) is pilot.app.query_one(kind)]
        assert styled and len(parts) < 6 * count / 2, "less than half of them"
