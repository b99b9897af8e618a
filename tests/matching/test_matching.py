"""Matching free requests to specialists: right ones first, with reasons, the living before the dead."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from backend import catalog, config
from backend.config import Settings, SpecialistSettings
from backend.matching import model
from backend.matching.matcher import Matcher
from backend.matching.tokenizer import Speller, stem, words
from backend.schema.records import SpecialistStatus
from backend.schema.states import SpecialistState
from bench import fit_matching

REQUESTS = tomllib.loads(
    (Path(__file__).parents[2] / "bench" / "matching_requests.toml").read_text(encoding="utf-8")
)
CATALOG = catalog.load(Settings())
MATCHER = Matcher(CATALOG)


def first(query: str) -> str:
    """Return the bare name of the best specialist for a request."""
    return MATCHER.match(query)[0].id.removesuffix("-ai")


def statuses(**states: SpecialistState) -> dict[str, SpecialistStatus]:
    """Return a status for every specialist: those named in their state, the others ready."""
    return {
        row.id: SpecialistStatus(row.id, row.name, row.title, row.name, state=states.get(row.name, "ready"))
        for row in CATALOG
    }


def test_of_the_held_out_requests_93_of_100_find_their_specialist_first() -> None:
    held_out = [(text, name) for name, texts in REQUESTS["held_out"].items() for text in texts]
    assert len(held_out) >= 150
    right = sum(first(text) == name for text, name in held_out)
    assert right / len(held_out) >= 0.93


def test_the_right_specialist_is_nearly_always_among_the_first_three() -> None:
    held_out = [(text, f"{name}-ai") for name, texts in REQUESTS["held_out"].items() for text in texts]
    right = sum(name in {match.id for match in MATCHER.match(text, limit=3)} for text, name in held_out)
    assert right / len(held_out) >= 0.97


def test_the_two_halves_share_no_request() -> None:
    training = {text.lower() for texts in REQUESTS["training"].values() for text in texts}
    assert not [t for texts in REQUESTS["held_out"].values() for t in texts if t.lower() in training]


@pytest.mark.parametrize("entry", REQUESTS["either"], ids=lambda entry: str(entry["text"]))
def test_where_several_are_right_one_of_them_is_among_the_first_two(entry: dict[str, list[str]]) -> None:
    found = {match.id.removesuffix("-ai") for match in MATCHER.match(str(entry["text"]), limit=2)}
    assert found & set(entry["ids"])


def test_what_is_wanted_counts_more_than_what_it_is_about() -> None:
    assert first("write a poem about our cloud costs") == "dionysus"
    assert first("tell me a joke about kubernetes deployments") == "dionysus"


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("the buton is misalligned", "hephaestus"),
        ("our reqirements are vague", "telos"),
        ("fix my pyhton functoin", "apollo"),
        ("how much did we spned on tokens", "penia"),
    ],
)
def test_misspelt_words_are_understood(query: str, name: str) -> None:
    assert first(query) == name


def test_a_specialist_called_by_name_comes_first() -> None:
    assert first("apollo, what do you think?") == "apollo"
    assert first("ask penia") == "penia"
    assert first("question for the budget specialist") == "penia"
    assert first("is tekton_core there?") == "tekton_core"


def test_pasted_program_text_goes_to_who_reads_code() -> None:
    assert first("def f(x):\n    return x == None\nwhat do you say?") == "apollo"
    assert first('Traceback (most recent call last):\n  File "a.py", line 3\nKeyError: 1') == "apollo"


def test_each_match_says_why_with_words_of_the_request() -> None:
    best = MATCHER.match("please review this pull request for bugs")[0]
    assert best.id == "apollo-ai"
    assert "“pull request”" in best.why
    assert "bugs" in best.why
    assert 1 <= len(best.why) <= 5


def test_the_order_falls_with_the_score_and_keeps_to_the_limit() -> None:
    ranked = MATCHER.match("plan the release and estimate its cost", limit=4)
    assert len(ranked) == 4
    assert [m.score for m in ranked] == sorted((m.score for m in ranked), reverse=True)
    assert len({m.id for m in ranked}) == 4


def test_one_that_does_not_run_stands_behind_those_that_do_and_says_so() -> None:
    query = "write me a haiku about rain"
    ranked = MATCHER.match(query, statuses(dionysus="killed"), limit=19)
    assert ranked[0].id != "dionysus-ai"
    assert ranked[0].available
    fallen = next(match for match in ranked if match.id == "dionysus-ai")
    assert not fallen.available
    assert fallen.why[-1] == "does not run: killed"
    assert all(not match.available for match in ranked[ranked.index(fallen) :])


def test_when_nobody_runs_the_best_still_stands_first_as_not_available() -> None:
    nobody = {row.id: SpecialistStatus(row.id, row.name, row.title, row.name) for row in CATALOG}
    best = MATCHER.match("write me a haiku", nobody)[0]
    assert (best.id, best.available, best.why[-1]) == ("dionysus-ai", False, "does not run: stopped")
    assert not MATCHER.match("write me a haiku", {})[0].available


def test_a_busy_specialist_is_available() -> None:
    best = MATCHER.match("write me a haiku", statuses(dionysus="busy"))[0]
    assert (best.id, best.available) == ("dionysus-ai", True)


def twins() -> Matcher:
    """Return a matcher over two own specialists with the same texts."""
    twin = SpecialistSettings(title="Botanist", description="Knows plants", capabilities=["plants"])
    return Matcher(catalog.load(Settings(specialists={"flora": twin, "rosa": twin})))


def test_of_two_equals_the_free_quick_and_reliable_one_is_first() -> None:
    matcher, query = twins(), "my plants are dying, ask the botanist"
    slow = {"flora-ai": SpecialistStatus("flora-ai", "flora", "", "flora", state="busy", queue=4)}
    free = {"rosa-ai": SpecialistStatus("rosa-ai", "rosa", "", "rosa", state="ready")}
    assert matcher.match(query, statuses() | slow | free)[0].id == "rosa-ai"
    quick = {"flora-ai": SpecialistStatus("flora-ai", "flora", "", "", state="ready", first_token_ms=80.0)}
    late = {"rosa-ai": SpecialistStatus("rosa-ai", "rosa", "", "", state="ready", first_token_ms=9_000.0)}
    assert matcher.match(query, statuses() | quick | late)[0].id == "flora-ai"
    failing = {"flora-ai": SpecialistStatus("flora-ai", "flora", "", "", state="ready", turns=1, failures=9)}
    assert matcher.match(query, statuses() | failing | free)[0].id == "rosa-ai"


def test_state_never_beats_a_clearly_better_fit() -> None:
    rows = statuses()
    rows["dionysus-ai"].queue, rows["dionysus-ai"].first_token_ms = 9, 30_000.0
    assert MATCHER.match("write me a haiku", rows)[0].id == "dionysus-ai"


def test_an_own_specialist_is_found_by_its_own_texts() -> None:
    own = Matcher(
        catalog.load(
            Settings(
                specialists={
                    "gardener": SpecialistSettings(
                        title="The Gardener",
                        description="Knows soil, seeds and the seasons.",
                        persona="You are Gardener. You help with roses, compost and pruning.",
                        capabilities=["gardening", "plant care", "pest control"],
                    )
                }
            )
        )
    )
    for query in ("how do I prune my roses", "is this soil good for seeds", "pest control without chemicals"):
        best = own.match(query)[0]
        assert best.id == "gardener-ai", query
        assert best.why
    assert own.match("review this pull request")[0].id == "apollo-ai"


OWN = {
    "reviewer": ("Code reviewer", ["code review"], "You are Reviewer. You read a change and name the one line most likely to break."),
    "lawyer": ("Contract lawyer", ["contracts", "legal risk"], "You read contracts."),
    "translator": ("Translator", ["translation", "german"], "You translate texts."),
    "tester": ("Test writer", ["unit tests"], "You write tests."),
    "analyst": ("Data analyst", ["analyse data", "charts"], "You look at figures."),
    "tutor": ("Math tutor", ["explain mathematics"], "You are a tutor."),
    "holiday": ("Holiday planner", ["plan holidays"], "You plan journeys."),
}  # fmt: skip
FITS = {
    "reviewer": ["review my change", "review this change", "review my code", "code review", "can you do a code review?"],
    "lawyer": ["read this contract", "is there legal risk in this contract?"],
    "translator": ["translate this to german", "translation of a letter"],
    "tester": ["write unit tests for this function", "unit tests for the parser"],
    "analyst": ["analyse this data"],
    "tutor": ["explain this mathematics exercise"],
    "holiday": ["plan our holiday"],
}  # fmt: skip


def with_own(*names: str) -> Matcher:
    """Return a matcher over the shipped specialists and these of one's own."""
    own = {
        name: SpecialistSettings(title=title, capabilities=capabilities, persona=persona)
        for name, (title, capabilities, persona) in OWN.items()
        if name in names
    }
    return Matcher(catalog.load(Settings(specialists=own)))


