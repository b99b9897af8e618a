"""A small agent, written with the SDK of the Agent Client Protocol: it does what the words of a prompt say.

    say TEXT          answer TEXT, a piece for each word
    think TEXT        think it
    plan DONE ALL     a plan of ALL steps, DONE of them completed
    edit PATH TEXT    ask for permission, and write TEXT into PATH below the working directory
    run COMMAND       a tool that runs a command in a session of its own, and waits for it
    remember TEXT     keep TEXT with the conversation, on disk; recall answers it
    echo              answer all that was sent
    ask TEXT          a question with two answers, wish TEXT one with an open answer, form TEXT one of several fields
    offer NAMES       say that there are these commands, typed as `/name`; one that is sent is answered with its words
    effort            answer how hard it is to think, an option of the conversation
    uncounted         leave out of the turn's end what it used; zeros says that it was nothing
    read PATH         read a file by the client, terminal COMMAND runs one there
    elsewhere FOLDER  run `echo` there, with FOLDER as its search path
    cost AMOUNT       say that the conversation costs so much so far
    flood N           N pieces of text, as fast as they go
    exit N            end the process

`--login` makes it refuse until somebody logs in: until the file LOGIN in the working directory is there. It loads earlier
conversations; with `--resume` it resumes them instead, and with `--forgets` it can neither. How often it was asked stands in
the file `.asked`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import acp
from acp import (
    schema,
    start_tool_call,
    update_agent_message_text,
    update_agent_thought_text,
    update_tool_call,
)
from acp.exceptions import RequestError

OPTIONS = [
    schema.PermissionOption(option_id="once", name="Yes", kind="allow_once"),
    schema.PermissionOption(option_id="ever", name="Yes, and do not ask again", kind="allow_always"),
    schema.PermissionOption(option_id="no", name="No", kind="reject_once"),
    schema.PermissionOption(option_id="never", name="No, and never ask again", kind="reject_always"),
]
EFFORTS = ("low", "high")


def keep(folder: Path, session_id: str, text: str) -> None:
    (folder / f".session-{session_id}").write_text(text)


class Agent:
    """Keeps its conversations as files in the working directory."""

    def __init__(self) -> None:
        self.client: Any = None
        self.folders: dict[str, Path] = {}
        self.modes: dict[str, str] = {}
        self.values: dict[str, dict[str, Any]] = {}
        self.usage: dict[str, schema.Usage | None] = {}
        self.running: dict[str, asyncio.Task[Any]] = {}
        self.calls = 0

    def on_connect(self, conn: Any) -> None:
        self.client = conn

    async def initialize(self, protocol_version: int, **_: Any) -> schema.InitializeResponse:
        return schema.InitializeResponse(
            protocol_version=protocol_version,
            agent_capabilities=schema.AgentCapabilities(
                load_session=not {"--resume", "--forgets"} & set(sys.argv),
                prompt_capabilities=schema.PromptCapabilities(image=True, embedded_context=True),
                session_capabilities=schema.SessionCapabilities(
                    close=schema.SessionCloseCapabilities(),
                    resume=schema.SessionResumeCapabilities() if "--resume" in sys.argv else None,
                ),
            ),
            auth_methods=[
                schema.TerminalAuthMethod(id="term", name="Log in", type="terminal", args=["--login-now"])
            ],
            agent_info=schema.Implementation(name="tester", title="The tester", version="1.2"),
        )

    async def authenticate(self, method_id: str, **_: Any) -> schema.AuthenticateResponse:
        return schema.AuthenticateResponse()

    def _modes(self, session_id: str) -> schema.SessionModeState:
        return schema.SessionModeState(
            current_mode_id=self.modes.setdefault(session_id, "ask"),
            available_modes=[
                schema.SessionMode(id="ask", name="Ask first"),
                schema.SessionMode(id="plan", name="Plan only"),
            ],
        )

    def _options(self, session_id: str) -> list[Any]:
        values = self.values.setdefault(session_id, {"model": "small", "effort": "low", "terse": False})

        def select(name: str, category: str, known: tuple[str, ...]) -> schema.SessionConfigOptionSelect:
            options = [schema.SessionConfigSelectOption(value=one, name=one.upper()) for one in known]
            return schema.SessionConfigOptionSelect(
                id=name,
                name=name.capitalize(),
                type="select",
                category=category,
                current_value=values[name],
                options=options,
            )

        return [
            select("model", "model", ("small", "large")),
            select("effort", "thought_level", EFFORTS),
            schema.SessionConfigOptionBoolean(
                id="terse", name="Terse", type="boolean", current_value=values["terse"]
            ),
        ]

    async def new_session(self, cwd: str, **_: Any) -> schema.NewSessionResponse:
        folder = Path(cwd)
        if "--login" in sys.argv and "LOGIN" not in os.listdir(cwd):
            raise RequestError.auth_required()
        session_id = f"s{len(os.listdir(cwd))}-{os.getpid()}"
        self.folders[session_id] = folder
        keep(folder, session_id, "")
        return schema.NewSessionResponse(
            session_id=session_id, modes=self._modes(session_id), config_options=self._options(session_id)
        )

    async def load_session(self, cwd: str, session_id: str, **_: Any) -> schema.LoadSessionResponse:
        if f".session-{session_id}" not in os.listdir(cwd):
            raise RequestError(-32002, "no such session")
        self.folders[session_id] = Path(cwd)
        await self.client.session_update(
            session_id=session_id, update=update_agent_message_text("what was said before")
        )
        return schema.LoadSessionResponse(
            modes=self._modes(session_id), config_options=self._options(session_id)
        )

    async def resume_session(self, cwd: str, session_id: str, **_: Any) -> schema.ResumeSessionResponse:
        if f".session-{session_id}" not in os.listdir(cwd):
            raise RequestError(-32002, "no such session")
        self.folders[session_id] = Path(cwd)
        return schema.ResumeSessionResponse(
            modes=self._modes(session_id), config_options=self._options(session_id)
        )

    async def close_session(self, session_id: str, **_: Any) -> schema.CloseSessionResponse:
        self.folders.pop(session_id, None)
        return schema.CloseSessionResponse()

    async def set_session_mode(
        self, session_id: str, mode_id: str, **_: Any
    ) -> schema.SetSessionModeResponse:
        self.modes[session_id] = mode_id
        return schema.SetSessionModeResponse()

    async def set_config_option(
        self, config_id: str, session_id: str, value: Any, **_: Any
    ) -> schema.SetSessionConfigOptionResponse:
        self._options(session_id)
        self.values[session_id][config_id] = value
        return schema.SetSessionConfigOptionResponse(config_options=self._options(session_id))

    async def cancel(self, session_id: str, **_: Any) -> None:
        if task := self.running.get(session_id):
            task.cancel()

    async def prompt(self, session_id: str, prompt: list[Any], **_: Any) -> schema.PromptResponse:
        text = "\n".join(block.text for block in prompt if block.type == "text")
        kinds = [block.type for block in prompt]
        with (self.folders[session_id] / ".asked").open("a") as asked:
            asked.write("x")
        self.usage[session_id] = schema.Usage(total_tokens=12, input_tokens=7, output_tokens=5)
        self.running[session_id] = asyncio.create_task(self._work(session_id, text, kinds))
        try:
            await self.running[session_id]
        except asyncio.CancelledError:
            return schema.PromptResponse(stop_reason="cancelled")
        return schema.PromptResponse(stop_reason="end_turn", usage=self.usage[session_id])

    async def _work(self, session: str, text: str, kinds: list[str]) -> None:
        for line in text.splitlines():
            word, _, rest = line.partition(" ")
            step = getattr(self, f"do_{word}", None)
            if step is not None:
                await step(session, rest)
            elif word == "kinds":
                await self.say(session, " ".join(kinds))
            elif word == "echo":
                await self.say(session, text)
            elif word.startswith("/"):
                await self.say(session, f"ran {word} with {rest!r}")

    async def say(self, session: str, text: str) -> None:
        await self.client.session_update(session_id=session, update=update_agent_message_text(text))

    async def do_say(self, session: str, text: str) -> None:
        for word in text.split():
            await self.say(session, f"{word} ")

    async def do_think(self, session: str, text: str) -> None:
        await self.client.session_update(session_id=session, update=update_agent_thought_text(text))

    async def do_mode(self, session: str, _: str) -> None:
        await self.say(session, self.modes[session])

    async def do_effort(self, session: str, _: str) -> None:
        await self.say(session, f"{self.values[session]['effort']} {self.values[session]['terse']}")

    async def do_uncounted(self, session: str, _: str) -> None:
        self.usage[session] = None

    async def do_zeros(self, session: str, _: str) -> None:
        self.usage[session] = schema.Usage(total_tokens=0, input_tokens=0, output_tokens=0)

    async def do_offer(self, session: str, names: str) -> None:
        hint = schema.AvailableCommandInput(schema.UnstructuredCommandInput(hint="what to look at"))
        commands = [
            schema.AvailableCommand(name=name, description=f"does {name}", input=hint)
            for name in names.split()
        ]
        update = schema.AvailableCommandsUpdate(
            session_update="available_commands_update", available_commands=commands
        )
        await self.client.session_update(session_id=session, update=update)

    async def do_ask(self, session: str, text: str) -> None:
        await self._elicit(session, text, {"type": "string", "enum": ["tea", "coffee"]})

    async def do_wish(self, session: str, text: str) -> None:
        await self._elicit(session, text, {"type": "string"})

    async def do_form(self, session: str, text: str) -> None:
        more = {"cups": {"type": "integer", "title": "How many"}, "sweet": {"type": "boolean"}}
        await self._elicit(session, text, {"type": "string", "title": "Which"}, **more)

    async def do_odd(self, session: str, text: str) -> None:
        several = {"type": "array", "items": {"type": "string", "enum": ["milk", "sugar"]}}
        await self._elicit(session, text, several)

    async def do_between(self, session: str, text: str) -> None:
        """Ask, and end a call of a tool while the question waits."""
        asking = asyncio.create_task(self._elicit(session, text, {"type": "string"}))
        call = start_tool_call("c-1", "a tool beside", kind="other", status="in_progress")
        await self.client.session_update(session_id=session, update=call)
        done = update_tool_call("c-1", status="completed")
        await self.client.session_update(session_id=session, update=done)
        await asking

    async def _elicit(self, session: str, text: str, kind: dict[str, Any], **more: Any) -> None:
        asked = schema.ElicitationSchema.model_validate(
            {"type": "object", "properties": {"drink": kind, **more}, "required": ["drink"]}
        )
        mode = schema.ElicitationFormSessionMode(session_id=session, requested_schema=asked)
        answer = await self.client.create_elicitation(text, mode)
        await self.say(session, json.dumps([answer.action, answer.model_dump(mode="json").get("content")]))

    async def do_env(self, session: str, _: str) -> None:
        await self.say(session, " ".join(sorted(os.environ)))

    async def do_plan(self, session: str, words: str) -> None:
        done, every = (int(word) for word in words.split())
        entries = [
            schema.PlanEntry(
                content=f"step {n}", priority="high", status="completed" if n < done else "pending"
            )
            for n in range(every)
        ]
        await self.client.session_update(
            session_id=session, update=schema.AgentPlanUpdate(session_update="plan", entries=entries)
        )

    async def do_cost(self, session: str, amount: str) -> None:
        update = schema.UsageUpdate(
            session_update="usage_update",
            used=1_000,
            size=8_000,
            cost=schema.Cost(amount=float(amount), currency="EUR"),
        )
        await self.client.session_update(session_id=session, update=update)

    async def do_edit(self, session: str, words: str) -> None:
        name, _, text = words.partition(" ")
        path = self.folders[session] / name
        old = path.read_text() if path.exists() else None
        new = f"{old or ''}{text}\n"
        self.calls += 1
        call = f"c{self.calls}"
        diff = schema.FileEditToolCallContent(type="diff", path=str(path), old_text=old, new_text=new)
        start = schema.ToolCallStart(
            session_update="tool_call",
            tool_call_id=call,
            title=f"Edit {name}",
            kind="edit",
            status="pending",
            content=[diff],
            raw_input={"file_path": str(path)},
        )
        await self.client.session_update(session_id=session, update=start)
        answer = await self.client.request_permission(
            session_id=session,
            tool_call=schema.ToolCallUpdate(tool_call_id=call, title=f"Edit {name}", content=[diff]),
            options=OPTIONS,
        )
        outcome = answer.outcome
        chosen = getattr(outcome, "option_id", outcome.outcome)
        allowed = chosen in ("once", "ever")
        if allowed:
            path.write_text(new)
        await self.client.session_update(
            session_id=session,
            update=schema.ToolCallProgress(
                session_update="tool_call_update",
                tool_call_id=call,
                status="completed" if allowed else "failed",
            ),
        )
        await self.say(session, f"{name}: {chosen} ")

    async def do_run(self, session: str, command: str) -> None:
        self.calls += 1
        call = f"c{self.calls}"
        await self.client.session_update(
            session_id=session,
            update=schema.ToolCallStart(
                session_update="tool_call",
                tool_call_id=call,
                title=f"Run {command}",
                kind="execute",
                status="in_progress",
                raw_input={"command": command.split()},
            ),
        )
        process = await asyncio.create_subprocess_shell(command, start_new_session=True)
        try:
            await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise
        await self.client.session_update(
            session_id=session,
            update=schema.ToolCallProgress(
                session_update="tool_call_update", tool_call_id=call, status="completed", raw_output="done"
            ),
        )

    async def do_remember(self, session: str, text: str) -> None:
        keep(self.folders[session], session, text)

    async def do_recall(self, session: str, _: str) -> None:
        await self.say(session, (self.folders[session] / f".session-{session}").read_text() or "nothing")

    async def do_read(self, session: str, name: str) -> None:
        path = str(self.folders[session] / name)
        try:
            answer = await self.client.read_text_file(session_id=session, path=path)
            await self.say(session, answer.content)
        except RequestError as error:
            await self.say(session, f"refused: {error}")

    async def do_terminal(self, session: str, command: str) -> None:
        terminal = await self.client.create_terminal(session_id=session, command=command)
        name = getattr(terminal, "terminal_id", None) or terminal.id
        await self.client.wait_for_terminal_exit(session_id=session, terminal_id=name)
        output = await self.client.terminal_output(session_id=session, terminal_id=name)
        await self.client.release_terminal(session_id=session, terminal_id=name)
        await self.say(session, json.dumps([output.output, output.exit_status.exit_code]))

    async def do_elsewhere(self, session: str, folder: str) -> None:
        """Run `echo hi`, but with a search path that finds another `echo` first."""
        variable = schema.EnvVariable(name="PATH", value=folder)
        try:
            await self.client.create_terminal(
                session_id=session, command="echo", args=["hi there"], env=[variable]
            )
        except RequestError as error:
            await self.say(session, f"refused: {error}")

    async def do_flood(self, session: str, count: str) -> None:
        for number in range(int(count)):
            await self.say(session, f"{number} ")

    async def do_exit(self, session: str, code: str) -> None:
        print("it ends on purpose", file=sys.stderr, flush=True)
        os._exit(int(code))


if __name__ == "__main__":
    asyncio.run(acp.run_agent(Agent(), use_unstable_protocol=True))  # session/resume
