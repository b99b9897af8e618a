"""A tab of System: who may come in, who is in, what was asked and what was turned away."""

from __future__ import annotations

import time
from textwrap import wrap
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from backend.schema.events import GatewayCall
from backend.schema.params import GetGateway
from backend.schema.results import GatewayReport
from tekton_tui.commands import Commands
from tekton_tui.runtime.latest import Latest
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import Stores
from tekton_tui.verbs import bindings

LOOK_EVERY_S = 2.0
LEAST_CALLS = 14
"""Shown of the calls and of those refused; more where there is room."""
OWN_LOOK = GetGateway.action
"""By which consoles read this page every two seconds: it would push all else off it."""
WIDE = 150
"""Cells from which calls stand beside clients and what is to be copied."""
BELOW_CELLS = 62
"""Of what stands below a row: it fits beside its indentation at the smallest size."""


class GatewayPane(Vertical):
    """Read again every two seconds while it is shown."""

    DEFAULT_CSS = """
    #gateway-body { height: 1fr; padding: 0 1; }
    #gateway-columns { height: auto; }
    #gateway-text { width: 1fr; height: auto; }
    #gateway-calls { width: 1fr; height: auto; margin-left: 2; display: none; }
    GatewayPane.-wide #gateway-calls { display: block; }
    """

    BINDINGS: ClassVar[list[BindingType]] = bindings("gateway")

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._reading = Latest(commands.controller)
        self._said = ""
        self._report: GatewayReport | None = None

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="gateway-body", can_focus=True), Horizontal(id="gateway-columns"):
            yield Static("", id="gateway-text")
            yield Static("", id="gateway-calls")

    def on_mount(self) -> None:
        self._look()
        self.set_interval(LOOK_EVERY_S, self._look)
        self._stores.connection.changed.subscribe_widget(self, self._look)

    def focus_content(self) -> None:
        self.query_one("#gateway-body").focus()
        self._look()

    def _look(self) -> None:
        """Read the report anew, unless an answer is still to come: over a slow line they would pile up."""
        if self.display and self._stores.connection.state == "attached" and not self._reading.under_way:
            self._reading.request(GetGateway(), self._show)

    def on_resize(self) -> None:
        self.set_class(self.size.width >= WIDE, "-wide")
        if self._report is not None:
            self._show(self._report)

    def _show(self, report: GatewayReport) -> None:
        if not self.is_attached:
            return
        self._report = report
        calls, wide = self._calls(report), self.has_class("-wide")
        head, tail = self._clients(report), [Content(""), *_to_copy(report.address)]
        left = Content("\n").join([*head, *([] if wide else [Content(""), *calls]), *tail])
        right = Content("\n").join(calls)
        # an update lays out and draws even where the text is the same, and this is read every two seconds
        if (said := left.plain + right.plain * wide) != self._said:
            self._said = said
            self.query_one("#gateway-text", Static).update(left)
            self.query_one("#gateway-calls", Static).update(right if wide else "")

    def _clients(self, report: GatewayReport) -> list[Content]:
        """Say where it listens, how much was asked, and who is there."""
        lines: list[Content] = [
            Content.assemble(
                _title("Listens "),
                literal(report.address),
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
        return lines

    def _calls(self, report: GatewayReport) -> list[Content]:
        """Say what was asked of late, and what was turned away; as many as fill the place."""
        room = max(LEAST_CALLS, self.size.height // 2 - 2)
        refused = [_call(call) for call in report.refusals[:room]]
        more = 2 * room - max(LEAST_CALLS, len(refused))
        return [
            _title("Recent calls"),
            *[_call(call) for call in report.recent if call.action != OWN_LOOK or call.refusal][:more],
            Content(""),
            _title("Refused"),
            *(refused or [literal("  none", "$text-muted")]),
        ]

    def action_copy(self) -> None:
        if platform := self._stores.fleet.platform:
            self._commands.copy("\n".join(curl_lines(platform.gateway)), "the curl lines")

    def action_back(self) -> None:
        self._commands.navigator.show("fleet")


TOKEN = "$(cat ${TEKTON_HOME:-~/.tekton}/token)"
BEARER = f'curl -H "Authorization: Bearer {TOKEN}"'
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


def _to_copy(address: str) -> list[Content]:
    """Return how a shell, a program and an editor come in, none of it wrapped; the commands as a shell takes them too."""
    program = (
        "import os, pathlib, openai",
        'home = pathlib.Path(os.environ.get("TEKTON_HOME", "~/.tekton")).expanduser()',
        'key = (home / "token").read_text().strip()',
        f'client = openai.OpenAI(base_url="{address}/v1", api_key=key)',
        'hello = [{"role": "user", "content": "Hello"}]',
        'client.chat.completions.create(model="apollo", messages=hello)',
    )
    return [
        Content.assemble(_title("To copy "), literal("into a shell", "$text-muted")),
        *(literal(f"  {BEARER} \\\n      {rest}") for rest in _curl_ends(address)),
        Content(""),
        Content.assemble(
            _title("To copy "),
            literal("into a program", "$text-muted"),
        ),
        *(literal(f"  {line}") for line in program),
        Content(""),
        Content.assemble(
            _title("To copy "), literal("into the shell of programs for Claude and Ollama", "$text-muted")
        ),
        literal(f"  export ANTHROPIC_BASE_URL={address} \\\n      ANTHROPIC_AUTH_TOKEN={TOKEN}"),
        literal(f"  export OLLAMA_HOST={address} \\\n      OLLAMA_API_KEY={TOKEN}"),
        Content(""),
        Content.assemble(
            _title("To copy "), literal("into an editor: its tools by MCP, its agent by ACP", "$text-muted")
        ),
        literal('  {"mcpServers": {"tekton": {"command": "tekton", "args": ["mcp"]}}}'),
        literal('  {"agent_servers": {"apollo": {"command": "tekton", "args": ["acp", "apollo"]}}}'),
    ]


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
