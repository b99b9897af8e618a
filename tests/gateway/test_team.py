"""Team chat, rules and matching through a real backend whose specialists answer by a script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.gateway.serving import Backend, start_backend

RULES = """
[[answer]]
when = "Write one joint answer"
messages = true
[[answer]]
when = "State first what all of them agree"
messages = true
[[answer]]
when = "We discuss this question"
messages = true
[[answer]]
who = "apollo"
say = "apollo says red"
[[answer]]
who = "athena"
say = "athena says blue"
[[answer]]
who = "numa"
say = "numa was late"
first = 30
"""
CONFIG = '[providers.scripted]\nscript = "rules.toml"\n'


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    root = tmp_path_factory.mktemp("tm") / "home"
    root.mkdir(mode=0o700)
    (root / "rules.toml").write_text(RULES)
    backend = start_backend(root, config=CONFIG, launch=("apollo", "athena", "rhetor", "dionysus"))
    yield backend
    backend.stop()


@pytest.fixture(autouse=True)
def as_shipped(team: Backend) -> None:
    configure(team, orchestration_mode="collaborative", moderation_mode="pass_through", routing_rules=[])


def configure(team: Backend, **settings: Any) -> None:
    team.ask("PATCH", "/api/v1/orchestration", json={"settings": settings})


def ask(team: Backend, message: str, *members: str, **options: Any) -> dict[str, Any]:
    body = {"message": message, "target_sockets": list(members) or None, **options}
    return team.ask("POST", "/api/team-chat", json=body)


def answers(reply: dict[str, Any]) -> dict[str, str]:
    return {row["socket_id"]: row["content"] for row in reply["responses"]}


def prompt_of(content: str) -> str:
    """Return the last message a specialist was sent; its script answers with all of them."""
    return json.loads(content)[-1]["content"]


def test_pass_through_gives_each_answer_by_name_and_nothing_more(team: Backend) -> None:
    reply = ask(team, "which colour?", "apollo", "athena")
    assert answers(reply) == {"apollo-ai": "apollo says red", "athena-ai": "athena says blue"}
    assert (reply["moderation_mode"], reply["synthesis"], reply["consensus"]) == ("pass_through", "", "")


@pytest.mark.parametrize(
    ("mode", "words"), [("synthesis", "Write one joint answer"), ("consensus", "agree on")]
)
def test_rhetor_is_given_every_answer_under_its_author_and_writes(
    mode: str, words: str, team: Backend
) -> None:
    reply = ask(team, "which colour?", "apollo", "athena", "sophia", moderation_mode=mode)
    written = prompt_of(reply[mode])
    for author, text in answers(reply).items():
        assert f'<output from="{author}">\n{text}\n</output>' in written
    assert "which colour?" in written
    assert words in written
    assert "No answer came from sophia" in written
    assert [(row["socket_id"], row["code"]) for row in reply["failures"]] == [("sophia-ai", "not_running")]
    other = {"synthesis": "consensus", "consensus": "synthesis"}[mode]
    assert reply[other] == ""


def test_the_style_changes_what_rhetor_and_the_members_are_asked(team: Backend) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for style in ("collaborative", "directive", "autonomous"):
        configure(team, orchestration_mode=style)
        reply = ask(team, "which colour?", "apollo", "athena", moderation_mode="synthesis")
        path = f"/api/v1/team-chat/{reply['request_id']}/discuss"
        round_ = team.ask("POST", path, json={"wait": True})
        seen[style] = (prompt_of(reply["synthesis"]), prompt_of(answers(round_)["apollo-ai"]))
    for number in (0, 1):
        assert len({prompts[number] for prompts in seen.values()}) == 3
    assert "choose the strongest position" in seen["directive"][0]


def test_in_a_round_each_member_sees_the_others_last_answers_and_not_its_own(team: Backend) -> None:
    first = ask(team, "which colour?", "apollo", "athena")
    second = team.ask("POST", f"/api/v1/team-chat/{first['request_id']}/discuss", json={"wait": True})
    seen = {author: prompt_of(content) for author, content in answers(second).items()}
    assert '<output from="athena-ai">\nathena says blue' in seen["apollo-ai"]
    assert 'from="apollo-ai"' not in seen["apollo-ai"].partition("</material>")[0]
    assert '<output from="apollo-ai">\napollo says red' in seen["athena-ai"]
    assert all("which colour?" in prompt for prompt in seen.values())
    third = team.ask("POST", f"/api/v1/team-chat/{second['request_id']}/discuss", json={"wait": True})
    assert all(
        "We discuss this question: which colour?" in prompt_of(text) for text in answers(third).values()
    )


def test_a_late_member_is_a_failure_by_name_at_its_own_deadline(team: Backend) -> None:
    team.ask("POST", "/api/v1/fleet/launch", json={"ids": ["numa"]})
    try:
        timeouts = {"default": 60, "per_specialist": {"numa": 0.3}}
        configure(team, timeouts=timeouts)
        reply = ask(team, "which colour?", "apollo", "numa")
    finally:
        configure(team, timeouts={"default": 180, "per_specialist": {}})
        team.ask("POST", "/api/v1/fleet/kill", json={"ids": ["numa"]})
    assert answers(reply) == {"apollo-ai": "apollo says red"}
    (late,) = reply["failures"]
    assert (late["socket_id"], late["code"]) == ("numa-ai", "timeout")
    assert "0.3 s" in late["error"]
    assert reply["elapsed_time"] < 20


def test_a_synthesis_nobody_can_write_is_a_failure_and_the_answers_stay(team: Backend) -> None:
    team.ask("POST", "/api/v1/fleet/kill", json={"ids": ["rhetor"]})
    try:
        reply = ask(team, "which colour?", "apollo", "athena", moderation_mode="synthesis")
    finally:
        team.ask("POST", "/api/v1/fleet/launch", json={"ids": ["rhetor"]})
    assert len(reply["responses"]) == 2
    assert reply["synthesis"] == ""
    (failure,) = reply["failures"]
    assert (failure["socket_id"], failure["code"]) == ("rhetor-ai", "not_running")
    assert failure["error"].startswith("no synthesis:")


def test_directed_asks_those_the_request_suits_and_the_others_not(team: Backend) -> None:
    message = "write a playful limerick about a lost umbrella"
    reply = ask(team, message, moderation_mode="directed")
    assert "dionysus-ai" in answers(reply)
    assert len(reply["responses"]) + len(reply["failures"]) <= 3


def test_a_rule_directs_by_its_pattern_at_once_and_auto_follows_it(team: Backend) -> None:
    rule = {"pattern": "colou?r", "specialists": ["athena", "apollo"], "strategy": "all"}
    configure(team, routing_rules=[rule], moderation_mode="directed")
    assert answers(ask(team, "which colour?")).keys() == {"apollo-ai", "athena-ai"}
    configure(team, routing_rules=[{**rule, "strategy": "round-robin"}])
    asked = [chat(team, "@auto", "what color?")["ai_id"] for _ in range(4)]
    assert asked == ["athena-ai", "apollo-ai"] * 2
    configure(team, routing_rules=[{**rule, "specialists": ["athena"], "strategy": "best"}])
    assert chat(team, "@auto", "what color?")["content"] == "athena says blue"


def test_auto_without_a_rule_takes_who_suits_best_of_those_that_run(team: Backend) -> None:
    assert chat(team, "@auto", "write a playful limerick about a lost umbrella")["ai_id"] == "dionysus-ai"
    ranked = team.ask("POST", "/api/v1/match", json={"query": "who watches token spending and budgets?"})
    idle = [row["id"] for row in ranked["matches"] if not row["available"]]
    assert idle[0] == "penia-ai", "of those that do not run, the right one comes first"
    assert ranked["fallback"] == [row["id"] for row in ranked["matches"][1:]]


def test_settings_that_cannot_be_are_refused_and_change_nothing(team: Backend) -> None:
    wrong: list[dict[str, Any]] = [
        {"orchestration_mode": "anarchic"},
        {"routing_rules": [{"pattern": "(", "specialists": ["apollo"]}]},
        {"routing_rules": [{"pattern": "x", "specialists": ["nobody"]}]},
        {"routing_rules": [{"pattern": "x", "specialists": []}]},
        {"max_concurrent_specialists": 0},
        {"timeouts": {"default": -1}},
        {"unknown": 1},
    ]
    before = team.ask("GET", "/api/v1/orchestration")
    with team_http(team) as http:
        for settings in wrong:
            answer = http.patch("/api/v1/orchestration", json={"settings": settings})
            assert answer.status_code in (400, 404), settings
            assert answer.json()["error"]["message"]
    assert team.ask("GET", "/api/v1/orchestration") == before


def test_a_change_not_applied_at_once_waits_for_the_next_backend(team: Backend) -> None:
    body = {"settings": {"moderation_mode": "consensus"}, "apply_immediately": False}
    assert team.ask("PATCH", "/api/v1/orchestration", json=body)["applied"] is False
    assert team.ask("GET", "/api/v1/orchestration")["moderation_mode"] == "pass_through"


def chat(team: Backend, name: str, message: str) -> dict[str, Any]:
    return team.ask("POST", f"/api/v1/chat/{name}", json={"message": message})


def team_http(team: Backend) -> Any:

    return httpx.Client(base_url=team.url, headers=team.auth(), trust_env=False, timeout=60)
