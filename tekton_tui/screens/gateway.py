"""Screen 7: who may come in, who is in, what was asked and what was turned away."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tekton_tui.commands import Commands
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import Stores

LOOK_EVERY_S = 2.0
SHOWN_CALLS = 14


class GatewayPane(Vertical):
    """Read again every two seconds while it is shown."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "copy", "Copy curl", id="gateway.copy"),
        Binding("escape", "back", "Back", show=False, id="gateway.back"),
    ]

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
            self._commands.fetch("gateway_info", self._take)

    def _take(self, facts: dict[str, Any]) -> None:
        if not self.is_attached:
            return
        content = self._content(facts)
        if content.plain != self._said:
            self._said = content.plain
            self.query_one("#gateway-text", Static).update(content)

    def _content(self, facts: dict[str, Any]) -> Content:
        address = facts["address"]
        lines: list[Content] = [
            Content.assemble(
                _title("Listens "),
                literal(address),
                literal("  token: the file `token` of TEKTON_HOME", "$text-muted"),
            ),
            literal(
                f"{facts['total_calls']} calls · {facts['refused_calls']} refused · streams open: {facts['streams']}"
                f" · event {facts['events']['seq']}",
                "$text-muted",
            ),
            Content(""),
            _title("Clients"),
        ]
        for client in facts["clients"]:
            topics = ", ".join(client["topics"]) or "no topics"
            who = f"{one_line(client['client'], 22):<22} {client['scope']:<8}"
            lines.append(literal(f"  {who} since {_clock(client['since'])}  {one_line(topics, 120)}"))
        lines += [Content(""), _title("Recent calls")]
        for call in facts["recent"][:SHOWN_CALLS]:
            lines.append(_call(call))
        lines += [Content(""), _title("Refused")]
        lines += [_call(call) for call in facts["refusals"][:SHOWN_CALLS]] or [
            literal("  none", "$text-muted")
        ]
        lines += [Content(""), _title("To copy"), *(literal(f"  {line}") for line in curl_lines(address))]
        return Content("\n").join(lines)

    def action_copy(self) -> None:
        if platform := self._stores.fleet.platform:
            self._commands.copy("\n".join(curl_lines(platform.gateway)), "the curl lines")

    def action_back(self) -> None:
        self._commands.show("fleet")


def curl_lines(address: str) -> list[str]:
    """Return commands that work as they stand; the token is read from its file, never shown."""
    bearer = '-H "Authorization: Bearer $(cat ${TEKTON_HOME:-~/.tekton}/token)"'
    return [
        f"curl {bearer} {address}/api/v1/specialists",
        f"curl -N {bearer} '{address}/api/chat/apollo/stream?message=Hello'",
        f'curl {bearer} -d \'{{"message":"Hello, team"}}\' {address}/api/team-chat',
    ]


def _call(call: dict[str, Any]) -> Content:
    refusal = one_line(call.get("refusal", ""), 120)
    action = one_line(call["action"], 24)
    what = f"{call['transport']:<6} {action:<24} {call['status']} {call.get('elapsed_ms', 0):7.1f} ms"
    words = f"  {_clock(call['timestamp'])} {what}  {one_line(call['client'], 40)}"
    return literal(f"{words}  {refusal}".rstrip(), "$text-error" if refusal else "")


def _title(words: str) -> Content:
    return Content.styled(words, "bold $text-primary")


def _clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment))
