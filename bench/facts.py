"""Does the embedded model answer Numa's and Penia's questions from the platform's facts? Judged by the names it must say.

    python bench/facts.py [--show]

The facts are made by the code that makes them in the product, the prompt as a worker makes it. The floor, in the same
run: the facts as a larger model gets them, between delimiters, without an example.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from answers import serving
from options import parser_for

from backend import catalog
from backend.config import Settings
from backend.home import Home
from backend.monitor import platform_summary
from backend.providers import create
from backend.providers.base import CompletionRequest, Text
from backend.providers.embedded import small_model
from backend.schema.events import Metrics
from backend.schema.frames import Request, TurnContext
from backend.schema.records import HostFigures, SpecialistStatus
from backend.worker.prompt import assemble

NOW = time.time()
SICK: dict[str, dict[str, Any]] = {
    "apollo": {"state": "exited", "since": NOW - 75, "cause": "exited with code 3: ModuleNotFoundError: No module named 'tools'"},
    "metis": {"state": "killed", "since": NOW - 130, "cause": "killed by signal 9 (SIGKILL) from outside"},
    "rhetor": {"state": "busy", "phase": "stalled", "pid": 9, "since": NOW - 30, "detail": "no token for 20 s"},
    "telos": {"state": "foreign-port", "since": NOW - 20, "cause": "port 45007 is held by nginx (pid 812)"},
    "engram": {"state": "lost", "since": NOW - 40, "cause": "engram-ai does not answer (pid 4711 lives): no pong in 5 s"},
    "": {},
}  # fmt: skip
WELL = ("athena", "hermes", "sophia")
HEALTH: list[tuple[str, str, list[str]]] = [
    ("apollo", "Which component is unhealthy?", ["apollo"]), ("apollo", "Who is down?", ["apollo"]),
    ("apollo", "Why did apollo stop?", ["code 3", "module"]), ("apollo", "Is anything broken?", ["apollo"]),
    ("metis", "Which component is unhealthy?", ["metis"]), ("metis", "Did somebody crash?", ["metis"]),
    ("metis", "What happened to metis?", ["kill"]), ("metis", "Who needs my attention?", ["metis"]),
    ("rhetor", "Who is stalled?", ["rhetor"]), ("rhetor", "Which specialist does not answer?", ["rhetor"]),
    ("rhetor", "What is wrong right now?", ["rhetor"]), ("telos", "Which component could not start?", ["telos"]),
    ("telos", "Why is telos not running?", ["port", "nginx"]), ("telos", "Is everything all right?", ["telos"]),
    ("", "Which component is unhealthy?", ["no component"]), ("", "Is anything broken?", ["no"]),
    ("engram", "Who is lost?", ["engram"]), ("engram", "Which component is unhealthy?", ["engram"]),
    ("engram", "Who does not answer?", ["engram"]), ("engram", "What should I look at first?", ["engram"]),
]  # fmt: skip
ITSELF = [("apollo", "Who are you?", ["numa"]), ("metis", "What is your role?", ["overseer", "watch"])]
BOOKS = (
    "Today apollo used 300 tokens and spent 0.0010 USD.\nToday athena used 20 tokens.\n"
    "Today the platform used 320 tokens and spent 0.0010 USD. Of its budget 680 of 1000 tokens are left.\n\n"
    "Tokens and cost today, counted by the platform:\n- the platform: 270 tokens in, 50 out, 0.0010 USD"
)
MONEY = [
    (BOOKS, "How many tokens did apollo use today?", ["300"]), (BOOKS, "How many tokens did athena use?", ["20 "]),
    (BOOKS, "Who used the most tokens?", ["apollo"]), (BOOKS, "How many tokens are left of the budget?", ["680"]),
    (BOOKS, "How much did the platform spend today?", ["0.001"]), (BOOKS, "How many tokens did the platform use?", ["320"]),
]  # fmt: skip


def health(sick: str) -> str:
    """Return the platform's summary on a day on which one of five is unwell, or nobody."""
    table, rows = catalog.load(Settings()), list[SpecialistStatus]()
    for name in dict.fromkeys([*filter(None, [sick]), "numa", *WELL]):
        given: dict[str, Any] = {"state": "ready", "pid": 7, "since": NOW - 600, "started_at": NOW - 600}
        given |= SICK[name] if name == sick else {}
        rows.append(SpecialistStatus(f"{name}-ai", name, table.get(name).title, name, **given))
    return platform_summary(rows, Metrics(NOW, HostFigures(12.0, 2, 8 << 30, 4 << 30, 0.8), {}), [], now=NOW)


async def right(provider: Any, who: str, facts: str, asked: str, want: list[str], show: bool) -> bool:
    """Ask once; return whether the answer says what it must and no healthy one's name."""
    component = catalog.load(Settings()).get(who)
    prompt = assemble(component.persona, Request(content=asked, context=TurnContext(facts=facts)))
    request = CompletionRequest(prompt.system, prompt.messages, "", component.temperature)
    said = "".join([item.content async for item in provider.stream(request) if isinstance(item, Text)])
    low = " ".join(said.lower().split())
    good = any(word in low for word in want) and not (who == "numa" and any(name in low for name in WELL))
    if show:
        print(f"  [{'good' if good else 'MISS'}] {asked} · {low[:140]}")
    return good


async def run(home: Home, show: bool) -> None:
    provider = create("embedded", Settings(), home, {})
    await provider.prepare()
    sets = {
        "health": ("numa", [(health(sick), asked, want) for sick, asked, want in HEALTH]),
        "itself": ("numa", [(health(sick), asked, want) for sick, asked, want in ITSELF]),
        "budgets": ("penia", MONEY),
    }
    plain = small_model.with_facts
    for form, shape in (("as the product", plain), ("floor: between delimiters", lambda messages: messages)):
        small_model.with_facts = shape
        for kind, (who, questions) in sets.items():
            found = [await right(provider, who, *question, show) for question in questions]
            print(f"{form:26} {kind:8} {sum(found):3} of {len(found)}", flush=True)
    small_model.with_facts = plain
    await provider.aclose()


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--show", action="store_true", help="print every answer")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder)).prepare()
        with serving(home, Settings()):
            asyncio.run(run(home, options.show))


if __name__ == "__main__":
    main()
