"""The pipeline language: what it reads, how it errs, and that printing and reading agree."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.grammar import (
    Ask,
    Cat,
    Echo,
    GrammarError,
    Pipeline,
    Script,
    Target,
    parse,
    parse_script,
    show,
    spans,
)
from backend.grammar.lexer import MAX_CHARS


def ask(name: str, instruction: str = "", *options: tuple[str, float | int | str]) -> Ask:
    return Ask((Target(name, options),), instruction)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("apollo", Pipeline((ask("apollo"),))),
        ("apollo | athena", Pipeline((ask("apollo"), ask("athena")))),
        ('echo "a | b" | apollo', Pipeline((Echo("a | b"), ask("apollo")))),
        ("echo hello there|apollo", Pipeline((Echo("hello there"), ask("apollo")))),
        ("cat notes.txt | team", Pipeline((Cat("notes.txt"), ask("team")))),
        (
            "{apollo,athena} | numa",
            Pipeline((Ask((Target("apollo"), Target("athena")), "", True), ask("numa"))),
        ),
        ('apollo "be brief" > out.txt', Pipeline((ask("apollo", "be brief"),), "", "out.txt")),
        ("apollo < in.txt >> out.txt", Pipeline((ask("apollo"),), "in.txt", "out.txt", True)),
        ("apollo < in.txt | athena > o", Pipeline((ask("apollo"), ask("athena")), "in.txt", "o")),
        (
            "apollo[temperature=0.2,max_tokens=80] sum up {input} now",
            Pipeline((ask("apollo", "sum up {input} now", ("temperature", 0.2), ("max_tokens", 80)),)),
        ),
        ("apollo 'it''s'", Pipeline((ask("apollo", "its"),))),
        (r"apollo a\|b", Pipeline((ask("apollo", "a|b"),))),
        ('apollo "tab\\there \\"quoted\\""', Pipeline((ask("apollo", 'tab\there "quoted"'),))),
        ("apollo |\n  athena", Pipeline((ask("apollo"), ask("athena")))),
        ("apollo what [is] this, then", Pipeline((ask("apollo", "what [is] this, then"),))),
        ("apollo # a comment", Pipeline((ask("apollo"),))),
        ("apollo c# code", Pipeline((ask("apollo", "c# code"),))),
    ],
)
def test_pipelines_are_read(text: str, expected: Pipeline) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("apollo |", 8, "expected a specialist"),
        ("| apollo", 0, "expected a specialist"),
        ('apollo "open', 7, "not closed"),
        ("{apollo,athena", 0, "not closed"),
        ("{apollo athena}", 8, "expected , or }"),
        ("apollo | echo x", 9, "first stage"),
        ("apollo >", 8, "file name"),
        ("apollo > a > b", 11, "two outputs"),
        ("apollo[heat=1]", 7, "no option 'heat'"),
        ("apollo[temperature=hot]", 7, "0 to 2"),
        ("apollo[temperature=0.1", 6, "not closed"),
        ("echo x | apollo < f", 16, "keep one"),
        ("apollo > out | athena", 7, "move > to the end"),
        ("apollo < in > out | athena", 12, "move > to the end"),
        ("apollo | athena < in | numa", 16, "first stage or at the end"),
        ("apollo < a | athena < b", 20, "two inputs"),
        ("apollo what's up", 11, "apostrophe"),
        ("", 0, "expected a pipeline"),
        ("apollo\nathena", 7, "several"),
        ("apollo; athena", 8, "several"),
        ("apollo {curly} text", 7, "quoted"),
        ("9lives", 0, "name of a specialist"),
    ],
)
def test_mistakes_name_their_place(text: str, position: int, words: str) -> None:
    with pytest.raises(GrammarError) as caught:
        parse(text)
    assert words in caught.value.message
    assert caught.value.position == position
    assert caught.value.message.splitlines()[-1].index("^") == 2 + position - (
        text.rfind("\n", 0, position) + 1
    )


def test_scripts_skip_comments_and_empty_lines() -> None:
    script = parse_script('# first\n\necho "x" | apollo > a.txt\nathena hi; numa\n')
    assert [show(pipeline) for pipeline in script.pipelines] == [
        'echo "x" | apollo > "a.txt"',
        'athena "hi"',
        "numa",
    ]


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda n: n not in ("echo", "cat"))
options = st.lists(
    st.one_of(
        st.tuples(st.just("temperature"), st.floats(0, 2)),
        st.tuples(st.just("max_tokens"), st.integers(1, 10_000)),
        st.tuples(st.just("model"), texts),
    ),
    max_size=3,
    unique_by=lambda pair: pair[0],
).map(tuple)
targets = st.builds(Target, names, options)
asks = st.one_of(
    st.builds(Ask, targets.map(lambda t: (t,)), st.one_of(st.just(""), texts), st.just(False)),
    st.builds(
        Ask,
        st.lists(targets, min_size=1, max_size=4).map(tuple),
        st.one_of(st.just(""), texts),
        st.just(True),
    ),
)


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    head = draw(st.one_of(st.builds(Echo, texts), st.builds(Cat, texts), asks))
    source = "" if isinstance(head, Echo | Cat) else draw(st.one_of(st.just(""), texts))
    rest = draw(st.lists(asks, max_size=3))
    output = draw(st.one_of(st.just(""), texts))
    return Pipeline((head, *rest), source, output, bool(output) and draw(st.booleans()))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(pipelines(), max_size=3).map(lambda found: Script(tuple(found))))
def test_what_is_printed_reads_back_the_same(script: Script) -> None:
    assert parse_script(show(script)) == script


@settings(max_examples=400)
@given(
    st.one_of(
        st.text(),
        st.text(alphabet="apolo |<>{},[]=\"'\\#;\n0.1temperature$input"),
    )
)
def test_any_text_parses_or_raises_its_own_error(text: str) -> None:
    try:
        script = parse_script(text)
    except GrammarError as error:
        assert 0 <= error.position <= len(text)
    else:
        assert parse_script(show(script)) == script
    covered = spans(text)
    assert all(0 <= span.start <= span.end <= len(text) for span in covered)
    assert all(a.end <= b.start for a, b in itertools.pairwise(covered))


@pytest.mark.timeout(60)  # in one pass it takes a moment; with a look back at every character, hours
@pytest.mark.parametrize("piece", ["a", "a ", "[", '"', "\\a", "{input}", "# x\n", "a|", "x[", "'b'"])
def test_a_long_text_is_read_in_one_pass(piece: str) -> None:
    text = "apollo " + piece * (MAX_CHARS // len(piece) // 2)
    with contextlib.suppress(GrammarError):
        parse_script(text)


def test_a_text_beyond_the_named_cap_is_refused_not_cut() -> None:
    with pytest.raises(GrammarError, match=f"{MAX_CHARS:,} characters"):
        parse("apollo " + "a" * MAX_CHARS)
