"""Which parameters a body may hold, by one rule for every dialect. Pure.

A parameter is read, or noted by the client for itself, or it changes nothing here and the answer names it, or it is
refused by name. One that nobody knows is refused with the name that was meant: it is a misspelling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from msgspec import Struct

from backend.gateway.completions.asked import refused
from backend.schema.params import unknown_parameter
from backend.schema.tools import CallRules
from backend.suggest import nearest

LIKE = 0.75
"""How alike an unknown name must be to one that is missing, to be taken for it, where others may stand as well."""


def check_tools(tools: object, known: Iterable[str]) -> None:
    """Refuse a tool whose unknown name is nearly one that it lacks: a model would be told less of it than was meant.

    Other unknown names are the vendors' own.

    Raises:
        InvalidRequest: With the name that was meant.
    """
    names = frozenset(known)
    for number, tool in enumerate(cast(list[object], tools) if isinstance(tools, list) else ()):
        if not isinstance(tool, dict):
            continue
        own = cast(dict[str, object], tool).get("function", cast(object, tool))
        given = cast(dict[str, object], own).keys() if isinstance(own, dict) else frozenset[str]()
        for name in sorted(given - names):
            if near := nearest(name, names - given, likeness=LIKE):
                text = f"tools[{number}]: there is no {name[:80]!r}; did you mean {near[0]!r}?"
                raise refused("tools", text)


class Parameters:
    """The parameters of one kind of body.

    `body` declares what is read. `noted` changes no answer and needs no word; `unused` is known to the vendor or to other
    servers of the dialect and not passed on; `refuse` would change the kind of answer, and says why it cannot be given.
    `inside` are the parameters of values that are objects.
    """

    def __init__(
        self,
        name: str,
        body: type[Struct],
        *,
        noted: Iterable[str] = (),
        unused: Iterable[str] = (),
        refuse: Mapping[str, str] | None = None,
        inside: Mapping[str, Parameters] | None = None,
    ) -> None:
        self.name = name
        self.unused = frozenset(unused)
        self.refuse = dict(refuse or {})
        self.inside = dict(inside or {})
        if "rules" in body.__struct_fields__:
            self.inside["rules"] = Parameters(f"{name} rules", CallRules)
        self.known = frozenset({*body.__struct_fields__, *noted, *self.unused, *self.refuse})

    def check(self, values: dict[str, Any]) -> list[str]:
        """Return which of the given parameters change nothing here, in order.

        Raises:
            InvalidRequest: One is refused or unknown; `detail.param` names it.
        """
        return sorted(self._check(values, ""))

    def _check(self, values: dict[str, Any], where: str) -> list[str]:
        unused: list[str] = []
        for name, value in values.items():
            path = f"{where}{name}"
            if name not in self.known:
                raise refused(path[:80], unknown_parameter(self.name, name, self.known).message)
            if value in (None, "", [], {}):
                continue  # as if it were not there
            if name in self.refuse:
                if value:
                    raise refused(path, f"{path}: {self.refuse[name]}; leave it out")
            elif name in self.unused:
                unused.append(path)
            elif name in self.inside and isinstance(value, dict):
                unused += self.inside[name]._check(cast(dict[str, Any], value), f"{path}.")
        return unused
