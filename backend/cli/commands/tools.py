"""`tekton asks | rules | audit`: what specialists want to do with tools, what they may, and what they did."""

from __future__ import annotations

import argparse
import time

import msgspec

from backend.cli import terminal
from backend.cli.command import JSON, SPECIALISTS, argument, command, count
from backend.cli.exit_codes import OK
from backend.cli.runner import call
from backend.orchestration.approvals.rules import read_pattern
from backend.schema import params
from backend.schema.errors import InvalidRequest
from backend.schema.tools import QUESTION, Ask, Verdict
from backend.text import escaped, escaped_line

VERDICTS: tuple[Verdict, ...] = ("allow", "ask", "deny")


@command(
    "asks",
    argument("verb", nargs="?", choices=("list", "allow", "deny"), default="list"),
    argument("id", nargs="?", default="", help="allow, deny: which one, as the list shows it"),
    argument("words", nargs="*", help="deny: the reason given to the model; allow: the answer to a question"),
    argument("--always", action="store_true", help="also add a rule for exactly this call"),
    argument("--option", default="", help="answer with this option of the agent's own, by its id"),
    argument("--rule", default="", help="also add this rule, such as 'files:write path=notes/*'"),
    JSON,
    examples=[("tekton asks", "what waits for approval")],
)
async def asks(options: argparse.Namespace) -> int:
    """List the tool calls that wait for approval: who wants to call what, with which arguments, since when. `allow
    ID` lets one run, `deny ID [WHY]` refuses it; the first answer counts, whichever client it comes from.
    """
    waiting = (await call(params.ListAsks())).asks
    if options.verb != "list":
        if not options.id:
            raise InvalidRequest(f"asks {options.verb}: say which one; `tekton asks` lists them")
        found = next((ask for ask in waiting if ask.id == options.id), None)
        exact = found.always if found else ""
        if options.always and found and not exact:
            raise InvalidRequest(
                "no rule says exactly this call: leave --always out, or give one with --rule"
            )
        answer = params.AnswerAsk(
            id=options.id,
            answer=options.verb,
            always=options.rule or (exact if options.always else ""),
            words=" ".join(options.words),
            option=options.option,
        )
        done = await call(answer)
        verb = "allowed" if done.answer == "allow" else "denied"
        print(f"{verb}: {_who(done.ai_id)} calls {escaped_line(done.tool)}")
        return OK
    if terminal.print_if_json(options, waiting):
        return OK
    for ask in waiting:
        show_ask(ask)
    print(
        f"{len(waiting)} wait: `tekton asks allow ID`, `tekton asks deny ID WHY`"
        if waiting
        else "nothing waits"
    )
    return OK


def show_ask(ask: Ask) -> None:
    """Print a call that waits, with all the answers it takes."""
    asks = "asks by" if ask.form is not None or ask.tool == QUESTION else "asks to call"
    print(f"{ask.id}  {_who(ask.ai_id)} {asks} {escaped_line(ask.tool)}, {terminal.ago(ask.since)}")
    print(f"    with   {escaped_line(ask.arguments)}")
    if ask.why:
        print(f"    for    {escaped_line(ask.why)}")
    print(f"    since  {escaped_line(ask.reason)}")
    if ask.form is not None and not ask.options:
        fields = ", ".join(f'"{escaped_line(field.name)}": …' for field in ask.form)
        print(f"    answer allow {ask.id} '{{{fields}}}'")
    for option in ask.options:
        verb = "allow" if option.allows else "deny"
        print(
            f"    or     {verb} {ask.id} --option {escaped_line(option.id)}: "
            f"{escaped_line(option.name)} ({escaped_line(option.kind_words)})"
        )
    if ask.diff:
        print("".join(f"    {line}\n" for line in escaped(ask.diff).splitlines()), end="")


@command(
    "rules",
    argument("verb", nargs="?", choices=("list", "add", "remove", "explain"), default="list"),
    argument("words", nargs="*", help="add VERDICT PATTERN · remove NUMBER · explain CALL"),
    argument(
        "--for", dest="scope", default="", values=(SPECIALISTS,), help="a specialist, group or session/ID"
    ),
    JSON,
    examples=[
        ("tekton rules", "all rules, and where each comes from"),
        ("tekton rules explain 'files:write path=notes/today.md' --for apollo", "which rule decides"),
        ("tekton rules add allow 'files:read*' --for apollo", "let one specialist read without asking"),
    ],
)
async def rules(options: argparse.Namespace) -> int:
    """Manage the rules for tool calls. A pattern is `SERVER:TOOL [ARGUMENT=GLOB …]`; where several rules match, deny
    wins over ask and ask over allow; where none matches, a person is asked.
    """
    verb, words = options.verb, options.words
    if verb == "add":
        if len(words) < 2 or words[0] not in VERDICTS:
            raise InvalidRequest("rules add: give allow, ask or deny, and a pattern such as 'files:read*'")
        added = await call(params.AddRule(words[0], " ".join(words[1:]), options.scope), start=True)
        print(f"rule {added.id}: {added.verdict} {added.pattern}{_whose(added.scope)}")
    elif verb == "remove":
        if len(words) != 1 or not words[0].isdecimal():
            raise InvalidRequest("rules remove: give the number of a rule; `tekton rules` shows it")
        gone = await call(params.RemoveRule(int(words[0])), start=True)
        print(f"removed: {gone.verdict} {gone.pattern}{_whose(gone.scope)}")
    elif verb == "explain":
        wanted = read_pattern(" ".join(words))
        arguments = msgspec.json.encode(wanted.arguments).decode()
        decision = await call(params.ExplainRule(wanted.tool, arguments, options.scope), start=True)
        terminal.print_json(decision) if options.json else print(f"{decision.verdict}: {decision.reason}")
    else:
        found = (await call(params.ListRules(), start=True)).rules
        if terminal.print_if_json(options, found):
            return OK
        rows = [
            (
                str(rule.id or "-"),
                rule.verdict,
                escaped_line(rule.pattern),
                rule.scope or "platform",
                ", ".join([rule.by or "added", *([terminal.ago(rule.at)] if rule.at else [])])
                if rule.id
                else "config.toml",
            )
            for rule in found
        ]
        terminal.print_table(("N", "VERDICT", "PATTERN", "FOR", "FROM"), rows, wrap=True)
    return OK


@command(
    "audit",
    argument("name", nargs="?", default="", values=(SPECIALISTS,), help="only of this specialist"),
    argument("--limit", type=count, default=50, help="rows (default 50)"),
    JSON,
    examples=[("tekton audit", "which tools were called, and who allowed it")],
)
async def audit(options: argparse.Namespace) -> int:
    """List the tool calls, newest first: each with its verdict, the rule or person that gave it, and how it ended."""
    found = (await call(params.ListToolCalls(options.name, options.limit), start=True)).calls
    if terminal.print_if_json(options, found):
        return OK
    rows = [
        (
            time.strftime("%d %b %H:%M:%S", time.localtime(record.at)),
            _who(record.ai_id),
            escaped_line(record.tool),
            record.state,
            escaped_line(record.rule or record.by),
            escaped_line(record.preview),
        )
        for record in found
    ]
    terminal.print_table(("AT", "WHO", "TOOL", "STATE", "BY", "ARGUMENTS"), rows, wrap=True)
    return OK


def _who(ai_id: str) -> str:
    return ai_id.removesuffix("-ai")


def _whose(scope: str) -> str:
    return f" (for {_who(scope)})" if scope else ""
