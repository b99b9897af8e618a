"""A specialist that is an external agent: the agent's program, its conversations, and the turns that speak to it.

When the agent ends, its worker ends the same way, so that its end is seen and recorded as that of any specialist.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from backend import __version__
from backend.acp import messages as acp
from backend.acp.peer import PeerClosed, RpcFailure, read_params, unknown
from backend.acp.wire import BadLine
from backend.home import Home
from backend.schema.agents import AgentSpec, AgentState, FileChange, PlanStep
from backend.schema.content import Abilities
from backend.schema.errors import TektonError
from backend.schema.frames import (
    AgentReport,
    CountTokensResponse,
    EmbedResponse,
    ErrorReply,
    HealthResponse,
    InfoResponse,
    Pong,
    Request,
)
from backend.tasks import Background
from backend.text import safe_line
from backend.worker.agent.conversations import Conversation, Conversations, TurnThere, choice
from backend.worker.agent.process import AgentProcess, agent_environment, ending_of
from backend.worker.agent.requests import ClientRequests
from backend.worker.agent.turn import AgentTurn
from backend.worker.spec import WorkerSpec
from backend.worker.specialist import Specialist
from backend.worker.turn import Sink

log = logging.getLogger(__name__)

INITIALIZE_S = 60.0
"""How long an agent may take until it says what it can; some are slow to start the first time."""
LOGIN_S = 120.0
REPORT_S = 0.25
"""Changes of an agent's state are reported together, this often at most."""
AT_A_TIME = 4
"""Turns that an agent works on at a time; others wait."""
STALL_S = 45.0
MAX_LISTED = 100
MAX_BAD_LINES = 1_000
"""Lines of an agent's output that are no frames before it is ended as broken."""


