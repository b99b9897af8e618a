"""Place 6: what the platform stands on, in tabs: the gateway, the models there are, the hosts, settings, and what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable
from textwrap import wrap
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from backend.schema.params import ListModels
from backend.schema.records import ProcessFigures, SpecialistStatus
from backend.schema.results import ProviderList
from tekton_tui.commands import Commands
from tekton_tui.formatting import size
from tekton_tui.runtime.latest import Latest
from tekton_tui.safe_text import literal, one_line
from tekton_tui.screens.gateway import GatewayPane
from tekton_tui.stores import Stores
from tekton_tui.verbs import bindings
from tekton_tui.widgets.fleet.drawing import gauge, share_tone

TABS: Final = {
    "gateway": "Gateway",
    "models": "Models",
    "hosts": "Hosts",
    "config": "Settings",
    "doctor": "Doctor",
}
"""Titles of the tabs by their words behind `:`."""
COMMANDS: Final = {"config": ("config", "show", "--origin"), "doctor": ("doctor",)}
"""Of the command line, whose words these tabs show."""
KEY_CELLS, ORIGIN_CELLS, SHORT_VALUE_CELLS = 37, 24, 12
"""Columns of a row of settings: the value has what its key and its origin leave."""
_setting = re.compile(r"(\S+)\s+(environment: \S+|\S+)\s*(.*)").fullmatch
GAUGE_CELLS: Final = 20
DETAIL_CELLS: Final = 72
"""Of why a provider does not answer: it fits at the smallest size."""
TONES: Final = {"steel": "$steel", "warn": "$text-warning", "bad": "$text-error", "line": "$line"}


class SystemPane(Vertical):
    """One tab is shown, the others are made anew when they are gone to."""

    DEFAULT_CSS = """
    #system-head { height: 1; margin-bottom: 1; }
    #models, #hosts, #config, #doctor { height: 1fr; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bindings("system")

    def __init__(self, stores: Stores, commands: Commands, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores, self._commands = stores, commands
        self._reading = Latest(commands.controller)
        self.tab = "gateway"
        self._looking: set[str] = set()
        """Tabs whose command runs: another would only make both slower."""

    def compose(self) -> ComposeResult:
        yield Static("", id="system-head")
        yield GatewayPane(self._stores, self._commands, id="gateway")
        for name in list(TABS)[1:]:
            with VerticalScroll(id=name, can_focus=True):
                yield Static("", id=f"{name}-text")

    def on_mount(self) -> None:
        self._stores.fleet.summary_changed.subscribe_widget(self, self._show_hosts)
        self._write()

    def focus_content(self) -> None:
        if self.tab == "gateway":
            self.query_one(GatewayPane).focus_content()
        else:
            self.query_one(f"#{self.tab}").focus()

    def show_tab(self, name: str) -> None:
        """Show a tab by its word and put the keyboard into it."""
        self.tab = name
        self._write()
        self.focus_content()

    def action_tab(self, step: int) -> None:
        names = list(TABS)
        self.show_tab(names[(names.index(self.tab) + step) % len(names)])

    def action_back(self) -> None:
        self._commands.navigator.show("fleet")

    def _write(self) -> None:
        for name in TABS:
            self.query_one(f"#{name}").display = name == self.tab
        self._show_head()
        if self.tab == "models":
            self._reading.request(ListModels(), self._show_models, otherwise=self._no_models)
        elif self.tab == "hosts":
            self._show_hosts()
        elif self.tab in COMMANDS:
            self._run()

    def _show_head(self) -> None:
        """Show the titles of all tabs; where they do not fit the own one, and which of how many it is."""
        at = list(TABS).index(self.tab)
        titles = [
            Content.styled(f" {title} ", "bold $text on $panel" if number == at else "$text-muted")
            for number, title in enumerate(TABS.values())
        ]
        keys = Content.assemble(("  [ ]", "bold $text-accent"), (" tab", "$text-muted"))
        head = Content("").join([*titles, keys])
        if head.cell_length > self.size.width > 0:
            head = Content.assemble(titles[at], (f" {at + 1} of {len(TABS)}", "$text-muted"), keys)
        self.query_one("#system-head", Static).update(head)

    def on_resize(self) -> None:
        self._show_head()

    def action_again(self) -> None:
        if self.tab == "gateway":
            self.query_one(GatewayPane).focus_content()
        else:
            self._write()

    def action_copy(self) -> None:
        if self.tab != "gateway" and isinstance(shown := self._text(self.tab).content, Content):
            self._commands.copy(shown.plain, TABS[self.tab].lower())

    def _text(self, tab: str) -> Static:
        return self.query_one(f"#{tab}-text", Static)

    # settings and doctor: what the command line says on this machine

    def _run(self) -> None:
        tab = self.tab
        command = " ".join(("tekton", *COMMANDS[tab]))
        shown = self._text(tab)
        if not self._stores.connection.starts_here:
            shown.update(
                literal(f"The backend runs elsewhere: `{command}` on its machine says it.", "$text-muted")
            )
            return
        if tab in self._looking:
            return
        self._looking.add(tab)
        head = Content.assemble(
            (command, "bold $text-primary"), ("  R", "bold $text-primary"), (" again", "$text-muted")
        )
        shown.update(Content("\n").join([head, literal("looking…", "$text-muted")]))

        def said(code: int, text: str) -> None:
            self._looking.discard(tab)
            if self.is_attached:
                rows = _settings if tab == "config" and not code else _findings
                shown.update(Content("\n").join([head, Content(""), *rows(text, self.size.width)]))

        self._commands.console.run_tekton(COMMANDS[tab], said)

    # models

    def _no_models(self) -> None:
        if self.is_attached:
            self.query_one("#models-text", Static).update(
                literal("The providers could not be asked; the notice says why.", "$text-error")
            )

    def _show_models(self, listed: ProviderList) -> None:
        if not self.is_attached:
            return
        lines: list[Content] = []
        if (platform := self._stores.fleet.platform) is not None:
            used = platform.provider
            lines = [
                Content.assemble(
                    ("In use  ", "bold $text-primary"),
                    literal(f"{used.display or used.model} · {used.provider}  ", "bold"),
                    literal(used.reason, "$text-muted"),
                ),
                Content(""),
            ]
        users = self._users()
        for provider in (each for each in listed.providers if each.ok):
            lines.append(Content.styled(one_line(provider.provider, 60), "bold $text-primary"))
            for model in provider.models:
                facts = [size(model.size)] if model.size else []
                facts += [f"{model.context_window:,} tokens"] if model.context_window else []
                facts += [f"used by {one_line(names, 60)}"] if (names := users.get(model.name, "")) else []
                lines.append(
                    Content.assemble(
                        literal(f"  {one_line(model.display, 24):<26}"),
                        literal(one_line(" · ".join(facts), max(20, self.size.width - 32)), "$text-muted"),
                    )
                )
            lines.append(Content(""))
        for provider in (each for each in listed.providers if not each.ok):
            name = one_line(provider.provider, 60)
            detail = one_line(provider.detail.removeprefix(f"{name.capitalize()}: "), 200)
            lines.append(literal(name, "bold $text-muted"))
            lines += [literal(f"  {row}", "$text-muted") for row in wrap(detail, DETAIL_CELLS)]
        lines += [
            Content(""),
            literal("m on a specialist chooses its model, `:use` the one for all.", "$text-muted"),
        ]
        self.query_one("#models-text", Static).update(Content("\n").join(lines))

    def _users(self) -> dict[str, str]:
        users: dict[str, list[str]] = {}
        for row in self._stores.fleet.rows.values():
            if row.pid:
                users.setdefault(row.model, []).append(row.name)
        return {model: ", ".join(names) for model, names in users.items()}

    # hosts

    def _show_hosts(self) -> None:
        if self.tab != "hosts" or not self.is_attached:
            return
        fleet = self._stores.fleet
        lines = [Content.styled("This machine", "bold $text-primary")]
        if fleet.history:
            sample = fleet.history[-1]
            lines += [_gauge("cpu", sample.cpu), _gauge("memory", sample.memory)]
        else:
            lines.append(literal("  nothing measured yet", "$text-muted"))
        lines.append(Content(""))
        hosts: dict[str, list[SpecialistStatus]] = {}
        for row in fleet.rows.values():
            if row.pid:
                hosts.setdefault(row.host, []).append(row)
        for host, rows in hosts.items():
            lines += _host(host, [(row, fleet.figures.get(row.id, ProcessFigures())) for row in rows])
        if not hosts:
            lines.append(literal((self._stores.unanswered or ("No specialist runs.",))[0], "$text-muted"))
        self.query_one("#hosts-text", Static).update(Content("\n").join(lines))


def _settings(text: str, width: int) -> list[Content]:
    """Return the settings with their values and where each comes from; those that somebody set stand out."""
    lines: list[Content] = []
    for line in text.splitlines():
        found = _setting(line)
        if found is None:
            lines.append(literal(line, "$text-error"))
            continue
        key, origin, value = found.groups()
        own, origin = origin != "default", one_line(origin.replace("environment: ", "$"), ORIGIN_CELLS)
        room = max(SHORT_VALUE_CELLS, width - KEY_CELLS - len(origin) - 6)
        lines.append(
            Content.assemble(
                literal(f"{one_line(key, KEY_CELLS):<{KEY_CELLS}} ", "bold" if own else "$text-muted"),
                literal(f"{one_line(value, room):<{room}} ", "" if own else "$text-muted"),
                literal(origin, "$text-primary" if own else "$text-muted"),
            )
        )
    return lines


def _findings(text: str, width: int) -> list[Content]:
    """Return what was checked, what is wrong before what is well, and how it is mended."""
    blocks: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith(("ok ", "FAIL ")) or not blocks:
            blocks.append([line])
        else:
            blocks[-1].append(line)
    wrong = [block for block in blocks if not block[0].startswith("ok ")]
    good = [block for block in blocks if block[0].startswith("ok ")]
    count = f"{len(wrong)} of {len(blocks)} are wrong" if wrong else f"all {len(good)} are well"
    lines = [literal(count, "bold $text-error" if wrong else "bold $text-success"), Content("")]
    for block, sign, tone in [
        *((one, "✖ ", "$text-error") for one in wrong),
        *((one, "✓ ", "$text-success") for one in good),
    ]:
        head = block[0].removeprefix("FAIL ").removeprefix("ok   ")
        lines.append(Content.assemble((sign, tone), literal(head, "" if "✖" in sign else "$text-muted")))
        for line in block[1:]:
            fix = line.strip().startswith("fix:")
            lines.append(literal(f"  {line.strip()}", "$text-warning" if fix else "$text-muted"))
    return lines


def _gauge(name: str, percent: float) -> Content:
    parts = gauge(percent / 100, GAUGE_CELLS, share_tone(percent / 100))
    drawn = [(part.text, TONES.get(part.tone, "")) for part in parts]
    return Content.assemble(f"  {name:<8}", *drawn, f"  {percent:.0f} %")


def _host(host: str, rows: Iterable[tuple[SpecialistStatus, ProcessFigures]]) -> list[Content]:
    """Return a host's name with how many run there, and each with what it takes, the largest first."""
    listed = sorted(rows, key=lambda pair: -pair[1].rss)
    total = sum(figures.rss for _, figures in listed)
    head = Content.assemble(
        literal(one_line(host, 40), "bold"),
        literal(f"  {len(listed)} run · {size(total)} of memory", "$text-muted"),
    )
    each = (
        literal(
            f"  {one_line(row.name, 16):<17} pid {row.pid:<8} cpu {figures.cpu:>3.0f} %   {size(figures.rss):>6}"
        )
        for row, figures in listed
    )
    return [head, *each, Content("")]
