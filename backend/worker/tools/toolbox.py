"""All tools of one specialist under the names its model sees, whoever runs them.

The platform's own tools run in the backend: their result comes with the verdict. The others run at MCP servers, which are
children of this worker.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping

from msgspec import Struct

from backend.schema.content import ToolResult, ToolSpec, read_arguments
from backend.schema.tools import OWN_SERVER, ToolsSpec, ToolState
from backend.worker.tools.servers import Progress, Put, ToolFailure, ToolServer

MODEL_NAME_CHARS = 64
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]")


class Tool(Struct):
    """A tool: `name` is `SERVER:TOOL`, as rules and people write it; `spec` is what the model is offered."""

    name: str
    spec: ToolSpec
    read_only: bool | None = None
    server: ToolServer | None = None


class Toolbox:
    """The tools of one worker. `changed` is called whenever what `state` returns has changed."""

    def __init__(self, spec: ToolsSpec, environment: Mapping[str, str], changed: Callable[[], None]) -> None:
        self._spec, self._changed = spec, changed
        self._servers = [
            ToolServer(name, server, environment, self._refresh) for name, server in spec.servers.items()
        ]
        self._tools: dict[str, Tool] = {}
        self._starting: asyncio.Future[list[None]] | None = None
        self._refresh()

    def __bool__(self) -> bool:
        return bool(self._spec.servers or self._spec.own)

    @property
    def max_rounds(self) -> int:
        """Answers with calls that a turn may have."""
        return self._spec.max_rounds

    @property
    def max_result_bytes(self) -> int:
        """Of one result, as the model gets it."""
        return self._spec.max_result_bytes

    @property
    def specs(self) -> list[ToolSpec]:
        """What a model is offered, in a fixed order, so that prompt caches hold."""
        return [tool.spec for _, tool in sorted(self._tools.items())]

    @property
    def state(self) -> list[ToolState]:
        """How each server is, and which tools of it the specialist has."""
        return [
            ToolState(
                server.name,
                server.problem,
                [tool.name for tool in self._tools.values() if tool.server is server],
                server.failed,
            )
            for server in self._servers
        ]

    def find(self, name: str) -> Tool | None:
        """Return the tool of a name that a model gave."""
        return self._tools.get(name)

    async def start(self) -> None:
        """Start every server side by side. A server that fails is named by `state`; the others serve."""
        self._starting = asyncio.gather(*(server.start() for server in self._servers))
        await self._starting

    @property
    def starts(self) -> bool:
        """Whether a server is still being started."""
        return self._starting is not None and not self._starting.done()

    async def started(self) -> None:
        """Wait until every server serves or has failed; each has its `start_timeout_s`."""
        if self._starting is not None:
            await asyncio.wait([self._starting])

    @property
    def problems(self) -> list[str]:
        """Which servers do not serve, and why, a sentence each."""
        return [
            f"the tool server {one.name} does not serve: {one.problem}"
            for one in self._servers
            if one.problem
        ]

    async def close(self) -> None:
        """End every server."""
        await asyncio.gather(*(server.close() for server in self._servers))

    async def run(self, tool: Tool, arguments: str, progress: Progress, put: Put) -> ToolResult:
        """Run a tool of a server. A failure is a result that says so, and the model goes on with it."""
        try:
            values = read_arguments(arguments)
            if tool.server is None:
                raise ToolFailure(f"{tool.name} runs in the backend")
            return await tool.server.call(tool.name.partition(":")[2], values, progress, put)
        except ValueError as error:
            return ToolResult("", f"the arguments are no JSON object: {error}", is_error=True)
        except ToolFailure as failure:
            return ToolResult("", str(failure), is_error=True)

    def _refresh(self) -> None:
        found: dict[str, Tool] = {}
        for own in self._spec.own:
            name = _model_name(OWN_SERVER, own.name, found)
            found[name] = Tool(
                f"{OWN_SERVER}:{own.name}", ToolSpec(name, own.description, own.parameters), True
            )
        for server in self._servers:
            wanted = self._spec.wanted.get(server.name)
            for offered in server.tools.values():
                if wanted and offered.name not in wanted:
                    continue
                name = _model_name(server.name, offered.name, found)
                spec = ToolSpec(name, offered.description, offered.schema)
                found[name] = Tool(f"{server.name}:{offered.name}", spec, offered.read_only, server)
        self._tools = found
        self._changed()


def _model_name(server: str, tool: str, taken: Mapping[str, object]) -> str:
    """Return a name every vendor takes, and no other tool has."""
    name = _FOREIGN.sub("_", f"{server}__{tool}")[:MODEL_NAME_CHARS]
    number = 1
    while name in taken:
        number += 1
        name = f"{name[: MODEL_NAME_CHARS - 3].rstrip('0123456789')}{number}"
    return name