class AgentSpecialist(Specialist):
    """Answers for one row whose answers come from an agent."""

    def __init__(self, spec: WorkerSpec, agent_spec: AgentSpec) -> None:
        super().__init__(spec)
        self.agent_spec = agent_spec
        self.slots = asyncio.Semaphore(AT_A_TIME)
        self._environment = agent_environment(os.environ, agent_spec.env, spec.ai_id)
        self._process = AgentProcess(agent_spec, self._environment, self)
        self._conversations = Conversations(
            self._process.peer, agent_spec, Home(Path(spec.home)).root / "agents" / f"{spec.ai_id}.json"
        )
        self._requests = ClientRequests(agent_spec, self._environment)
        self.state = AgentState(
            name=safe_line(agent_spec.command[0].rpartition("/")[2])[:80], cwd=agent_spec.cwd
        )
        self._reporting: asyncio.TimerHandle | None = None
        self._methods: list[acp.AuthMethod] = []
        self._closing = Background()
        self._model = agent_spec.model
        self._bad_lines = 0
        self._begun = asyncio.Event()
        self._problem: TektonError | None = None
        self.takes = acp.PromptAbilities()

    @property
    def model(self) -> str:
        """Who answers, and with which model where the agent says it."""
        return f"acp:{self._model or self.state.name}"

    # as a specialist

    async def prepare(self) -> TektonError | None:
        """Start the agent and learn what it can; return why it cannot be asked, as when somebody has to log in."""
        self._problem = await self._begin()
        self._begun.set()
        return self._problem

    async def _begin(self) -> TektonError | None:
        try:
            await self._process.start(self._hold)
            await self._initialize()
        except TektonError as error:
            return error
        except PeerClosed as closed:
            return TektonError(str(closed), code="launch_failed")
        except TimeoutError:
            return TektonError(
                f"the agent did not answer within {INITIALIZE_S:g} s", code="provider_unavailable"
            )
        except RpcFailure as failure:
            return self.refusal(failure)
        return None

    async def prewarm(self) -> None:
        """Nothing is said to an agent before the first question."""

    async def until_ended(self) -> int:
        """Wait for the agent's end and return its status; the turns it leaves end first, and say so."""
        status = await asyncio.shield(self._process.ended)
        log.error("the agent ended: %s", ending_of(status))
        # One step of the loop, in which the turns send their last frames.
        await asyncio.sleep(0)
        return status if status >= 0 else 128 - status

    async def close(self) -> None:
        """End the agent and all that it began."""
        await self._requests.close()
        # Its terminals are closed by now: commands it began by us must not outlive it.
        await self._process.stop()
        self._process.peer.close("its worker is being stopped")

    def generation(self, request: Request, request_id: str, sink: Sink) -> AgentTurn:
        """Return a turn that does not run yet; only the platform decides what an agent asks."""
        decides = request.stream and any(platform is sink for platform in self.platforms)
        return AgentTurn(self, request, request_id, sink, decides=decides)

    def report_tools(self, platform: Sink) -> None:
        """Report the state of the agent to a platform."""
        platform.send(AgentReport(self.ai_id, self.state))

    async def answer(
        self, request: Request
    ) -> Pong | HealthResponse | InfoResponse | CountTokensResponse | EmbedResponse | ErrorReply:
        """As any specialist, but an agent says itself what it is and what can be chosen."""
        match request.type:
            case "health":
                state = self.state.state
                reply = HealthResponse(
                    self.ai_id,
                    "healthy" if state == "ready" else "degraded",
                    self.spec.component,
                    self.model,
                    self.clients,
                    {"login": "somebody has to log in", "starting": "it is being started"}.get(state),
                )
            case "info":
                reply = InfoResponse(
                    ai_id=self.ai_id,
                    component=self.spec.component,
                    description=self.spec.description,
                    title=self.spec.title,
                    model_provider="acp",
                    model_name=self._model or self.state.name,
                    model=self.model,
                    system_prompt="",
                    port=self.spec.port,
                    capabilities=self.spec.capabilities,
                    context_window=self.state.context_window,
                    max_tokens=0,
                )
                if request.phases:
                    reply.abilities = Abilities(
                        tools=False,
                        images=self.takes.image,
                        files=True,
                        thinking=None,
                        schema=False,
                        logprobs=False,
                    )
            case "count_tokens":
                reply = CountTokensResponse(self.ai_id, None)
            case "configure":
                reply = await self._configure_agent(request)
            case _:
                return await super().answer(request)
        return self._stamped(reply, request)

    async def _configure_agent(self, request: Request) -> InfoResponse | ErrorReply | Pong:
        """Set model or options of all conversations from now on; needs the platform's worker token."""
        if not self.is_token(request.token):
            return self.error("unauthorized", "configure needs the platform's worker token")
        wanted = {**(request.settings or {}), **({"model": request.model} if request.model else {})}
        if not wanted:
            return Pong(self.ai_id, 0.0)
        try:
            await self._choose(wanted)
        except TektonError as error:
            return self.error(error.code, error.message)
        reply = await self.answer(Request(type="info", phases=True))
        return reply if isinstance(reply, InfoResponse) else Pong(self.ai_id, 0.0)

    async def _choose(self, wanted: dict[str, str | bool]) -> None:
        """Set options in every open conversation, else in one that is opened to see whether the agent has them."""
        # Agents keep options by conversation; with none open there is nothing to set, or to ask for what it
        # knows.
        held = [one for one in self._conversations.open.values() if not one.broken]
        tried = None if held else (await self.conversation(""))[0]
        try:
            for conversation in held or ([tried] if tried else []):
                for name, value in wanted.items():
                    await self._conversations.choose(conversation, name, value)
                self._show(conversation)
        finally:
            if tried is not None:
                self.forget(tried)
        for name, value in wanted.items():
            self._conversations.keep(name, value)

    # as its turns see the agent

    async def conversation(self, name: str) -> tuple[Conversation, str]:
        """Return a conversation at the agent, and a note where it begins anew.

        Raises:
            TektonError: Somebody has to log in, or the agent opens none.
        """
        # A question may come before the agent has said what it can: it waits for that instead of being refused.
        await self._begun.wait()
        if self._problem is not None and self._problem.code != "provider_auth":
            raise self._problem  # after a refused login it is asked all the same: somebody may have logged in meanwhile
        try:
            found, note = await self._conversations.get(name)
        except RpcFailure as failure:
            raise self.refusal(failure) from failure
        if self.state.state != "ready":
            self.state = msgspec.structs.replace(self.state, state="ready")
        self.state = msgspec.structs.replace(self.state, plan=[], changes=[], title="")
        self._show(found)
        return found, note

    def refusal(self, failure: RpcFailure) -> TektonError:
        """Return a refusal of the agent's as an error; one for want of a login says how to log in."""
        words = safe_line(failure.message)[:500] or f"error {failure.code}"
        if failure.code != acp.AUTH_REQUIRED:
            return TektonError(
                f"the agent refuses: {words}",
                code="provider_unavailable",
                evidence=safe_line(failure.data)[:2_000],
            )
        ways = [self._way(method) for method in self._methods[:8]]
        self.state = msgspec.structs.replace(self.state, state="login", login=ways)
        self.report_soon()
        how = "; or: ".join(ways) or "the agent does not say how"
        return TektonError(f"the agent needs a login ({words}): {how}", code="provider_auth")

    def _way(self, method: acp.AuthMethod) -> str:
        """Return one way to log in, in words."""
        name, program = safe_line(method.name or method.id)[:80], Path(self.agent_spec.command[0]).name
        if method.type == "env_var":
            names = ", ".join(safe_line(one.name)[:60] for one in (method.vars or [])[:6])
            return f"{name}: set {names} and name it in this specialist's env"
        if method.type == "terminal":
            words = " ".join(safe_line(word)[:60] for word in (method.args or [])[:6])
            return f"{name}: run `{program} {words}` in a terminal"
        about = safe_line(method.description or "")[:160]
        return f'{name}{f" ({about})" if about else ""}: log in with {program} itself, or set login = "{safe_line(method.id)[:60]}"'

    async def ask(self, prompt: acp.Prompt, answered: Callable[[], None]) -> acp.Prompted:
        """Send a question; the answer is how the turn ended, `answered` is called once it is read."""
        return await self._process.peer.call(acp.SESSION_PROMPT, prompt, acp.Prompted, answered=answered)

    async def set_effort(self, conversation: Conversation, effort: str) -> str:
        """Have a conversation think so hard, empty for as hard as it did by itself; return why it does not, if so."""
        why = await self._conversations.set_effort(conversation, effort)
        self._show(conversation)
        return why

    def is_command(self, text: str) -> bool:
        """Return whether a question is one of the agent's own commands."""
        name = text[1:].split(maxsplit=1)[0] if text.startswith("/") and text[1:].strip() else ""
        return any(one.id == name for one in self.state.commands)

    def send_cancel(self, conversation: Conversation) -> None:
        """Ask the agent to stop its work in a conversation."""
        self._process.peer.notify(acp.SESSION_CANCEL, acp.SessionId(conversation.agent_id))

    def forget(self, conversation: Conversation) -> None:
        """Close a conversation that was for one turn."""
        self._closing.start(self._conversations.close(conversation), "close a conversation")

    def stall_after_s(self, in_tool: bool) -> float:
        """Return how long the agent may be silent."""
        return self.agent_spec.tool_stall_s if in_tool else self.spec.stall_after_s or STALL_S

    def changed(self, files: list[FileChange]) -> None:
        """Show which files a turn has changed so far."""
        self.state = msgspec.structs.replace(self.state, changes=files[:MAX_LISTED])
        self.report_soon()

    def report_soon(self) -> None:
        """Report the agent's state to the platforms, together with what changes meanwhile."""
        if self._reporting is None:
            self._reporting = asyncio.get_running_loop().call_later(REPORT_S, self._report)

    def _report(self) -> None:
        self._reporting = None
        for platform in self.platforms:
            self.report_tools(platform)

    def _show(self, conversation: Conversation) -> None:
        self._model = conversation.model or self._model
        self.state = msgspec.structs.replace(
            self.state,
            mode=conversation.mode,
            modes=conversation.mode_choices,
            model=conversation.model,
            models=conversation.model_choices,
            options=conversation.other_options,
            sessions=len(self._conversations.open),
        )
        self.report_soon()

    async def _initialize(self) -> None:
        offers = self.agent_spec.offers
        files = acp.FileAccess("read" in offers, "write" in offers)
        can = acp.ClientAbilities(files, "terminal" in offers, acp.Elicits(form={}))
        peer = self._process.peer
        said = await peer.call(
            acp.INITIALIZE,
            acp.Initialize(acp.PROTOCOL_VERSION, can, acp.Named("tekton-tui", __version__)),
            acp.Initialized,
            timeout_s=INITIALIZE_S,
        )
        if said.protocol_version != acp.PROTOCOL_VERSION:
            raise TektonError(
                f"the agent speaks version {said.protocol_version} of the protocol, we version {acp.PROTOCOL_VERSION}",
                code="provider_unavailable",
            )
        self._methods = said.auth_methods or []
        abilities = said.agent_capabilities or acp.AgentAbilities()
        self._conversations.abilities = abilities
        self.takes = abilities.prompt_capabilities or acp.PromptAbilities()
        named = said.agent_info
        if self.agent_spec.login:
            await self._login(self.agent_spec.login)
        self.state = msgspec.structs.replace(
            self.state,
            state="ready",
            name=safe_line(named.title or named.name)[:80] if named else self.state.name,
            version=safe_line(named.version)[:40] if named else "",
            remembers=self._conversations.can_resume,
        )
        self.report_soon()

    async def _login(self, method: str) -> None:
        known = [one.id for one in self._methods]
        if method not in known:
            raise TektonError(
                f"the agent has no login {method!r}; it has: {', '.join(known) or 'none'}",
                code="provider_auth",
            )
        try:
            await self._process.peer.call(
                acp.AUTHENTICATE, acp.Authenticate(method), acp.Empty, timeout_s=LOGIN_S
            )
        except RpcFailure as failure:
            self.state = msgspec.structs.replace(self.state, state="login")
            self.report_soon()
            raise TektonError(
                f"the login {method!r} failed: {safe_line(failure.message)[:500]}", code="provider_auth"
            ) from failure

    async def _hold(self) -> None:
        """Read no more from the agent while whoever reads one of its turns is slower."""
        for conversation in list(self._conversations.open.values()):
            if conversation.turn is not None and conversation.turn.full:
                await conversation.turn.drain()

    # what the agent says and asks: `backend.acp.peer.Handler`

    def on_notification(self, method: str, params: msgspec.Raw) -> None:
        """Take an update of a conversation; those of conversations that are not open are dropped."""
        if method != acp.SESSION_UPDATE:
            return
        note = msgspec.json.decode(params, type=acp.SessionUpdate)
        conversation, update = self._conversations.open.get(note.session_id), note.update
        if conversation is None or conversation.broken:
            return
        self._on_state(conversation, update)
        if conversation.turn is not None:
            conversation.turn.on_update(update)

    def _on_state(self, conversation: Conversation, update: acp.Update) -> None:
        """Take what an update says of the conversation as a whole."""
        replace = msgspec.structs.replace
        match update.session_update:
            case "plan":
                steps = [
                    PlanStep(safe_line(one.content)[:200], one.status)
                    for one in (update.entries or [])[:MAX_LISTED]
                ]
                self.state = replace(self.state, plan=steps)
            case "available_commands_update":
                commands = [
                    choice(one.name, one.name, one.description)
                    for one in (update.available_commands or [])[:MAX_LISTED]
                ]
                self.state = replace(self.state, commands=commands)
            case "current_mode_update" if conversation.modes is not None:
                conversation.modes.current_mode_id = (
                    update.current_mode_id or conversation.modes.current_mode_id
                )
                self._show(conversation)
            case "config_option_update" if update.config_options is not None:
                conversation.options = update.config_options
                self._show(conversation)
            case "session_info_update":
                self.state = replace(self.state, title=safe_line(update.title or "")[:200])
            case "usage_update":
                cost = update.cost
                self.state = replace(
                    self.state,
                    context_used=max(0, update.used or 0),
                    context_window=max(0, update.size or 0),
                    cost=cost.amount if cost else self.state.cost,
                    currency=cost.currency[:3] if cost else self.state.currency,
                )
            case _:
                return
        self.report_soon()

    async def on_request(self, method: str, params: msgspec.Raw) -> msgspec.Struct:
        """Answer what the agent asks; every question gets one answer, also when nobody is there to decide."""
        if method == acp.REQUEST_PERMISSION:
            asked = read_params(params, acp.RequestPermission)
            turn = self._turn_of(asked.session_id)
            return acp.Permission(acp.Outcome("cancelled")) if turn is None else await turn.permission(asked)
        if method == acp.ELICITATION_CREATE:
            question = read_params(params, acp.Elicitation)
            return await self._requests.elicit(question, self._turn_of(question.session_id or ""))
        if method.startswith(("fs/", "terminal/")):
            return await self._requests.serve(method, params, self._turn_of)
        raise unknown(method)

    def _turn_of(self, session: str) -> TurnThere | None:
        conversation = self._conversations.open.get(session)
        return conversation.turn if conversation is not None and not conversation.broken else None

    def on_bad_line(self, line: BadLine) -> None:
        """Take a line that is no frame: noise goes to the log, a broken frame costs the turns under way."""
        self._bad_lines += 1
        log.warning("the agent wrote %s", safe_line(line.why)[:300])
        if self._bad_lines > MAX_BAD_LINES:
            self._process.peer.close(f"the agent wrote {MAX_BAD_LINES:,} lines that are no frames")
        if line.noise:
            return
        for conversation in self._conversations.open.values():
            if conversation.turn is not None:
                conversation.turn.cancel(
                    TektonError(
                        f"the agent broke the protocol: {safe_line(line.why)[:300]}",
                        code="provider_unavailable",
                    )
                )
