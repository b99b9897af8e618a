"""The console line by line, on a terminal that can do nothing: what it says, what it takes, and that it sends no control."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from backend.schema.attention import AttentionItem
from backend.schema.events import AskClosed, AskOpened, AttentionChanged, TeamEnd
from backend.schema.params import AnswerAsk, Chat, Kill, ListErrors
from backend.schema.records import ErrorRecord, LaunchResult
from backend.schema.results import AskAnswered, ErrorList, KillResult, Started
from backend.schema.tools import Ask, AskOption
from bench.replay_gateway import ReplayGateway
from bench.terminal import Terminal
from tests.tui.fake_client import NOW, Answers, answer, answer_of, live, snapshot, team, usual_answers
from tests.tui.test_hostile import CORPUS, evil, hostile_events

FAR = NOW + 10 * 365 * 86_400
ASK = Ask("k1", "apollo-ai", "r1", "s", "run", '{"command":"pytest -q"}', NOW, FAR)


@asynccontextmanager
async def plain(
    tmp_path: Path, answers: Answers, called: list[Any]
) -> AsyncGenerator[tuple[Terminal, ReplayGateway]]:
    """Run the console on a dumb terminal against a gateway that keeps what it is called for."""

    def reply(params: Any) -> Any:
        called.append(params)
        return answer_of(usual_answers() | answers, params)

    (tmp_path / "token").write_text("x" * 48)
    (tmp_path / "token").chmod(0o600)
    async with ReplayGateway(snapshot(live("apollo"), live("athena")), reply) as gateway:
        command = [sys.executable, "-m", "tekton_tui", "--plain", "--home", str(tmp_path / "home")]
        command += ["--connect", gateway.url, "--token-file", str(tmp_path / "token")]
        with Terminal(command, columns=400, rows=60, environment={"TERM": "dumb"}) as terminal:
            await said(terminal, "help lists what can be typed.")
            yield terminal, gateway


async def said(terminal: Terminal, words: str) -> None:
    await asyncio.to_thread(terminal.until_bytes, words.encode())


async def test_everything_is_said_and_done_by_lines_without_a_control_byte(tmp_path: Path) -> None:
    called: list[Any] = []
    error = ErrorRecord(1, "ergon-ai", "worker_lost", "No module named 'tools'", NOW, NOW, 3)
    answers: Answers = {
        Chat: lambda params: Started("r1", ai_id=params.ai_id),
        AnswerAsk: AskAnswered("k1", "apollo-ai", "run", "allow", "you"),
        Kill: KillResult([LaunchResult("athena-ai", True)]),
        ListErrors: ErrorList([error], 1),
    }
    async with plain(tmp_path, answers, called) as (terminal, gateway):
        await said(terminal, "2 of 19 run: ")
        terminal.send("apollo: What breaks first?\n")
        await gateway.send(
            *answer("r1", "apollo-ai", "s", "What breaks first?", "The queue.\nThen ", "the pool.")
        )
        await said(terminal, "apollo: The queue.")
        await said(terminal, "apollo: Then the pool.")
        await said(terminal, "apollo has answered: 2 tokens in 1.9 s.")
        await gateway.send(
            AskOpened(ASK),
            AttentionChanged(
                [AttentionItem("down:ergon-ai", "down", "ergon-ai", NOW, "exited 3", "No module")], []
            ),
        )
        await said(terminal, 'apollo asks to use run with {"command":"pytest -q"}')
        terminal.send("allow\nwaits\n")
        await said(terminal, "ergon, down: exited 3. No module")
        terminal.send("errors\n")
        await said(terminal, "ergon: worker lost, 3 times: No module named 'tools'")
        terminal.send("stop athena\nno\n")
        await said(terminal, "Nobody was stopped.")
        await gateway.send(team("t1", "And all?", "apollo", "athena"), TeamEnd("t1", 1, 1, 0, 2.0))
        await said(terminal, "The question to all is done: 1 answered, 1 failed.")
        terminal.send("stop athena\nyes\nstop zeus\nzeus: hi\nnonsense\n")
        await said(terminal, "There is no specialist zeus.")
        await said(terminal, "Not understood: nonsense.")
        terminal.send("quit\n")
        assert await asyncio.to_thread(terminal.wait) == 0
        text = terminal.written.decode()
    assert "Whom?" not in text
    assert [call.content for call in called if isinstance(call, Chat)] == ["What breaks first?"]
    assert [(call.id, call.answer) for call in called if isinstance(call, AnswerAsk)] == [("k1", "allow")]
    assert [call.ids for call in called if isinstance(call, Kill)] == [["athena-ai"]]
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", text)


async def test_a_word_meant_for_a_question_that_ended_answers_no_other(tmp_path: Path) -> None:
    called: list[Any] = []
    came = asyncio.Event()

    def answered(params: AnswerAsk) -> AskAnswered:
        came.set()
        return AskAnswered(params.id, "apollo-ai", "run", params.answer, "you")

    answers: Answers = {AnswerAsk: answered}
    worse = Ask("k2", "athena-ai", "r2", "s", "run", '{"command":"rm -rf build"}', NOW, FAR)
    third = Ask("k3", "athena-ai", "r2", "s", "run", '{"command":"ls"}', NOW, FAR)
    async with plain(tmp_path, answers, called) as (terminal, gateway):
        await gateway.send(AskOpened(ASK), AskClosed("k1", "apollo-ai", "deny", "nobody"), AskOpened(worse))
        await said(terminal, "Type allow 2, always 2 or deny 2.")
        terminal.send("allow\n")
        await said(terminal, "Which one? Say its number, such as allow 2.")
        terminal.send("always 2\n")
        await said(terminal, "No rule says exactly this call: type allow or deny.")
        await gateway.send(AskOpened(third))
        await said(terminal, "Type allow 3, always 3 or deny 3.")
        terminal.send("deny 2\n")
        async with asyncio.timeout(60):
            await came.wait()
        terminal.send("quit\n")
        await asyncio.to_thread(terminal.wait)
    assert [(call.id, call.answer) for call in called if isinstance(call, AnswerAsk)] == [("k2", "deny")]


async def test_lines_of_a_pipe_wait_for_the_backend(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x" * 48)
    (tmp_path / "token").chmod(0o600)
    async with ReplayGateway(
        snapshot(live("apollo")), lambda params: answer_of(usual_answers(), params)
    ) as gateway:
        console = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "tekton_tui", "--plain", "--home", str(tmp_path / "home")],
            *["--connect", gateway.url, "--token-file", str(tmp_path / "token")],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await console.communicate(b"status apollo\nstatus zeus\n")
    assert console.returncode == 0
    lines = said.decode().splitlines()
    assert lines.index("There is no specialist zeus. status lists those there are.") > lines.index(
        "Attached. 1 of 19 run: apollo."
    )
    assert any(line.startswith("apollo, ") and "ready" in line for line in lines)


async def test_hostile_text_is_said_as_signs(tmp_path: Path) -> None:
    async with plain(tmp_path, {}, []) as (terminal, gateway):
        await gateway.send(
            *hostile_events(), *answer("r9", "athena-ai", "s", evil("q"), CORPUS, "\nend of it")
        )
        await said(terminal, "athena: end of it")
        terminal.send("quit\n")
        await asyncio.to_thread(terminal.wait)
        text = terminal.written.decode()
    assert "Hnew␛" in text and "Traceback" not in text
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


async def test_no_backend_is_said_and_ends_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x" * 48)
    (tmp_path / "token").chmod(0o600)
    command = [sys.executable, "-m", "tekton_tui", "--plain", "--connect", "http://127.0.0.1:9"]
    command += ["--token-file", str(tmp_path / "token")]
    with Terminal(command, columns=200, rows=30, environment={"TERM": "dumb"}) as terminal:
        assert await asyncio.to_thread(terminal.wait) == 1
        assert "No backend: " in terminal.written.decode()


async def test_an_agents_own_answers_are_said_and_given_by_their_number(tmp_path: Path) -> None:
    called: list[Any] = []
    came = asyncio.Queue[str]()

    def answered(params: AnswerAsk) -> AskAnswered:
        came.put_nowait(params.id)
        return AskAnswered(params.id, "apollo-ai", "run", params.answer, "you")

    answers: Answers = {AnswerAsk: answered}
    options = [AskOption("once", "Yes", "allow_once"), AskOption("never", "No, never", "reject_always")]
    asks = [
        Ask(f"o{at}", "apollo-ai", "r1", "s", "agent:edit", "{}", NOW, FAR, options=options) for at in (1, 2)
    ]
    async with plain(tmp_path, answers, called) as (terminal, gateway):
        await gateway.send(*map(AskOpened, asks))
        await said(terminal, "Its own answer 2: No, never (reject always). Type answer 2, or answer 2 2.")
        terminal.send("answer 2 1\n")
        assert await asyncio.wait_for(came.get(), 30) == "o1"
        terminal.send("answer 7 2\n")
        await said(terminal, "It has no such answer.")
        terminal.send("answer 1 2\n")
        assert await asyncio.wait_for(came.get(), 30) == "o2"
        terminal.send("quit\n")
        assert await asyncio.to_thread(terminal.wait) == 0
    given = [(call.id, call.answer, call.option) for call in called if isinstance(call, AnswerAsk)]
    assert given == [("o1", "deny", "never"), ("o2", "allow", "once")]
