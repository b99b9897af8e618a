"""Foreign text comes through one door, and nothing that steers a terminal gets past it."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from backend.text import CONTEXT, escaped, escaped_line
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
    "a\ufe0fb\ufe00c\u200dd\u200c e\U000e0100",  # each of these belongs to other graphemes only
    "❤\ufe0f\ufe0f 👩\u200d\u200d क\u200d\u200d 葛\U000e0100\U000e0101 x\ufe0f\u200d",
    "\u3164\uffa0\u115f\u1160\u17b4\u034f\u180b\u180e",
    "🏴\U000e0067\U000e0062 " + "🏴" + "\U000e0061" * 40 + "\U000e007f",
)
KEPT = (
    "plain", "tabs\tand\nlines", "日本語", "👨‍👩‍👧‍👦 ❤️", "مرحبا", "नमस्ते", "café", "\ue0b0", "1️⃣ ⚠️ ✔️ ℹ️ 👍🏽 🏳️‍🌈",
    "می\u200cخواهم क्\u200dष", "葛\U000e0100 ∩\ufe00", "ᠰ\u180b", "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
)  # fmt: skip
FLAG = "🏴"
"""Where a stream is cut inside the tags of a flag, they are shown: the rest of the flag is not there yet."""

STEERING = ("RLE", "LRE", "PDF", "RLO", "LRO", "RLI", "LRI", "FSI", "PDI", "BN")

hidden = st.sampled_from("❤️\u200d\u200c\ufe00\U000e0100👩葛कa1∩\u2800\u3164\U000e0061\U000e007f")
any_text = st.text(alphabet=st.characters() | hidden, max_size=200)


def steers(character: str) -> bool:
    """Whether a character must never reach the terminal, wherever it stands."""
    if character in "\n\t\u200c\u200d\U000e007f" or "\U000e0030" <= character <= "\U000e007a":
        return False
    category, direction = unicodedata.category(character), unicodedata.bidirectional(character)
    return category in ("Cc", "Cs", "Zl", "Zp") or (category == "Cf" and direction in STEERING)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_steers_is_left_however_the_text_is_split(text: str) -> None:
    for cut in range(len(text) + 1):
        shown = safe(text[:cut]) + safe(text[cut:], text[:cut])
        assert not any(map(steers, shown))
        assert shown == safe(text) or FLAG in text
    assert safe(text) != text


@pytest.mark.parametrize("text", KEPT)
def test_ordinary_text_of_any_script_stays_as_it_is(text: str) -> None:
    assert safe(text) == text


def test_controls_become_their_pictures() -> None:
    assert safe("a\x1b[0m\x07\x7f\r") == "a␛[0m␇␡␍"
    assert safe("\u202e\x9b") == "⟨U+202E⟩⟨U+009B⟩"


@given(any_text.filter(lambda text: FLAG not in text), any_text)
def test_a_stream_made_safe_by_pieces_is_the_whole_made_safe(left: str, right: str) -> None:
    assert safe(left + right) == safe(left) + safe(right, left[-CONTEXT:])
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


@given(any_text)
def test_escaped_json_is_the_same_json_and_hides_nothing(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    plain = json.dumps(text, ensure_ascii=False)
    assert json.loads(escaped(plain)) == text
    assert not any(map(steers, escaped(plain)))
    assert not set(escaped_line(text)) & set("\n\r\x85\u2028")
