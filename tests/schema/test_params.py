"""What every action accepts: its own names and the older ones, nothing else, and no number a store cannot hold."""

from __future__ import annotations

from types import UnionType
from typing import Any, Literal, get_args, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from backend.orchestration.actions import ACTIONS
from backend.schema.params import (
    IGNORED,
    MAX_INTEGER,
    AnyParams,
    InvalidRequest,
    Kill,
    Launch,
    read_params,
    result_types,
)

STRUCTS = {name: action.params for name, action in ACTIONS.items()}
WORDS = "abcdefghijklmnopqrstuvwxyz_-"


def known(name: str) -> set[str]:
    """Return every name an action takes."""
    return {*STRUCTS[name].__struct_fields__, *ACTIONS[name].aliases, *IGNORED.get(name, ())}


def misspelt(word: str) -> st.SearchStrategy[str]:
    """Draw a name one slip away from another: a letter lost, doubled, swapped or wrong, a dash for an underscore."""
    slips = [word.replace("_", "-"), word.replace("_", ""), word.upper(), word + "s", word[:-1], word + " "]
    slips += [word[:i] + word[i + 1 :] for i in range(len(word))]
    slips += [word[:i] + word[i] + word[i:] for i in range(len(word))]
    slips += [word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1)]
    return st.sampled_from([slip for slip in slips if slip])


def values_for(params: type[Struct]) -> dict[str, Any]:
    """Return values that the params accept."""
    plain: dict[Any, Any] = {str: "x", int: 1, float: 1.0, bool: True}
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(params):
        if field.required:
            kind, least = field.type, 0
            while hasattr(kind, "__metadata__"):
                least = max([least, *(meta.min_length or 0 for meta in kind.__metadata__)])
                kind = get_args(kind)[0]
            choices = get_args(kind) if get_origin(kind) is Literal else ()
            either = (
                [each for each in get_args(kind) if each in plain] if get_origin(kind) is not list else []
            )
            if choices:
                given[field.name] = choices[0]
            elif either:
                given[field.name] = plain[either[0]]
            elif get_origin(kind) in (list, UnionType):
                given[field.name] = ["x"] * least
            else:
                given[field.name] = plain.get(kind, {})
    return given


@pytest.mark.parametrize("name", sorted(STRUCTS))
@given(data=st.data())
def test_no_action_accepts_a_name_it_does_not_know(name: str, data: st.DataObject) -> None:
    names = sorted(known(name))
    foreign = st.text(WORDS, min_size=1, max_size=20)
    strange = data.draw(st.one_of(foreign, st.sampled_from(names).flatmap(misspelt)) if names else foreign)
    if strange in names:
        return
    values = {**values_for(STRUCTS[name]), strange: data.draw(st.sampled_from([True, 1, "x", None, [], {}]))}
    with pytest.raises(InvalidRequest, match="there is no parameter"):
        ACTIONS[name].read_params(values, lax=data.draw(st.booleans()))


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_what_an_action_needs_is_enough(name: str) -> None:
    assert isinstance(ACTIONS[name].read_params(values_for(STRUCTS[name])), STRUCTS[name])


def test_a_refusal_names_the_parameter_that_was_meant() -> None:
    for wrong, right in {
        "dry-run": "dry_run",
        "dryrun": "dry_run",
        "Ids": "ids",
        "specialst_id": "specialist_id",
    }.items():
        with pytest.raises(
            InvalidRequest, match=f"launch: there is no parameter '{wrong}'; did you mean '{right}'"
        ):
            read_params(Launch, {"ids": ["metis"], wrong: True})


