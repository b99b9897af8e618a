"""What an action is: one thing a client may ask of the platform, declared once for every surface.

Console, command line, HTTP, WebSocket and MCP all find their verbs in `ACTIONS`. An action is a coroutine over
`Platform` with a params struct; the surfaces only translate. Knows no transport.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from backend.schema.errors import TektonError

if TYPE_CHECKING:
    from backend.orchestration.platform import Platform

Scope = Literal["read", "chat", "control"]
SCOPE_RANK: dict[Scope, int] = {"read": 0, "chat": 1, "control": 2}
Where = Literal["here", "leader", "owner"]
Method = Literal["GET", "POST", "PATCH", "DELETE"]

MAX_REQUEST_ID = 512
"""Characters of a request id."""
RequestId = Annotated[
    str, Meta(max_length=MAX_REQUEST_ID, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*(?![\s\S])")
]
"""A name a caller chose for a call or a turn: it stands in logs and in other names, so it is one line."""

P = TypeVar("P", bound=Struct)
Handler = Callable[["Platform", P], Awaitable[Any]]


class NoParams(Struct):
    """The parameters of an action that takes none."""


class InvalidRequest(TektonError):
    """The caller's values cannot be used; the message names the parameter and what was expected."""

    code = "invalid_request"


@dataclass(frozen=True)
class Action:
    """One verb. `routes` are `(method, path)` pairs, the canonical one first; braces name params.

    `mcp` is the tool's name, `cli` the command that does the same, `console` where it is on the screen.
    `aliases` maps older parameter names to ours. `where` says which gateway runs it when several serve one fleet:
    the one asked, the one that leads, or the one whose turn it is about.
    """

    name: str
    params: type[Struct]
    scope: Scope
    summary: str
    run: Handler[Any]
    routes: tuple[tuple[Method, str], ...] = ()
    mcp: str = ""
    cli: str = ""
    console: str = ""
    aliases: dict[str, str] = field(default_factory=dict[str, str])
    where: Where = "here"
    handler: Handler[Any] | None = None
    """The coroutine itself, which runs here whoever leads; `run` hands a call to the gateway it belongs to."""

    def read_params(self, values: dict[str, Any], *, lax: bool = False) -> Struct:
        """Turn a client's values into params; `lax` reads numbers and booleans from strings, as in a query.

        Raises:
            InvalidRequest: A value is missing, unknown in kind or out of range; the message names it.
        """
        named = {self.aliases.get(key, key): value for key, value in values.items()}
        try:
            return msgspec.convert(named, self.params, strict=not lax)
        except msgspec.ValidationError as error:
            raise InvalidRequest(explain(self.name, str(error))) from error


ACTIONS: dict[str, Action] = {}


def action(
    name: str,
    *,
    scope: Scope,
    routes: tuple[tuple[Method, str], ...] = (),
    mcp: str = "",
    cli: str = "",
    console: str = "",
    aliases: dict[str, str] | None = None,
    where: Where = "here",
) -> Callable[[Handler[P]], Handler[P]]:
    """Register the decorated coroutine as an action; its params type and summary come from the function."""

    def register(run: Handler[P]) -> Handler[P]:
        params: type[Struct] = typing.get_type_hints(
            run, vars(sys.modules[run.__module__]) | {"Platform": object}
        )["params"]
        summary = (run.__doc__ or "").strip().splitlines()[0]
        named = "request_id" in params.__struct_fields__
        routed = _routed(name, run) if named or where != "here" else run
        ACTIONS[name] = Action(
            name, params, scope, summary, routed, routes, mcp, cli, console, aliases or {}, where, run
        )
        return run

    return register


def _routed(name: str, run: Handler[P]) -> Handler[P]:
    """Return the coroutine that runs an action at the gateway it belongs to, where there are several."""

    async def routed(platform: Platform, params: P) -> Any:
        if platform.sharing is None:
            return await run(platform, params)
        return await platform.sharing.route(ACTIONS[name], params, lambda: run(platform, params))

    return routed


def explain(name: str, text: str) -> str:
    """Say which parameter of which action is wrong, from the decoder's own text."""
    expectation, _, where = text.partition(" - at ")
    path = where.strip("`").removeprefix("$.")
    if "missing required field" in expectation:
        missing = expectation.rpartition("`")[0].rpartition("`")[2]
        return f"{name}: the parameter '{missing}' is missing"
    return f"{name}: {'parameter ' + repr(path) + ': ' if path else ''}{expectation.lower()}"
