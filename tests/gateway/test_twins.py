"""Each action has its twins: HTTP, WebSocket, command line, MCP's name, console. What has none says why, here."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from websockets.sync.client import connect

from backend.cli import aish, tekton
from backend.orchestration.actions import ACTIONS
from tests.gateway.serving import Backend

CONSOLE_HAS_NO = {
    "bulk": "for programs; the console asks many with Team Chat and chains",
    "list_specialists": "the console's rows come with the snapshot of `subscribe`",
    "platform": "comes with the snapshot",
    "cluster_status": "hosts are in the rows; nodes and what they offer: `tekton cluster status`",
    "snapshot": "the console subscribes, which sends it",
    "team_members": "the rows of the snapshot",
    "specialist_health": "the console shows what supervision sees; asking is for programs",
    "match": "@auto in the composer has the backend match",
    "create_session": "`/new` begins a session and makes it the default: reset_member",
    "search_memory": "the Sessions screen finds by words of messages through list_sessions",
    "usage": "tokens and cost are columns of the console's rows",
    "edit_turn": "`i` takes a question that waits back into the composer: cancel",
    "launch_one": "`launch` with one id",
    "kill_one": "`kill` with one id",
    "list_rules": "rules are kept from the command line: `tekton rules`",
    "add_rule": "rules are kept from the command line: `tekton rules`",
    "remove_rule": "rules are kept from the command line: `tekton rules`",
    "explain_rule": "rules are kept from the command line: `tekton rules`",
    "list_tool_calls": "`tekton audit`; the console shows a call where it was made",
    "list_candidates": "the models screen lists what each provider offers; who could answer by itself: `tekton models found`",
    "use_model": "the models screen sets specialists' models; the platform's: `tekton models use`",
}
CLI_HAS_NO = {
    "launch_one": "`tekton launch NAME` is `launch` with one id",
    "kill_one": "`tekton kill NAME` is `kill` with one id",
    "cancel": "Ctrl-C while an answer comes; needs a terminal and a turn under way (tests/cli)",
    "shutdown": "`tekton stop` ends the backend these tests share (tests/cli)",
    "pull_model": "`tekton models pull` fetches from the network",
}
MCP_SHARES = {"launch_one": "launch", "kill_one": "kill"}
"""Actions whose tool is another's."""

SESSION, MESSAGE = "<session>", "<message>"
COMMANDS: dict[str, list[str]] = {
    "chat": ["aish", "apollo", "hello"],
    "team_chat": ["tekton", "team", "hello"],
    "discuss": ["tekton", "call", "discuss", "team_request_id=nobody"],
    "ask_member": ["tekton", "call", "ask_member", "team_request_id=nobody", "ai_id=apollo"],
    "edit_turn": ["tekton", "call", "edit_turn", "target=nobody", "content=x"],
    "bulk": ["tekton", "call", "bulk", 'requests=[{"specialist_id":"apollo","message":"hi"}]'],
    "list_turns": ["tekton", "call", "list_turns"],
    "list_attention": ["tekton", "desk"],
    "acknowledge_attention": ["tekton", "desk", "ack", "down:nobody"],
    "mark_seen": ["tekton", "call", "mark_seen"],
    "snooze_attention": ["tekton", "desk", "snooze", "down:nobody"],
    "list_errors": ["tekton", "errors"],
    "acknowledge_errors": ["tekton", "errors", "ack", "--all"],
    "list_specialists": ["tekton", "discover"],
    "get_specialist": ["tekton", "call", "get_specialist", "id=apollo"],
    "preview_specialist": ["tekton", "call", "preview_specialist", "name=twin", "persona=You are a twin."],
    "create_specialist": ["tekton", "call", "create_specialist", "name=twin", "persona=You are a twin."],
    "specialist_health": ["tekton", "call", "specialist_health", "id=apollo"],
    "specialist_logs": ["tekton", "logs", "apollo"],
    "launch": ["tekton", "launch", "apollo", "--dry-run"],
    "kill": ["tekton", "kill", "sophia"],
    "restart": ["tekton", "restart", "nobody-at-all"],
    "match": ["tekton", "match", "plan a release"],
    "list_models": ["tekton", "models", "--provider", "scripted"],
    "list_candidates": ["tekton", "models", "found"],
    "use_model": ["tekton", "models", "use", "scripted"],
    "set_model": ["tekton", "models", "set", "nobody-at-all", "--provider", "scripted"],
    "usage": ["tekton", "usage"],
    "list_asks": ["tekton", "asks"],
    "answer_ask": ["tekton", "asks", "allow", "nobody"],
    "list_rules": ["tekton", "rules"],
    "add_rule": ["tekton", "rules", "add", "deny", "twins:*"],
    "remove_rule": ["tekton", "rules", "remove", "99"],
    "explain_rule": ["tekton", "rules", "explain", "files:read"],
    "list_tool_calls": ["tekton", "audit"],
    "get_sent": ["tekton", "sent", "apollo"],
    "pipeline": ["tekton", "pipe", "apollo | athena"],
    "list_pipelines": ["tekton", "call", "list_pipelines"],
    "saved_pipelines": ["tekton", "pipe", "--saved"],
    "save_pipeline": ["tekton", "pipe", "--save", "twins", "apollo | athena"],
    "remove_pipeline": ["tekton", "pipe", "--remove", "twins"],
    "platform": ["tekton", "doctor"],
    "snapshot": ["tekton", "status", "--json"],
    "get_orchestration": ["tekton", "call", "get_orchestration"],
    "configure_orchestration": ["tekton", "call", "configure_orchestration", "settings={}"],
    "gateway_info": ["tekton", "gateway"],
    "cluster_status": ["tekton", "cluster", "status"],
    "get_preference": ["tekton", "call", "get_preference", "key=k"],
    "put_preference": ["tekton", "call", "put_preference", "key=k", "value=1"],
    "list_sessions": ["tekton", "sessions"],
    "create_session": ["tekton", "sessions", "new", "twins", "--owner", "apollo"],
    "get_session": ["tekton", "call", "get_session", f"id={SESSION}"],
    "patch_session": ["tekton", "sessions", "rename", SESSION, "twins again"],
    "delete_session": ["tekton", "sessions", "delete", SESSION, "--yes"],
    "session_messages": ["tekton", "sessions", "show", SESSION],
    "export_session": ["tekton", "export", SESSION],
    "search_memory": ["tekton", "sessions", "search", "hello"],
    "conversation_history": ["aish", "history", "apollo"],
    "pin_message": ["tekton", "call", "pin_message", f"message_id={MESSAGE}"],
    "team_members": ["tekton", "call", "team_members"],
    "set_agent_option": ["tekton", "options", "apollo", "mode", "plan"],
    "reset_member": ["tekton", "call", "reset_member", "id=athena"],
}