@pytest.mark.parametrize(
    ("name", "field", "value", "meant"),
    [
        (
            "chat",
            "context",
            {"memory_hint": ["x"]},
            "context.memory_hint': no such key; did you mean 'memory_hints'",
        ),
        ("chat", "options", {"efort": "low"}, "options.efort': no such key; did you mean 'effort'"),
        ("chat", "options", {"effort": "lo"}, "options.effort': invalid value 'lo'; expected one of none, "),
        (
            "chat",
            "options",
            {"tools": [{"name": "n", "descripton": "x"}]},
            r"options.tools\[0\].descripton': .*'description'",
        ),
        ("chat", "options", {"format": {"kind": "json", "scema": {}}}, "options.format.scema': .*'schema'"),
        (
            "chat",
            "parts",
            [{"type": "image", "data": "AA==", "media": "x"}],
            r"parts\[0\].media': .*'media_type'",
        ),
        (
            "chat",
            "parts",
            [{"type": "pitcure"}],
            r"parts\[0\].type': invalid value 'pitcure'; expected one of text, image",
        ),
        (
            "bulk",
            "requests",
            [{"specialist_id": "a", "message": "b", "max_token": 1}],
            "max_token': .*'max_tokens'",
        ),
        (
            "configure_orchestration",
            "settings",
            {"timeouts": {"defalt": 1}},
            "settings.timeouts.defalt': .*'default'",
        ),
        ("list_specialists", "state", "redy", "state': invalid value 'redy'; expected one of stopped, "),
    ],
)
def test_a_name_or_word_inside_of_a_value_is_refused_with_what_was_meant(
    name: str, field: str, value: object, meant: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"{name}: parameter '.*{meant}"):
        ACTIONS[name].read_params({**values_for(STRUCTS[name]), field: value})


def structs_in(kind: Any) -> list[type[Struct]]:
    if isinstance(kind, type) and issubclass(kind, Struct):
        return [kind]
    return [found for one in get_args(kind) for found in structs_in(one)]


INSIDE = [
    (name, field.name, kind, get_origin(field.type) is list or "list" in str(field.type))
    for name, params in sorted(STRUCTS.items())
    for field in msgspec.structs.fields(params)
    for kind in structs_in(field.type)
]
"""Every struct that a parameter may hold: action, parameter, struct, whether it stands in a list."""


@pytest.mark.parametrize(("name", "field", "kind", "many"), INSIDE)
def test_no_struct_inside_of_a_parameter_accepts_a_name_it_does_not_know(
    name: str, field: str, kind: type[Struct], many: bool
) -> None:
    tag = kind.__struct_config__
    value = {**values_for(kind), **({tag.tag_field: tag.tag} if tag.tag_field else {}), "no_such_name": 1}
    with pytest.raises(InvalidRequest, match="no_such_name"):
        ACTIONS[name].read_params({**values_for(STRUCTS[name]), field: [value] if many else value})


def test_what_stands_in_a_schema_of_a_tool_is_its_own() -> None:
    tool = {"name": "n", "parameters": {"properties": {"anything": {"efort": 1}}}}
    values = {**values_for(STRUCTS["chat"]), "options": {"tools": [tool]}}
    assert ACTIONS["chat"].read_params(values)


def _integers(kind: Any) -> bool:
    return kind is int or any(map(_integers, get_args(kind)))


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_no_number_goes_past_what_a_store_can_hold(name: str) -> None:
    for field in msgspec.structs.fields(STRUCTS[name]):
        if not _integers(field.type):
            continue
        for value in (MAX_INTEGER + 1, -(2**70), 10**400):
            given = {**values_for(STRUCTS[name]), field.name: [value] if "list" in str(field.type) else value}
            with pytest.raises(InvalidRequest):
                ACTIONS[name].read_params(given)


def test_what_a_call_returns_is_in_its_type() -> None:
    for action in ACTIONS.values():
        assert action.results == result_types(action.params)
        assert all(issubclass(kind, Struct) for kind in action.results)


def test_defaults_are_not_sent() -> None:
    params: AnyParams = Kill(ids=["apollo"])
    assert msgspec.to_builtins(params) == {"ids": ["apollo"]}
