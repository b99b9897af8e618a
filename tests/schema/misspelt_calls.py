# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Calls with a misspelt parameter. Each must be a type error: pyright reads this file, and a needless ignore fails it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.schema.params import (
    Chat,
    ExportSession,
    GetPreference,
    Kill,
    Launch,
    ListErrors,
    PinMessage,
    RunPipeline,
    TeamChat,
)
from backend.schema.results import KillResult, Started, TeamResult

if TYPE_CHECKING:
    from backend.client import Client


async def calls(client: Client) -> None:
    await client.call(Launch(ids=["metis"], dryrun=True))  # pyright: ignore[reportCallIssue]
    await client.call(Kill(ids=["apollo"], forced=True))  # pyright: ignore[reportCallIssue]
    await client.start(RunPipeline(run_id="r", first_stage=2))  # pyright: ignore[reportCallIssue]
    await client.start(TeamChat(content="hi", moderation="synthesis"))  # pyright: ignore[reportCallIssue]
    await client.start(Chat(ai_id="a", content="b", groups="g"))  # pyright: ignore[reportCallIssue]
    await client.call(PinMessage(message_id=1, pin=True))  # pyright: ignore[reportCallIssue]
    await client.call(ExportSession(id="s", fmt="md"))  # pyright: ignore[reportCallIssue]
    await client.call(ListErrors(limits=5))  # pyright: ignore[reportCallIssue]
    await client.call(GetPreference(key="k", value=1))  # pyright: ignore[reportCallIssue]
    await client.call(ExportSession(id="s", format="html"))  # pyright: ignore[reportArgumentType]
    await client.start(Kill(ids=["apollo"]))  # pyright: ignore[reportArgumentType]
    killed: KillResult = await client.call(Kill(ids=["apollo"]))
    print(killed.results[0].okay)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
    team: TeamResult = await client.call(TeamChat(content="hi"))
    begun: Started = await client.start(TeamChat(content="hi"))
    print(team.responses, begun.lanes)
