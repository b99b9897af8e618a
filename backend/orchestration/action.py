"""The table of actions: everything a client may ask of the platform, declared once for every surface.

Console, command line, HTTP, WebSocket and MCP all find their verbs in `ACTIONS`. An action is a coroutine from typed
parameters to a typed result, both declared in `backend.schema`. Knows no transport.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import msgspec
from msgspec import Struct

from backend.schema.params import ALIASES, AnyParams, read_params, result_types

Scope = Literal["read", "chat", "control"]
SCOPE_RANK: dict[Scope, int] = {"read": 0, "chat": 1, "control": 2}
Where = Literal["here", "leader", "owner"]
Method = Literal["GET", "POST", "PATCH", "DELETE"]

F = TypeVar("F", bound=Callable[..., Awaitable[Struct]])


class CallRouter(Protocol):
    """Where several gateways serve one fleet: runs a call at the one it belongs to."""

    async def route(self, action: Action, params: Struct, here: Callable[[], Awaitable[Struct]]) -> object:
        """Return the result: a struct when it ran here, plain values when it ran elsewhere."""
        ...


class Clustered(Protocol):
    """What an action's platform must say of itself: the cluster it is a member of, if any."""

    @property
    def cluster(self) -> CallRouter | None: ...


@dataclass(frozen=True)
class Action:
    """One verb. `routes` are `(method, path)` pairs, the canonical one first; braces name params.

    `mcp` is the tool's name, `cli` the command that does the same, `console` where it is on the screen. `where` says
    which gateway runs it when several serve one fleet: the one asked, the one that leads, or the one whose turn it is
    about. `results` are the types it may return. `handler` takes the params and, by keyword, the parts of the platform
    that `needs` names.
    """

    name: str
    params: type[AnyParams]
    results: tuple[type[Struct], ...]
    scope: Scope
    summary: str
    handler: Callable[..., Awaitable[Struct]]
    needs: tuple[str, ...]
    routes: tuple[tuple[Method, str], ...] = ()
    mcp: str = ""
    cli: str = ""
    console: str = ""
    where: Where = "here"

    @property
    def aliases(self) -> dict[str, str]:
        """Older names of its parameters, and ours."""
        return ALIASES.get(self.name, {})

    @property
    def belongs_somewhere(self) -> bool:
        """Whether it matters which of several gateways runs it."""
        return self.where != "here" or "request_id" in self.params.__struct_fields__

    def read_params(self, values: dict[str, Any], *, lax: bool = False) -> AnyParams:
        """Turn a client's values into params; `lax` reads numbers and booleans from strings, as in a query.

        Raises:
            InvalidRequest: A name is unknown, a value missing, of the wrong kind or out of range.
        """
        return read_params(self.params, values, lax=lax)

    async def run(self, platform: Clustered, params: AnyParams) -> Struct:
        """Run it, at the gateway it belongs to where there are several.

        Raises:
            TektonError: What the handler raises.
        """
        if platform.cluster is None or not self.belongs_somewhere:
            return await self.run_here(platform, params)
        result = await platform.cluster.route(self, params, lambda: self.run_here(platform, params))
        if isinstance(result, Struct):
            return result
        started = len(self.results) > 1 and not getattr(params, "wait", True)
        return msgspec.convert(result, self.results[1 if started else 0])

    def run_here(self, platform: object, params: AnyParams) -> Awaitable[Struct]:
        """Run it at this gateway, whoever should, on the parts of the platform it needs.

        Raises:
            TektonError: What the handler raises.
        """
        return self.handler(params, **{name: getattr(platform, name) for name in self.needs})


ACTIONS: dict[str, Action] = {}


def action(
    *,
    scope: Scope,
    routes: tuple[tuple[Method, str], ...] = (),
    mcp: str = "",
    cli: str = "",
    console: str = "",
    where: Where = "here",
) -> Callable[[F], F]:
    """Register the decorated coroutine as an action; name, params, results and summary come from the function.

    It takes `params`, and by keyword the parts of the platform that it works on: a parameter has the name and the type
    of the platform's attribute.

    Raises:
        TypeError: The function does not return what its params promise.
    """

    def register(run: F) -> F:
        hints = typing.get_type_hints(run)
        params: type[AnyParams] = hints.pop("params")
        returned: Any = hints.pop("return")
        kinds: tuple[Any, ...] = (
            typing.get_args(returned) if isinstance(returned, types.UnionType) else (returned,)
        )
        promised = result_types(params)
        if set(kinds) != set(promised):
            raise TypeError(f"{params.action} returns {kinds}, its params promise {promised}")
        ACTIONS[params.action] = Action(
            params.action,
            params,
            promised,
            scope,
            (run.__doc__ or "").strip().splitlines()[0],
            run,
            tuple(hints),
            routes,
            mcp,
            cli,
            console,
            where,
        )
        return run

    return register
