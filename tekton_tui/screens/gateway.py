"""Screen 7: who may come in, who is in, what was asked and what was turned away."""

from __future__ import annotations

import time
from textwrap import wrap
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from backend.schema.events import GatewayCall
from backend.schema.params import GetGateway
from backend.schema.results import GatewayReport
from tekton_tui.commands import Commands
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import Stores
from tekton_tui.verbs import bindings

LOOK_EVERY_S = 2.0
SHOWN_CALLS = 14
BELOW_CELLS = 62
"""Of what stands below a row: it fits beside its indentation at the smallest size."""


class GatewayPane(Vertical):
    """Read again every two seconds while it is shown."""

    DEFAULT_CSS = """
    #gateway-body { height: 1fr; padding: 0 1; }
    """

    BINDINGS: ClassVar[list[BindingType]] = bindings("gateway")

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._said = ""

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="gateway-body", can_focus=True):
            yield Static("", id="gateway-text")

    def on_mount(self) -> None:
        self._look()
        self.set_interval(LOOK_EVERY_S, self._look)

    def focus_content(self) -> None:
        self.query_one("#gateway-body").focus()
        self._look()

    def _look(self) -> None:
        if self.display and not self._stores.connection.stale:
            self._commands.controller.request(GetGateway(), self._show)

    def _show(self, report: GatewayReport) -> None:
        if not self.is_attached:
            return
        content = self._content(report)
        if content.plain != self._said:
            self._said = content.plain
            self.query_one("#gateway-text", Static).update(content)

    def _content(self, report: GatewayReport) -> Content:
        address = report.address
        lines: list[Content] = [
            Content.assemble(
                _title("Listens "),
                literal(address),
                literal("  token: the file `token` of TEKTON_HOME", "$text-muted"),
            ),
            literal(
                f"{report.total_calls} calls · {report.refused_calls} refused · streams open: {report.streams}"
                f" · event {report.events.seq}",
                "$text-muted",
            ),
            Content(""),
            _title("Clients"),
        ]
        for client in report.clients:
            topics = ", ".join(client.topics) or "no topics"
            who = f"{one_line(client.client, 22):<22} {client.scope:<8}"
            lines.append(literal(f"  {who} since {_clock(client.since)}"))
            lines += [
                literal(f"           {row}", "$text-muted")
                for row in wrap(one_line(topics, 120), BELOW_CELLS)
            ]
        lines += [Content(""), _title("Recent calls")]
        for call in report.recent[:SHOWN_CALLS]:
            lines.append(_call(call))
        lines += [Content(""), _title("Refused")]
        lines += [_call(call) for call in report.refusals[:SHOWN_CALLS]] or [literal("  none", "$text-muted")]
        lines += [Content(""), _title("To copy"), *_shown_curls(address)]
        return Content("\n").join(lines)

    def action_copy(self) -> None:
        if platform := self._stores.fleet.platform:
            self._commands.copy("\n".join(curl_lines(platform.gateway)), "the curl lines")

    def action_back(self) -> None:
        self._commands.navigator.show("fleet")


BEARER = 'curl -H "Authorization: Bearer $(cat ${TEKTON_HOME:-~/.tekton}/token)"'
"""The token is read from its file, never shown."""


def curl_lines(address: str) -> list[str]:
    """Return commands that work as they stand."""
    return [f"{BEARER} {rest}" for rest in _curl_ends(address)]


def _curl_ends(address: str) -> list[str]:
    return [
        f"{address}/api/v1/specialists",
        f"-N '{address}/api/chat/apollo/stream?message=Hello'",
        f'-d \'{{"message":"Hello, team"}}\' {address}/api/team-chat',
    ]


def _shown_curls(address: str) -> list[Content]:
    """Return the commands each on two rows, as a shell takes them too."""
    return [literal(f"  {BEARER} \\\n      {rest}") for rest in _curl_ends(address)]


def _call(call: GatewayCall) -> Content:
    """Return a call, and below it why it was refused, if it was."""
    refusal = one_line(call.refusal, 120)
    what = f"{call.transport:<6} {one_line(call.action, 24):<24} {call.status} {call.elapsed_ms:7.1f} ms"
    words = f"  {_clock(call.timestamp)} {what}  {one_line(call.client, 40)}"
    rows = [words, *(f"           {row}" for row in wrap(refusal, BELOW_CELLS))]
    return literal("\n".join(rows), "$text-error" if refusal else "")


def _title(words: str) -> Content:
    return Content.styled(words, "bold $text-primary")


def _clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment))