@pytest.mark.parametrize(
    ("name", "query"), [(name, query) for name, asked in FITS.items() for query in asked]
)
@pytest.mark.parametrize("beside", [False, True])
def test_an_own_specialist_made_for_what_is_asked_comes_before_the_shipped_ones(
    name: str, query: str, beside: bool
) -> None:
    matcher = with_own(*(OWN if beside else [name]))
    assert matcher.match(query)[0].id == f"{name}-ai"


def test_own_specialists_take_few_requests_that_are_meant_for_others() -> None:
    matcher = with_own(*OWN)
    asked = [
        (text, name)
        for half in ("training", "held_out")
        for name, texts in REQUESTS[half].items()
        for text in texts
    ]
    taken = sum(matcher.match(text, limit=1)[0].id.removesuffix("-ai") in OWN for text, _ in asked)
    assert taken / len(asked) < 0.015


def test_a_request_without_a_known_word_goes_to_the_coordinator_and_says_so() -> None:
    ranked = MATCHER.match("qqqq zzzzzx", limit=19)
    assert ranked[0].id == "apollo-ai"
    assert "no word of the request is known" in ranked[0].why[0]
    assert len(ranked) == 19
    assert MATCHER.match("", limit=2)[0].id == "apollo-ai"


@given(query=st.text(max_size=300))
def test_any_text_at_all_gets_a_ranking(query: str) -> None:
    ranked = MATCHER.match(query, limit=3)
    assert 1 <= len(ranked) <= 3
    assert all(match.why for match in ranked)


