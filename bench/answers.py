"""How well the embedded model answers in role: a written set of questions, judged by rules a reader can check.

    python bench/answers.py [--rounds 2] [--show] [--at-once 4] [--set newcomers]

Asks as a worker asks: the catalogue's personas and temperatures through our provider, on a server of its own. A rule
sees words, not sense: a good figure says that answers name the right thing, end and stay in role, no more than that.
`--set newcomers` asks ordinary questions of people who use the console for the first time, of the starter team with its
figures; "right" then is the share of answers that address the question at all.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
import time
import tomllib
from collections import Counter, defaultdict
from pathlib import Path

import msgspec
from msgspec import Struct
from options import parser_for

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backend import catalog
from backend.config import Settings
from backend.home import Home
from backend.monitor import platform_summary
from backend.providers import create
from backend.providers.base import Completed, CompletionRequest, Provider, Text
from backend.providers.embedded.platform_answers import asks_about_platform
from backend.schema.events import Metrics
from backend.schema.frames import Request, TurnContext
from backend.schema.records import HostFigures, SpecialistStatus
from backend.worker.prompt import assemble
from tests.model_server import model_server

SETS = {name: Path(__file__).with_name(f"{name}.toml") for name in ("questions", "newcomers")}
SELF_TALK = re.compile(r"\b(?:i am|i'm|as) an? (?:ai|large|language)\b|smollm|hugging ?face|openai")
SECOND_PERSON = re.compile(r"\byou are (?:{names})\b|asked about your role")
SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]?")


class Question(Struct):
    kind: str
    who: str
    ask: str
    want: list[str]
    never: list[str] = []


class Answer(Struct):
    question: Question
    text: str
    finish: str
    faults: list[str]


class _File(Struct):
    question: list[Question]


def questions(table: catalog.Catalog, name: str = "questions") -> list[Question]:
    """Return the set, with what is asked of all put once for each."""
    asked: list[Question] = []
    for question in msgspec.convert(tomllib.loads(SETS[name].read_text(encoding="utf-8")), _File).question:
        for component in table if question.who == "*" else [table.get(question.who)]:
            name = component.name.replace("_", " ")
            title = component.title.lower().removeprefix("the ")
            want = [word.format(name=name, title=title) for word in question.want]
            asked.append(Question(question.kind, component.name, question.ask, want, question.never))
    return asked


def judge(question: Question, text: str, finish: str, names: list[str]) -> list[str]:
    """Return what is wrong with an answer, by rule; empty when nothing is."""
    said = " ".join(text.lower().replace("’", "'").split())
    faults: list[str] = []
    if not any(word in said for word in question.want):
        faults.append("misses")
    if any(word in said for word in question.never):
        faults.append("claims")
    own = question.who.replace("_", " ")
    others = "|".join(name for name in names if name not in (own, "tekton core"))
    if re.search(rf"\b(?:i am|i'm|my name is) (?:{others})\b", said) or SELF_TALK.search(said):
        faults.append("another's role")
    if re.search(SECOND_PERSON.pattern.format(names="|".join(names)), said):
        faults.append("tells its persona")
    if finish == "length":
        faults.append("runs to the cap")
    if repeats(said):
        faults.append("repeats")
    return faults


def repeats(said: str) -> bool:
    """Return whether a sentence comes twice, or five words in a row three times."""
    sentences = Counter(s.strip() for s in SENTENCE.findall(said) if len(s.split()) > 3)
    words = said.split()
    fives = Counter(tuple(words[i : i + 5]) for i in range(len(words) - 4))
    return any(n > 1 for n in sentences.values()) or any(n > 2 for n in fives.values())


async def ask(
    provider: Provider, component: catalog.Component, question: Question, slot: int, facts: str = ""
) -> tuple[str, str]:
    """Ask as a worker does; return text and finish reason."""
    context = TurnContext(facts=facts) if facts else None
    prompt = assemble(component.persona, Request(content=question.ask, context=context))
    request = CompletionRequest(prompt.system, prompt.messages, "", component.temperature, slot=slot)
    text, finish = "", ""
    async for item in provider.stream(request):
        if isinstance(item, Text):
            text += item.content
        if isinstance(item, Completed):
            finish = item.finish_reason
    return text, finish


def starter_facts() -> str:
    """Return what the platform would say of a starter team that has answered a little."""
    now = time.time()
    running = {"numa": 900.0, "rhetor": 1200.0, "apollo": 2400.0, "athena": 1100.0}
    rows = [
        SpecialistStatus(
            f"{name}-ai",
            name,
            name.title(),
            name,
            "ready",
            pid=9,
            started_at=now - 300,
            turns=3,
            first_token_ms=first,
        )
        for name, first in running.items()
    ]
    rows += [SpecialistStatus(f"{name}-ai", name, name.title(), name) for name in ("metis", "telos", "penia")]
    host = HostFigures(12.0, 4, 16 << 30, 9 << 30, 0.4)
    told = platform_summary(rows, Metrics(now, host, {}), [], now=now)
    return f"{told}\n\nToday the platform used 320 tokens and spent 0.0010 USD."


async def run(home: Home, rounds: int, at_once: int, name: str = "questions") -> list[Answer]:
    table = catalog.load(Settings())
    names = [component.name.replace("_", " ") for component in table]
    slots = {component.name: number for number, component in enumerate(table)}
    provider = create("embedded", Settings(), home, {})
    await provider.prepare()
    gate = asyncio.Semaphore(at_once)
    facts = starter_facts() if name == "newcomers" else ""

    async def one(question: Question) -> Answer:
        async with gate:
            told = facts if question.who == "numa" or asks_about_platform(question.ask) else ""
            text, finish = await ask(provider, table.get(question.who), question, slots[question.who], told)
        return Answer(question, text, finish, judge(question, text, finish, names))

    asked = [question for question in questions(table, name) for _ in range(rounds)]
    answers = await asyncio.gather(*(one(question) for question in asked))
    await provider.aclose()
    return answers


def report(answers: list[Answer], show: bool) -> None:
    by_kind: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_kind[answer.question.kind].append(answer)
        if show:
            mark = ", ".join(answer.faults) or "good"
            print(f"{answer.question.who}: {answer.question.ask}\n  [{mark}] {' '.join(answer.text.split())}")
    faults = Counter(fault for answer in answers for fault in answer.faults)
    for kind, some in [*by_kind.items(), ("all", answers)]:
        good = sum(not answer.faults for answer in some)
        hit = sum("misses" not in answer.faults for answer in some)
        print(
            f"{kind:10} {len(some):4} answers   good {100 * good // len(some):3} %   right {100 * hit // len(some):3} %"
        )
    print("faults     " + ", ".join(f"{name} {number}" for name, number in faults.most_common()))
    words = sorted(len(answer.text.split()) for answer in answers)
    print(f"words      median {words[len(words) // 2]}, most {words[-1]}")


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="how often each question is asked")
    parser.add_argument("--at-once", type=int, default=4, help="questions under way at a time")
    parser.add_argument("--show", action="store_true", help="print every answer with what is wrong with it")
    parser.add_argument("--set", choices=list(SETS), default="questions", help="which questions")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder)).prepare()
        with model_server(home, Settings()):
            answers = asyncio.run(run(home, options.rounds, options.at_once, options.set))
    report(answers, options.show)


if __name__ == "__main__":
    main()
