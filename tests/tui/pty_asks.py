"""A console with eighteen calls that wait, to be run as a program on a terminal: `python -m tests.tui.pty_asks`.

Answers go as lines to the descriptor in `CALLS_FD`: the id of the ask, the answer, and the rule it makes.
"""

from __future__ import annotations

import os
import time

from backend.schema.attention import AttentionItem
from backend.schema.events import AskClosed, AttentionChanged
from backend.schema.params import AnswerAsk
from backend.schema.results import AskAnswered
from backend.schema.tools import Ask
from tekton_tui.app import TektonApp
from tests.tui.fake_client import FakeClient, live, snapshot

NAMES = ("apollo", "athena", "rhetor")
DIFF = "--- /srv/notes.md as it is\n+++ /srv/notes.md with this text\n@@ -1 +1 @@\n-one\n+two"


def asks() -> list[Ask]:
    """Return eighteen calls: six reads, six writes of notes, three writes of secrets, three commands."""
    found: list[Ask] = []
    for number in range(18):
        match number % 6:
            case 0 | 1:
                tool, given, diff = "web:fetch", f'{{"url": "https://docs.example.org/{number}"}}', ""
            case 2 | 3:
                tool, given, diff = (
                    "files:write",
                    f'{{"path": "/srv/notes.md", "text": "two {number}"}}',
                    DIFF,
                )
            case 4:
                tool, given, diff = "files:write", f'{{"path": "/srv/.ssh/{number}", "text": "key"}}', ""
            case _:
                tool, given, diff = "shell:run", f'{{"command": "pytest -q tests/{number}.py"}}', ""
        ai_id = f"{NAMES[number % 3]}-ai"
        since = time.time() - 60 + number
        always = f"{tool} path=/srv/{number}" if tool != "shell:run" else ""
        found.append(
            Ask(f"t-{number:02}", ai_id, f"r{number}", "s1", tool, given, since, since + 600, always=always,
                why="Bring the notes up to date.", reason=f"no rule covers {tool}: the default is ask", diff=diff)
        )  # fmt: skip
    return found


def item(ask: Ask) -> AttentionItem:
    why = f"{ask.tool} {ask.arguments}"
    return AttentionItem(
        f"asks:{ask.id}", "asks", ask.ai_id, ask.since, "asks", why, 1, ask.request_id, ask.session_id
    )


def main() -> None:
    waiting = asks()
    first = snapshot(*(live(name, state="busy", phase="waiting") for name in NAMES))
    first.asks, first.attention = waiting, [item(ask) for ask in waiting]
    client = FakeClient(first)

    def answer(params: AnswerAsk) -> AskAnswered:
        ask = next(one for one in waiting if one.id == params.id)
        os.write(int(os.environ["CALLS_FD"]), f"{ask.id} {params.answer} {params.always}\n".encode())
        client.send(AskClosed(ask.id, ask.ai_id, params.answer, "owner over WebSocket"))
        client.send(AttentionChanged([], [f"asks:{ask.id}"]))
        return AskAnswered(ask.id, ask.ai_id, ask.tool, params.answer, "owner over WebSocket")

    client.answers[AnswerAsk] = answer
    TektonApp(client.connect).run()


if __name__ == "__main__":
    main()