def test_a_huge_request_is_read_by_its_beginning() -> None:
    assert first("write me a haiku. " + "lorem ipsum dolor " * 200_000) == MATCHER.match(
        "write me a haiku. " + "lorem ipsum dolor " * 1_000
    )[0].id.removesuffix("-ai")


def test_the_shipped_model_is_the_one_its_requests_vocabulary_and_catalogue_give() -> None:
    fitted, shipped = fit_matching.fit(), model.shipped()
    assert shipped == fitted, "out of date: run `make fit` and commit backend/matching/model.json"


def test_fitting_writes_what_the_product_reads() -> None:
    fitted = fit_matching.fit()
    assert msgspec.json.decode(fit_matching.encoded(fitted), type=model.Model) == fitted


def test_a_changed_row_of_the_catalogue_makes_the_shipped_model_out_of_date(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [
        structs.replace(row, description="Herds sheep") if row.name == "apollo" else row for row in CATALOG
    ]
    monkeypatch.setattr(fit_matching.catalog_module, "load", lambda settings: catalog.Catalog(rows, {}))
    assert fit_matching.fit() != model.shipped()


def test_a_change_of_a_shipped_row_in_the_settings_keeps_it_findable() -> None:
    settings = Settings(specialists={"dionysus": config.SpecialistSettings(title="Bard")})
    assert Matcher(catalog.load(settings)).match("write me a haiku")[0].id == "dionysus-ai"


@pytest.mark.parametrize(
    "family",
    [
        "plan plans planned planning",
        "configure configured configuring configuration",
        "install installs installation",
        "relate related relating relation",
        "pony ponies",
    ],
)
def test_forms_of_one_word_have_one_stem(family: str) -> None:
    assert len({stem(word) for word in family.split()}) == 1


def test_words_keep_apart_what_means_different_things() -> None:
    assert stem("process") != stem("profess")
    assert stem("plan") != stem("plane")
    assert words("Don't can't it's well-known C++ x_y") == [
        "do", "not", "cannot", "it", "s", "well", "known", "c", "x", "y",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("slip", "meant"),
    [("messgae", "message"), ("mesage", "message"), ("messsage", "message"), ("messige", "message")],
)
def test_the_speller_mends_one_slip_and_leaves_the_rest(slip: str, meant: str) -> None:
    speller = Speller(["message", "massive", "plan"])
    assert speller.nearest(slip) == meant
    assert speller.nearest("completely") == ""
    assert speller.nearest("plam") == ""
