"""Foreign text comes through one door, and nothing that steers a terminal gets past it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tekton_tui.safe_text import literal, literal_line, one_line, safe, safe_inline

HOSTILE = (
    "\x1b[2J\x1b[H",
    "\x1b]52;c;c2VjcmV0\x07",
    "\x1b]0;title\x1b\\",
    "\x1bP1$r0m\x1b\\",
    "\x1b_Gi=1;AAAA\x1b\\",
    "\x9b31m\x9d52;c;AAAA\x9c",
    "\u202ereversed\u202c\u2066x\u2069\u200e\u200f\u061c",
    "a\rb\bc\x00d\x7fe\x0bf\x0cg",
    "\ufeff\u2028\u2029\u2060\u00ad",
    "\U000e0041\U000e007f",
    "\ud800 lone \udfff",
)
KEPT = ("plain", "tabs\tand\nlines", "日本語", "👨‍👩‍👧‍👦 ❤️", "مرحبا", "नमस्ते", "café", "\ue0b0")

STEERING = ("RLE", "LRE", "PDF", "RLO", "LRO", "RLI", "LRI", "FSI", "PDI", "BN")

any_text = st.text(alphabet=st.characters(), max_size=200)


def steers(character: str) -> bool:
    """Whether a character must never reach the terminal."""
    if character in "\n\t\u200c\u200d":
        return False
    category, direction = unicodedata.category(character), unicodedata.bidirectional(character)
    return category in ("Cc", "Cs", "Zl", "Zp") or (category == "Cf" and direction in STEERING)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_steers_is_left_however_the_text_is_split(text: str) -> None:
    for cut in range(len(text) + 1):
        shown = safe(text[:cut]) + safe(text[cut:])
        assert not any(map(steers, shown))
        assert shown == safe(text)


@pytest.mark.parametrize("text", KEPT)
def test_ordinary_text_of_any_script_stays_as_it_is(text: str) -> None:
    assert safe(text) is text


def test_controls_become_their_pictures() -> None:
    assert safe("a\x1b[0m\x07\x7f\r") == "a␛[0m␇␡␍"
    assert safe("\u202e\x9b") == "⟨U+202E⟩⟨U+009B⟩"


@given(any_text, any_text)
def test_mapping_is_per_character_and_stable(left: str, right: str) -> None:
    assert safe(left + right) == safe(left) + safe(right)
    assert safe(safe(left)) == safe(left)
    assert not any(map(steers, safe(left)))
    safe(left).encode("utf-8")


@given(any_text)
def test_inline_text_has_no_line_ends(text: str) -> None:
    assert not set(safe_inline(text)) & set("\n\t\r")


@given(any_text, st.integers(-1, 60))
def test_one_line_fits_its_cell(text: str, width: int) -> None:
    line = one_line(text, width)
    assert "\n" not in line and "\t" not in line
    assert not any(map(steers, line))
    assert cell_len(line) <= max(0, width)


def test_one_line_says_that_it_was_cut() -> None:
    assert one_line("connection refused by the server", 12) == "connection …"
    assert one_line("a\n  b\t\tc", 12) == "a b c"
    assert one_line("日本語テキスト", 6) == "日本…"


def test_markup_stays_text() -> None:
    assert literal("[@click=app.quit]x[/] [/nope]").plain == "[@click=app.quit]x[/] [/nope]"
    assert literal("[b]x[/b]", "bold").spans[0][:2] == (0, 8)
    assert literal_line("[red]a\nb[/]", 20).plain == "[red]a b[/]"