def called(backend: Backend, since: float) -> set[str]:
    recent = backend.ask("GET", "/api/v1/gateway")["recent"]
    return {call["action"] for call in recent if call["transport"] == "ws" and call["timestamp"] >= since}


@pytest.mark.parametrize("name", sorted(ACTIONS.keys() - CLI_HAS_NO.keys()))
def test_the_command_of_an_action_calls_that_action(
    name: str, backend: Backend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, value in backend.environment().items():
        monkeypatch.setenv(key, value)
    session = backend.ask("POST", "/api/v1/sessions", json={"owner": "apollo"})["id"]
    words = [
        {SESSION: session, f"id={SESSION}": f"id={session}", f"message_id={MESSAGE}": "message_id=1"}.get(
            w, w
        )
        for w in COMMANDS[name]
    ]
    main: Callable[[list[str]], Any] = {"tekton": tekton.main, "aish": aish.main}[words[0]]
    began = time.time()
    with open(os.devnull, encoding="utf-8") as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        main(words[1:])
    capsys.readouterr()
    assert name in called(backend, began), f"{' '.join(words)} does not call {name}"
    claimed = ACTIONS[name].cli.split()
    plain = [word for word in claimed if word == word.lower()]
    assert words[: len(plain)] == plain, f"the table says {ACTIONS[name].cli!r}"


def test_no_action_is_without_a_command_or_a_reason() -> None:
    assert COMMANDS.keys() | CLI_HAS_NO.keys() == ACTIONS.keys()
    assert not COMMANDS.keys() & CLI_HAS_NO.keys()


def test_every_action_has_a_route_and_no_two_share_one() -> None:
    routes = [route for action in ACTIONS.values() for route in action.routes]
    assert [name for name, action in ACTIONS.items() if not action.routes] == []
    assert len(set(routes)) == len(routes)


def test_the_websocket_knows_every_action(backend: Backend) -> None:
    """Sent with a reader's token, so that nothing is changed: known types are refused by scope or parameters."""
    address = f"{backend.url.replace('http', 'ws')}/ws"
    with connect(address, additional_headers=backend.auth("read"), proxy=None) as socket:
        socket.recv(10)
        for number, name in enumerate([*ACTIONS, "dance"]):
            socket.send(json.dumps({"type": name, "request_id": f"twin-{number}"}))
            while (answer := json.loads(socket.recv(20))).get("request_id") != f"twin-{number}":
                pass
            scope = ACTIONS[name].scope if name in ACTIONS else ""
            if name not in ACTIONS:
                assert answer["code"] == "unknown_type"
            elif scope != "read":
                assert answer["code"] == "forbidden", name
            else:
                assert answer["type"] == "result" or answer["code"] in ("invalid_request", "not_found"), (
                    answer
                )


def test_every_action_has_a_tool_of_its_own() -> None:
    own = {name: action.mcp for name, action in ACTIONS.items() if name not in MCP_SHARES}
    assert [name for name, tool in own.items() if not tool] == []
    assert len(set(own.values())) == len(own)
    assert {name: ACTIONS[name].mcp for name in MCP_SHARES} == {
        a: ACTIONS[b].mcp for a, b in MCP_SHARES.items()
    }


def test_the_tools_that_are_served_are_those_of_the_table(backend: Backend) -> None:
    listed = backend.ask("GET", "/api/mcp/v2/tools")["result"]["tools"]
    served = {row["name"] for row in listed}
    assert {action.mcp for action in ACTIONS.values()} <= served
    assert served - {action.mcp for action in ACTIONS.values()} <= {
        "ConfigureAIOrchestration",  # the older name of ConfigureOrchestration
        "SendMessageToSpecialistStream",  # chat, told as it comes
    }


def test_every_action_is_on_the_screen_or_says_why_not() -> None:
    assert {name for name, action in ACTIONS.items() if not action.console} == CONSOLE_HAS_NO.keys()
