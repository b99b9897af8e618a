"""A reader's place in a long conversation: held by what stands there, whatever comes, grows or is corrected."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tekton_tui.transcript.entry import Entry
from tekton_tui.transcript.flow import MAX_ROWS_HELD, Flow
from tekton_tui.transcript.heights import Heights
from tekton_tui.transcript.message import Look, Message
from tekton_tui.transcript.search import Hit, Search
from tekton_tui.transcript.viewport import Viewport

ANSWER = "A **first** paragraph that is long enough to be wrapped.\n\n```py\nx = 1\n```\n\n- one\n- two\n"
HEIGHT = 10


def entries(count: int, text: str = ANSWER) -> list[Entry]:
    """Return a conversation."""
    return [Entry(f"k{n}", "apollo", "answer", f"Number {n}. {text}") for n in range(count)]


def view_of(count: int, width: int = 40) -> Viewport:
    """Return a window over a conversation, at its tail."""
    flow = Flow(Look())
    view = Viewport(flow)
    view.resize(width, HEIGHT)
    view.load(entries(count))
    view.settle()
    return view


def seen(view: Viewport) -> list[tuple[int, str]]:
    """Return message number and text of each row in the window."""
    return [(number, row.text) for number, _inner, row, _piece in view.rows()]


@given(st.lists(st.integers(0, 9), max_size=1200), st.integers(0, 8000))
def test_heights_find_what_a_plain_sum_finds(values: list[int], row: int) -> None:
    heights = Heights(values)
    index, inner = heights.find(row)
    if values and row < sum(values):
        assert sum(values[:index]) + inner == row and inner < values[index]
    assert heights.total == sum(values)
    assert all(heights.offset(at) == sum(values[:at]) for at in range(0, len(values), 97))


@given(st.lists(st.tuples(st.sampled_from("apsS"), st.integers(0, 50)), max_size=60))
def test_heights_follow_every_change(changes: list[tuple[str, int]]) -> None:
    heights, plain = Heights(), list[int]()
    for kind, value in changes:
        if kind == "a":
            heights.append(value)
            plain.append(value)
        elif kind == "p":
            heights.prepend([value, 1])
            plain[:0] = [value, 1]
        elif plain:
            heights.set(value % len(plain), value)
            plain[value % len(plain)] = value
    assert [heights[index] for index in range(len(heights))] == plain
    assert heights.total == sum(plain) == heights.offset(len(plain))


def test_a_new_view_shows_the_tail() -> None:
    view = view_of(500)
    assert view.following
    assert "two" in seen(view)[-1][1]
    assert seen(view)[-1][0] == 499


def test_held_place_stays_while_text_comes_below() -> None:
    view = view_of(50)
    view.scrolled(100)
    view.settle(margin=HEIGHT)
    before = seen(view)
    for number in range(20):
        view.note_news(view.flow.append(Entry(f"n{number}", "a", "answer", ANSWER)))
        view.settle(margin=HEIGHT)
        assert seen(view) == before
    assert view.unread == 20
    view.follow()
    view.settle()
    assert view.unread == 0 and seen(view)[-1][0] == 69


def test_held_place_stays_while_older_history_is_loaded() -> None:
    view = view_of(50)
    view.scrolled(3)
    view.settle(margin=HEIGHT)
    before = seen(view)
    view.flow.prepend(entries(300))
    view.settle(margin=HEIGHT)
    assert seen(view) == before
    assert view.flow.first == -300


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(10, 90), min_size=1, max_size=6), st.integers(0, 900))
def test_message_at_the_top_survives_every_width(widths: list[int], row: int) -> None:
    view = view_of(120)
    view.scrolled(min(row, view.total - HEIGHT - 1))
    view.settle(margin=HEIGHT)
    top = seen(view)[0][0]
    for width in widths:
        view.resize(width, HEIGHT)
        view.settle(margin=HEIGHT)
        if view.following:
            return
        assert seen(view)[0][0] == top


def test_scrolling_up_row_by_row_shows_every_row_once() -> None:
    view = view_of(30)
    whole: list[str] = []
    for number in range(30):
        message = Message(view.flow.entry(number), view.flow.look)
        for piece in range(len(message.pieces)):
            message.draw(piece, 40)
        whole += [message.row(row, 40)[0].text for row in range(message.height(40))]
    whole = whole[:-1]
    read = [text for _number, text in seen(view)]
    while view.top > 0:
        view.scrolled(view.top - 1)
        view.settle(margin=HEIGHT)
        read.insert(0, seen(view)[0][1])
    assert read == whole


def test_what_fits_is_never_held() -> None:
    view = view_of(1)
    view.scrolled(0)
    view.settle()
    assert view.following


def test_rows_far_away_are_forgotten() -> None:
    view = view_of(3_000)
    for row in range(0, view.total - HEIGHT, 25):
        view.scrolled(row)
        view.settle(margin=HEIGHT)
    held = view.flow.rows_held
    assert held <= MAX_ROWS_HELD + 32 * 15


@settings(max_examples=60, deadline=None)
@given(
    st.text(alphabet="ab *`\n-#>|1.", max_size=160),
    st.lists(st.integers(1, 7), min_size=1),
    st.integers(12, 60),
)
def test_a_streamed_message_is_drawn_as_a_loaded_one(text: str, sizes: list[int], width: int) -> None:
    flow = Flow(Look())
    flow.set_width(width)
    number = flow.append(Entry("s", "apollo", "answer", ""), streaming=True)
    at = turn = 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        message = flow.message(number)
        message.write(text[at : at + size])
        message.settle_pending()
        for piece in range(len(message.pieces)):
            message.draw(piece, width)
        at, turn = at + size, turn + 1
    streamed = flow.message(number)
    streamed.entry.footer = "done"
    streamed.finish()
    loaded = Message(Entry("s", "apollo", "answer", text, footer="done"), flow.look)
    assert drawn(streamed, width) == drawn(loaded, width)


def drawn(message: Message, width: int) -> list[str]:
    """Return all rows of a message."""
    for piece in range(len(message.pieces)):
        message.draw(piece, width)
    return [str(message.row(row, width)[0]) for row in range(message.height(width))]


def test_search_finds_the_newest_first_and_walks_both_ways() -> None:
    texts = entries(1_000)
    search = Search("NUMBER 99", texts, -10)
    while not search.done:
        search.scan(0.001)
    assert search.newest == Hit(989, 0) and search.count == 11
    assert search.after(Hit(89, 0)) == Hit(980, 0) and search.before(Hit(980, 0)) == Hit(89, 0)
    assert search.before(Hit(89, 0)) is None and search.after(Hit(989, 0)) is None


@given(
    st.lists(st.sampled_from(["\n", " ", "```", "`", "#", "-", "\x1b[0m", "word", "\u200b"]), max_size=6),
    st.booleans(),
)
def test_an_answer_has_rows_however_little_of_it_has_come(pieces: list[str], ended: bool) -> None:
    """In a lane, which has no header, text without anything to show yet is a place that waits."""
    message = Message(Entry("s", "apollo", "answer", ""), Look(header=False), streaming=True)
    for piece in pieces:
        message.write(piece)
        message.settle_pending()
        assert [message.row(row, 40) for row in range(message.height(40))]
    if ended:
        message.finish()
        assert [message.row(row, 40) for row in range(message.height(40))]
