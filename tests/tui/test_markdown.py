"""Markdown loses nothing: every word of the source is on the drawn rows, at any nesting, length and width."""

from __future__ import annotations

import re
from itertools import count, product
from string import ascii_lowercase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tekton_tui.transcript.blocks import split
from tekton_tui.transcript.entry import Entry
from tekton_tui.transcript.markdown import draw_markdown
from tekton_tui.transcript.message import Look, Message
from tekton_tui.transcript.pieces import FOLD_ROWS, FoldingPiece
from tekton_tui.transcript.rows import BLOCK, BOLD, CODE, ITALIC, SOFT_CUT, TOKEN_SHIFT, Row

WORDS = ["x" + "".join(letters) for letters in product(ascii_lowercase, repeat=2)]
DECORATION = re.compile(r"^[\s▏•◦▪☐☑]+")


class Source:
    """Writes Markdown in which every word is another."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def word(self) -> str:
        self.words.append(WORDS[len(self.words) % len(WORDS)])
        return self.words[-1]


INLINE = ("{}", "**{}**", "*{}*", "_{}_", "~~{}~~", "`{}`", "[{}](http://{}/)", "![{}]({})", '[{}]({} "{}")', "${}_{}$",
          r"\({}\)", "**{}。**{}", "*「{}」*{}", "<{}>", r"\[{}^2\]", "{}  \n{}")  # fmt: skip
BLOCKS = (
    "text",
    "heading",
    "list",
    "numbers",
    "tasks",
    "quote",
    "code",
    "diff",
    "table",
    "math",
    "rule",
    "long",
)
shapes = st.recursive(
    st.sampled_from(BLOCKS).map(lambda kind: (kind, [])),
    lambda inner: st.tuples(
        st.sampled_from(["list", "numbers", "quote"]), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=6,
)


def write(shape: object, source: Source, form: count[int]) -> list[str]:
    """Return the lines of a block of Markdown."""
    kind, inner = shape  # type: ignore[misc]
    lines: list[str] = []
    if inner or kind in ("list", "numbers", "tasks", "quote", "text"):
        lines = [line for block in inner for line in [*write(block, source, form), ""]] or [
            text(source, form)
        ]
    if kind == "heading":
        return [f"## {text(source, form)}"]
    if kind in ("list", "numbers", "tasks"):
        mark = {"list": "- ", "numbers": "7. ", "tasks": "- [x] "}[kind]
        return [mark + lines[0], *[" " * len(mark.split("[")[0]) + line for line in lines[1:]]]
    if kind == "quote":
        return [f"> {line}" for line in lines]
    if kind in ("code", "diff"):
        return [
            f"```{kind} {source.word()}",
            f"+{source.word()} = {source.word()}",
            "",
            f"-{source.word()}",
            "```",
        ]
    if kind == "table":
        cells = [source.word() for _ in range(9)]
        return ["| {} | {} |".format(*cells), "|---|--:|", "| {} | {} | {} | {} |".format(*cells[2:]), f"| {cells[6]} |",
                "{} | {}".format(*cells[7:])]  # fmt: skip
    if kind == "math":
        return ["$$", rf"{source.word()} = \frac{{{source.word()}}}{{2}} \,", f"- {source.word()}", "$$"]
    if kind == "long":
        return [" ".join(source.word() for _ in range(30))]
    if kind == "rule":
        return ["---"]
    return lines


def text(source: Source, form: count[int]) -> str:
    """Return a line with two kinds of inline Markdown."""
    parts = [INLINE[next(form) % len(INLINE)] for _ in range(2)]
    return " ".join(part.format(*[source.word() for _ in range(part.count("{}"))]) for part in parts)


def rows_of(markdown: str, width: int) -> list[Row]:
    """Return all rows of an answer, unfolded."""
    message = Message(Entry("a", "x", "answer", markdown), Look(header=False))
    for number, piece in enumerate(message.pieces):
        message.draw(number, width)
        if isinstance(piece, FoldingPiece) and piece.folded:
            piece.toggle()
    return [row for piece in message.pieces for row in piece.rows(width)]


def said(rows: list[Row]) -> str:
    """Return the text of rows, words that a wrap cut joined again."""
    parts = [DECORATION.sub("", row.text).rstrip() + ("" if row.joint == SOFT_CUT else " ") for row in rows]
    return "".join(parts)


@settings(max_examples=300, deadline=None)
@given(st.lists(shapes, min_size=1, max_size=4), st.integers(0, 30), st.integers(12, 110))
def test_every_word_of_the_source_is_on_the_rows(blocks: list[object], form: int, width: int) -> None:
    source, forms = Source(), count(form)
    markdown = "\n\n".join("\n".join(write(block, source, forms)) for block in blocks)
    drawn = said(rows_of(markdown, width))
    assert [word for word in source.words if word not in drawn] == []


NOISE = st.sampled_from([*"*_`~#>-+|$[]()<>!\\:\"'{}", "\n", "\n\n", "  ", "    ", "\t", "1. ", "- ", "```", "~~~", "$$", "日本。",
                         "\\begin{a}", "\\end{a}", "\\[", "\\(", "|---|", "](", "\u0301", "👨‍👩‍👧‍👦", "{word} "])  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(NOISE, max_size=60), st.integers(40, 110))
def test_every_word_is_on_the_rows_whatever_stands_between(parts: list[str], width: int) -> None:
    source = Source()
    markdown = "".join(source.word() + " " if part == "{word} " else part for part in parts)
    drawn = said(rows_of(markdown, width))
    assert [word for word in source.words if word not in drawn] == []


@settings(max_examples=300, deadline=None)
@given(st.lists(shapes, min_size=1, max_size=3), st.integers(0, 30), st.integers(2, 110))
def test_no_row_is_wider_than_the_pane(blocks: list[object], form: int, width: int) -> None:
    markdown = "\n\n".join("\n".join(write(block, Source(), count(form))) for block in blocks)
    for row in rows_of(markdown, width):
        assert cell_len(row.text) == row.cells <= width


@pytest.mark.parametrize("depth", [10, 30, 200])
@pytest.mark.parametrize("mark", ["- ", "1. ", "> ", "> - "])
@pytest.mark.parametrize("width", [20, 80])
def test_any_nesting_is_shown(depth: int, mark: str, width: int) -> None:
    if mark == "> ":
        lines = [mark * level + f"deep{level}" for level in range(1, depth)]
    else:
        lines = ["  " * level + mark + f"deep{level}" for level in range(depth)]
    drawn = said(rows_of("\n".join(lines) + "\n\nAfter", width)).replace(" ", "")
    assert [line for line in lines if line.split()[-1] not in drawn] == []
    assert drawn.endswith("After")


def test_emphasis_works_beside_wide_characters() -> None:
    (row,) = draw_markdown("**中文。**中文、*「強調」*です", 80)
    assert row.text == "中文。中文、「強調」です"
    assert dict(row.runs)["中文。"] == BOLD and dict(row.runs)["「強調」"] == ITALIC


def test_formulas_are_kept_as_written_and_prices_are_no_formulas() -> None:
    (row,) = draw_markdown(r"$e^{-x^2}\,dx$ and \(a\_b*c*\) cost $5 and $10", 80)
    assert row.text == r"$e^{-x^2}\,dx$ and \(a\_b*c*\) cost $5 and $10"
    assert [run for run, ink in row.runs if ink & CODE] == [r"$e^{-x^2}\,dx$", r"\(a\_b*c*\)"]
    rows = draw_markdown("$$\n\\int e^{-x^2}\\,dx\n- 1 \\\\\n$$", 80)
    assert [row.text.strip() for row in rows[1:]] == ["$$", "\\int e^{-x^2}\\,dx", "- 1 \\\\", "$$"]


def test_a_table_that_does_not_fit_is_drawn_as_records() -> None:
    head = [f"column{n}" for n in range(9)]
    markdown = "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * 9, *([f"{n}value{m}" for m in range(9)] for n in range(2))))  # fmt: skip
    rows = rows_of(markdown, 40)
    assert all(row.cells <= 40 for row in rows)
    assert [row.text.split() for row in rows[:2]] == [["column0", "0value0"], ["column1", "0value1"]]
    assert max(row.cells for row in rows_of(markdown, 200)) > 70


def test_added_and_removed_lines_of_a_diff_are_told_apart_over_their_whole_width() -> None:
    rows = rows_of("```diff\n- old\n+ new\n  same\n```", 40)[1:]
    assert len({row.fill for row in rows}) == 3
    assert all(row.fill >> TOKEN_SHIFT for row in rows[:2]) and rows[2].fill == BLOCK


def test_a_task_shows_its_box_in_place_of_the_bullet() -> None:
    assert [row.text for row in draw_markdown("- [x] done\n- [ ] open\n- plain", 40)] == [
        "☑ done",
        "☐ open",
        "• plain",
    ]


@pytest.mark.parametrize(
    "sentence", ["Some words of a **sentence** here. ", "x" * 37, "日本語の文。", "[a](b) `c` "]
)
def test_a_line_of_a_megabyte_goes_on_without_a_blank_row(sentence: str) -> None:
    source = sentence * (1_000_000 // len(sentence))
    blocks = split(source)
    assert "".join(block.source for block in blocks) == source
    message = Message(Entry("a", "x", "answer", source), Look(header=False))
    for number in range(20):
        message.draw(number, 100)
    rows = [message.row(row, 100)[0] for row in range(message.top(20, 100))]
    assert all(row.text for row in rows) and "**" not in said(rows)
    pieces = message.pieces[:20]
    joined = "".join(row.copied + row.joint for piece in pieces for row in piece.rows(100))
    assert "\n" not in joined


def test_a_long_text_folds_and_unfolds_as_one() -> None:
    lines = [f"line {n}" for n in range(900)]
    for kind, source in (
        ("user", "\n".join(lines)),
        ("answer", "```\n" + "\n".join(lines) + "\n```\n\nAfter"),
    ):
        message = Message(Entry("a", "x", kind, source), Look(header=False))  # type: ignore[arg-type]
        drawn = [row.text.strip() for piece in message.pieces for row in piece.rows(60)]
        assert len(drawn) < FOLD_ROWS and drawn[0] == "line 0" and "▸ 888 more lines" in drawn
        head = message.pieces[0]
        head.toggle()
        drawn = [row.text.strip() for piece in message.pieces for row in piece.rows(60)]
        assert drawn[:900] == lines
        assert head.copied == "\n".join(lines)
