"""Specialists of one's own while a real backend runs: written, launched, changed, broken, mended, removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from httpx import HTTPStatusError

from tests.gateway.serving import Backend

SKILL = "---\ntitle: Critic\ncapabilities: [poetry critique]\n---\nYou are the critic. {extra}\n"


def _until(look: Callable[[], Any], fits: Callable[[Any], object]) -> Any:
    for _ in range(5_000):
        if fits(found := look()):
            return found
    raise AssertionError(found)


def test_a_folder_becomes_a_specialist_that_is_launched_changed_broken_and_removed(
    new_backend: Callable[..., Backend],
) -> None:
    backend = new_backend(launch=("athena",))
    folder = backend.home.specialists / "critic"
    skill = folder / "SKILL.md"

    def row(name: str = "critic-ai") -> dict[str, Any]:
        return {row["id"]: row for row in backend.ask("GET", "/api/v1/snapshot")["specialists"]}.get(name, {})

    def errors() -> list[str]:
        return [
            e["message"]
            for e in backend.ask("GET", "/api/v1/errors")["errors"]
            if e["where"] == "specialists"
        ]

    folder.mkdir(parents=True)
    skill.write_text(SKILL.format(extra=""))
    assert _until(row, bool)["title"] == "Critic"
    matched = backend.ask("POST", "/api/v1/match", json={"query": "poetry critique"})["matches"]
    assert "critic-ai" in [match["id"] for match in matched]
    [launched] = backend.ask("POST", "/api/v1/fleet/launch", json={"ids": ["critic"]})["results"]
    assert launched["ok"], launched
    answer = backend.ask("POST", "/api/v1/chat/critic", json={"content": "hello"})
    assert answer["content"] == "You said: hello"

    pid = row()["pid"]
    skill.write_text(SKILL.format(extra="Be kind."))
    assert _until(row, lambda now: now.get("detail"))["detail"] == "changed: restart to take it"
    assert row()["pid"] == pid, "nothing restarts by itself"
    backend.ask("POST", "/api/v1/fleet/restart", json={"ids": ["critic"]})
    _until(row, lambda now: not now.get("detail"))

    skill.write_text("---\ntitle: Critic\ncolour: red\n---\nYou.")
    [told] = _until(errors, bool)
    assert told.startswith("specialists/critic/SKILL.md:3: key 'colour': no such key") and "stays" in told
    (backend.home.specialists / "second.toml").write_text('title = "Second"\npersona = "You are second."\n')
    assert _until(lambda: row("second-ai"), bool)["title"] == "Second", "others are taken meanwhile"
    assert row()["title"] == "Critic" and row()["pid"] != pid

    backend.home.config.write_text("[specialists.athena]\ntitle = 7\n")
    assert any("specialists.athena.title" in text for text in _until(errors, lambda found: len(found) > 1))
    backend.home.config.write_text(
        '[specialists.athena]\ntitle = "Thinker"\n[groups]\nduo = ["critic", "athena"]\n'
    )
    assert _until(lambda: row("athena-ai"), lambda now: now["title"] == "Thinker")["state"] == "ready"
    [dry, _] = backend.ask("POST", "/api/v1/fleet/launch", json={"ids": ["duo"], "dry_run": True})["plan"][
        "items"
    ]
    assert dry["name"] == "critic"

    def asked_for_restart() -> list[str]:
        found = backend.ask("GET", "/api/v1/errors")["errors"]
        return [error["message"] for error in found if error["code"] == "restart_needed"]

    assert not asked_for_restart(), "what was changed so far is taken while it runs"
    backend.home.config.write_text("[budget]\ntokens_per_day = 77\n[memory]\nretention_days = 3\n")
    [told] = _until(asked_for_restart, bool)
    assert "changed in [memory]: end the backend to take it" in told
    [limit] = backend.ask("GET", "/api/v1/usage")["limits"]
    assert limit["tokens_per_day"] == 77, "the budget holds at once"

    backend.home.config.unlink()
    skill.unlink()
    assert "no longer configured" in _until(row, lambda now: "longer" in now.get("detail", ""))["detail"]
    [one] = backend.ask("POST", "/api/v1/fleet/kill", json={"ids": ["critic"]})["results"]
    assert one["ok"] and one["id"] == "critic-ai", "it runs until it is stopped, and can be"
    backend.ask("POST", "/api/v1/fleet/kill", json={"ids": ["all"]})
    assert len(list((backend.home.specialist_versions / "critic").iterdir())) == 2


def test_one_that_is_created_by_its_action_is_there_without_a_restart(
    new_backend: Callable[..., Backend],
) -> None:
    backend = new_backend()
    body = {"name": "critic", "persona": "You are the critic.", "capabilities": ["review"]}
    path = "/api/v1/specialists"

    def refused(scope: str, status: int, **changes: str) -> None:
        with httpx.Client(base_url=backend.url, headers=backend.auth(scope), trust_env=False) as http:
            assert http.post(path, json={**body, **changes}).status_code == status

    assert backend.ask("POST", f"{path}/preview", json=body)["problems"] == []
    refused("read", 403)
    refused("chat", 403)
    refused("control", 400, name="../critic")
    refused("control", 400, colour="red")
    assert not list(backend.home.specialists.glob("*"))
    made = backend.ask("POST", path, json=body)
    assert made["id"] == "critic-ai"

    def row() -> dict[str, Any]:
        return {row["id"]: row for row in backend.ask("GET", "/api/v1/snapshot")["specialists"]}.get(
            "critic-ai", {}
        )

    assert _until(row, bool)["capabilities"] == ["review"]
    [launched] = backend.ask("POST", "/api/v1/fleet/launch", json={"ids": ["critic"]})["results"]
    assert launched["ok"], launched
    refused("control", 409)


def test_the_rules_of_a_specialist_hold_from_its_table_and_its_file_as_soon_as_they_are_taken(
    new_backend: Callable[..., Backend],
) -> None:
    backend = new_backend()
    poet = 'title = "Poet"\npersona = "You write."\n'
    deny = 'deny = ["shell:run command=rm *"]\n'

    def said(name: str) -> str:
        asked = {"tool": "shell:run", "arguments": '{"command": "rm -rf /"}', "ai_id": name}
        try:
            return str(backend.ask("POST", "/api/v1/rules/explain", json=asked)["verdict"])
        except HTTPStatusError as error:
            assert error.response.status_code == 404
            return "nobody"

    def errors() -> list[str]:
        found = backend.ask("GET", "/api/v1/errors")["errors"]
        return [one["message"] for one in found if "is denied until" in one["message"]]

    backend.home.config.write_text(f"[specialists.poet]\n{poet}[specialists.poet.rules]\n{deny}")
    assert _until(lambda: said("poet"), lambda verdict: verdict != "nobody") == "deny"
    backend.home.config.unlink()
    assert _until(lambda: said("poet"), lambda verdict: verdict == "nobody")
    assert said("athena") == "ask", "rules of one that is gone cost nobody else"

    backend.home.specialists.mkdir(exist_ok=True)
    file = backend.home.specialists / "coder.toml"
    file.write_text(f"{poet}[rules]\n{deny}")
    assert _until(lambda: said("coder"), lambda verdict: verdict != "nobody") == "deny"
    file.write_text(f'{poet}[rules]\nallow = ["shell:run"]\n')
    _until(lambda: said("coder"), lambda verdict: verdict == "allow")
    file.write_text(f'{poet}[rules]\ndeny = ["a b c"]\n')
    _until(lambda: said("coder"), lambda verdict: verdict == "deny")
    assert "coder.toml" in errors()[0]

    folder = backend.home.specialists / "guest"
    folder.mkdir()
    (folder / "SKILL.md").write_text(
        "---\ntitle: Guest\nrules:\n  allow: ['shell:*']\n---\nYou are a guest.\n"
    )
    assert _until(lambda: said("guest"), lambda verdict: verdict != "nobody") == "ask"
