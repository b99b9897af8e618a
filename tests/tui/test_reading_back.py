"""A long conversation is read back page by page to its first message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tekton_tui.app import TektonApp
from tekton_tui.transcript import Transcript
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, live

Maker = Callable[..., tuple[TektonApp, FakeClient]]
COUNT = 200


def message(number: int) -> dict[str, Any]:
    author = "apollo-ai" if number % 2 else "you"
    return {
        "id": number,
        "author": author,
        "role": "assistant" if number % 2 else "user",
        "content": f"MARK{number} " + "words " * 30,
        "created_at": NOW,
        "request_id": f"r{number}",
    }


async def test_going_to_the_top_again_and_again_reaches_the_first_message(console: Maker) -> None:
    app, client = console(live("apollo"))
    everything = [message(number) for number in range(1, COUNT + 1)]

    def page(params: dict[str, Any]) -> dict[str, Any]:
        before = params.get("before_id") or COUNT + 1
        return {"messages": [m for m in everything if m["id"] < before][-params["limit"] :]}

    client.answers["conversation_history"] = lambda p: {"conversation_id": "s-apollo-ai", **page(p)}
    client.answers["session_messages"] = page
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.commands.open_chat("apollo-ai")
        await settle(pilot)
        view = app.query_one(Transcript)
        view.focus()
        for _ in range(12):
            await pilot.press("g")
            await settle(pilot, 2)
            if view.entries[0].text.startswith("MARK1 "):
                break
        assert [entry.text.split()[0] for entry in view.entries] == [f"MARK{n}" for n in range(1, COUNT + 1)]
