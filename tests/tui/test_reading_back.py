"""A long conversation is read back page by page to its first message."""

from __future__ import annotations

from collections.abc import Callable

from backend.schema.params import GetHistory, ListMessages
from backend.schema.records import StoredMessage
from backend.schema.results import History, MessageList
from tekton_tui.app import TektonApp
from tekton_tui.transcript import Transcript
from tests.tui.conftest import settle
from tests.tui.fake_client import FakeClient, live, message

Maker = Callable[..., tuple[TektonApp, FakeClient]]
COUNT = 200


def numbered(number: int) -> StoredMessage:
    author = "apollo-ai" if number % 2 else "you"
    return message(number, author, f"MARK{number} " + "words " * 30, request_id=f"r{number}")


async def test_going_to_the_top_again_and_again_reaches_the_first_message(console: Maker) -> None:
    app, client = console(live("apollo"))
    everything = [numbered(number) for number in range(1, COUNT + 1)]

    def page(before: int, limit: int) -> list[StoredMessage]:
        return [stored for stored in everything if stored.id < before][-limit:]

    client.answers[GetHistory] = lambda params: History(
        params.specialist_id, "s-apollo-ai", page(COUNT + 1, params.limit)
    )
    client.answers[ListMessages] = lambda params: MessageList(
        page(params.before_id or COUNT + 1, params.limit)
    )
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat("apollo-ai")
        await settle(pilot)
        view = app.query_one(Transcript)
        view.focus()
        for _ in range(12):
            await pilot.press("g")
            await settle(pilot, 2)
            if view.entries[0].text.startswith("MARK1 "):
                break
        assert [entry.text.split()[0] for entry in view.entries] == [f"MARK{n}" for n in range(1, COUNT + 1)]
