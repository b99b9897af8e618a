"""Source text becomes blocks and rows: the same however it arrives, never wider than its pane, nothing lost."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tekton_tui.transcript.blocks import MAX_BLOCK_CHARS, MAX_CODE_LINES, MAX_LINE_CHARS, Splitter, split
from tekton_tui.transcript.code import CodeRows, highlight
from tekton_tui.transcript.markdown import draw_markdown
from tekton_tui.transcript.rows import BLOCK, BOLD, CODE, DIM, ITALIC, LINK, Row
from tekton_tui.transcript.wrap import wrap_runs

PIECES = st.sampled_from(
    [
        "word ", "**bold** ", "`code` ", "\n", "\n\n", "```python\n", "```\n", "~~~\n", "- item\n", "1. one\n",
        "   more\n", "> quote\n", "| a | b |\n", "|---|---|\n", "# Title\n", "    deep\n", "  ", "\t",
        "日本語", "👨‍👩‍👧‍👦", "-", "`", "``", "*", "x" * 90, "\n\n\n", "[a](b)", "---\n", "\u0301", "  - sub\n",
    ]
)  # fmt: skip
documents = st.lists(PIECES, max_size=40).map("".join)


def shape(blocks: list[object]) -> list[tuple[object, ...]]:
    """Return what is comparable of blocks."""
    return [(block.source, block.info, block.settled) for block in blocks]  # type: ignore[attr-defined]


@settings(max_examples=300, deadline=None)
@given(documents, st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_streamed_text_has_the_blocks_of_the_whole(text: str, sizes: list[int]) -> None:
    splitter = Splitter()
    at = turn = 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        splitter.feed(text[at : at + size])
        at, turn = at + size, turn + 1
    splitter.finish()
    assert shape(list(splitter.blocks)) == shape(list(split(text)))


@settings(max_examples=200, deadline=None)
@given(documents)
def test_no_word_is_lost_between_blocks(text: str) -> None:
    kept = "".join(block.source for block in split(text))
    without_fences = re.sub(r"^\s*(```|~~~).*$", "", text, flags=re.MULTILINE)
    assert sorted(re.findall(r"[a-z日本語]", without_fences)) == sorted(
        re.findall(r"[a-z日本語]", re.sub(r"^\s*(```|~~~).*$", "", kept, flags=re.MULTILINE))
    )


def test_blocks_end_at_blank_lines_and_fences() -> None:
    blocks = split("para\nstill\n\n- a\n\n  inside a\n\n- b\n```py\nx\n\ny\n```\ntail")
    assert [(block.info, block.source) for block in blocks] == [
        (None, "para\nstill\n"),
        (None, "- a\n\n  inside a\n"),
        (None, "- b\n"),
        ("py", "x\n\ny\n"),
        (None, "tail"),
    ]


def test_blank_line_in_a_list_items_code_ends_nothing() -> None:
    assert len(split("1. do\n   ```\n   a\n\n   b\n   ```\n   done\n")) == 1


TABLE_HEAD = "| a | b |\n|---|---|\n"


@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000,
        "word " * 200_000,
        "line of text\n" * 80_000,
        "- item\n" * 100_000,
        TABLE_HEAD + "| 1 | 2 |\n" * 50_000,
    ],
    ids=["one word", "one line", "lines", "list", "table"],
)
def test_a_block_never_grows_with_the_message(text: str) -> None:
    blocks = split(text)
    assert max(len(block.source) for block in blocks) <= 5 * max(MAX_BLOCK_CHARS, MAX_LINE_CHARS)


def test_a_table_that_goes_on_repeats_its_head() -> None:
    blocks = split("| name | n |\n|---|---|\n" + "| row | 1 |\n" * 3_000)
    assert len(blocks) > 1
    assert all(block.source.startswith("| name | n |\n|---|---|\n") for block in blocks)


def texts(rows: list[Row]) -> list[str]:
    """Return what the rows say."""
    return [row.text for row in rows]


@pytest.mark.parametrize("name", ["日本語", "日" * 40, "\u0301", "👨‍👩‍👧‍👦"])
@pytest.mark.parametrize("width", [6, 20, 80])
def test_the_label_of_code_is_measured_in_cells(name: str, width: int) -> None:
    *label, _code = CodeRows(name, width).rows(["x\n"], settled=True)
    assert all(cell_len(row.text) == row.cells <= width for row in label)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab 日👨‍👩é\u0301❤️", max_size=80), st.integers(1, 30))
def test_wrapped_rows_join_to_the_line(text: str, width: int) -> None:
    rows = wrap_runs([(text, 0)], width)
    joined = "".join(
        row.text + (row.joint if index < len(rows) - 1 else "") for index, row in enumerate(rows)
    )
    kept = text.lstrip("\u200d\ufe0f")
    assert re.sub(" +", " ", joined).rstrip() == re.sub(" +", " ", kept).rstrip()
    assert all(row.cells <= max(width, 2) for row in rows)


def test_wide_characters_break_before_the_edge() -> None:
    assert texts(wrap_runs([("日本語日本語", 0)], 5)) == ["日本", "語日", "本語"]


def test_a_family_is_never_torn() -> None:
    family = "👨‍👩‍👧‍👦"
    assert texts(wrap_runs([(family * 3, 0)], 4)) == [family * 2, family]


def test_inline_marks_become_inks() -> None:
    rows = draw_markdown("a **b *c*** `d` [e](https://f) ~~g~~", 80)
    inks = {text: ink for row in rows for text, ink in row.runs}
    assert inks["b "] == BOLD
    assert inks["c"] == BOLD | ITALIC
    assert inks["d"] == CODE
    assert inks["e"] == LINK
    assert inks[" (https://f)"] == DIM
    assert rows[0].text == "a b c d e (https://f) g"


@pytest.mark.parametrize("entity", ["&#13;", "&#x202e;", "&#10;", "&#12;", "&#x1b;", "&#x9b;", "&#xfeff;"])
def test_entities_bring_no_control_characters(entity: str) -> None:
    for source in (
        f"a{entity}b",
        f"[x](http://h/{entity})",
        f"`{entity}`",
        f"- a{entity}b",
        f"| a{entity} |\n|---|\n",
    ):
        for row in draw_markdown(source, 40):
            assert all(character.isprintable() for character in row.text), (source, row.text)


def test_html_and_markup_are_text() -> None:
    assert texts(draw_markdown("<b>x</b> [@click=app.quit]y[/] [/]", 60)) == [
        "<b>x</b> [@click=app.quit]y[/] [/]"
    ]


def test_lists_keep_their_numbers_and_indent() -> None:
    assert texts(draw_markdown("3. three words here\n4. four\n   - [x] done\n   - [ ] open", 12)) == [
        "3. three",
        "   words",
        "   here",
        "4. four",
        "   ☑ done",
        "   ☐ open",
    ]


def test_tables_are_aligned_and_wrap_when_narrow() -> None:
    rows = texts(draw_markdown("| name | n |\n|:--|--:|\n| a long cell | 7 |\n", 12))
    assert rows[0] == "name       n"
    assert rows[2:] == ["a long     7", "cell        "]


def test_quotes_are_barred() -> None:
    assert texts(draw_markdown("> one two\n> - three", 8))[0] == "▏ one"


def test_unknown_language_and_hostile_label_are_harmless() -> None:
    rows = CodeRows("../../etc\x1b]52;c\x07" + "x" * 99, 40).rows(["a\n"], settled=True)
    assert all(character.isprintable() for row in rows for character in row.text)
    assert highlight(["x = 1"], "no-such-language") == [[("x = 1", BLOCK)]]


def test_streamed_code_ends_as_loaded_code() -> None:
    lines = [f"def f{n}(x):  # '''\n" for n in range(MAX_CODE_LINES)]
    streamed = CodeRows("python", 60)
    for count in range(1, len(lines) + 1):
        streamed.rows(lines[:count], settled=False)
    assert streamed.rows(lines, settled=True) == CodeRows("python", 60).rows(lines, settled=True)


def test_long_code_lines_are_joined_again_when_copied() -> None:
    rows = CodeRows("", 12).rows(["abcdefghijklmnop\n", "second\n"], settled=True)
    joined = "".join(row.copied + row.joint for row in rows)
    assert joined == "abcdefghijklmnop\nsecond\n"
