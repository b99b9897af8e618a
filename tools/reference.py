"""Write `docs/reference/` from the code: every setting, and what a program may use of `backend.client`: `make docs`.

Docstrings are taken as they stand. A test says when the pages no longer fit the code.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
from msgspec import Struct
from msgspec import inspect as types

import backend.client
from backend.config.provider_kinds import BUILT_IN, find_provider
from backend.config.settings import Providers, Settings
from backend.orchestration.actions import ACTIONS
from backend.schema.params import Startable
from backend.schema.variables import FLAG_VARIABLES, OTHER_VARIABLES, PORT_VARIABLES, TEXT_VARIABLES

MAX_LINE_CHARS = 100
FOLDER = Path(__file__).parent.parent / "docs" / "reference"
MADE = "<!-- Made from the code by `make docs`; edit the docstrings instead. -->"


def configuration() -> str:
    """Return the page of the settings: each table of `config.toml`, then the environment."""
    page = [
        "# Configuration",
        MADE,
        "`config.toml` in `TEKTON_HOME` (default `~/.tekton`) holds what differs from the defaults. Strongest first: the "
        "environment, `.env.tekton` beside the file, the file, the defaults. Unknown keys and wrong values are errors that "
        "name the key. `tekton config show` prints what is in force, `tekton config check` checks the file.",
    ]
    for name, table in _tables():
        page += [f"## [{name}]", *_struct_page(table)]
    for kind in BUILT_IN:
        info = find_provider(kind)
        page += [
            f"## [providers.{kind}]",
            f"{info.help[0].upper()}{info.help[1:]}.",
            *_struct_page(info.settings),
        ]
    page += ["## Environment", "\n".join(_variables())]
    return "\n\n".join(page) + "\n"


def _tables() -> Iterator[tuple[str, type[Struct]]]:
    for field in msgspec.structs.fields(Settings):
        name = field.encode_name
        match types.type_info(field.type):
            case types.StructType(cls=cls) if name != "files":  # what stands in the folder, not in the file
                yield name, cls
            case types.DictType(value_type=types.StructType(cls=cls)):
                yield f"{name}.NAME", cls
            case _:
                pass


def _struct_page(table: type[Struct]) -> list[str]:
    notes, rows = _field_docs(table), ["| key | value | default | |", "|---|---|---|---|"]
    for field in msgspec.structs.fields(table):
        if table is Providers and field.name == "tables":
            continue
        shown = _default(field)
        cells = [
            f"`{field.encode_name}`",
            _kind(types.type_info(field.type)),
            shown,
            notes.get(field.name, ""),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    about = [inspect.cleandoc(table.__doc__ or "")] if "__doc__" in vars(table) and table.__doc__ else []
    return [*about, "\n".join(rows)]


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "needed"
    default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return "unset" if default is None else f"`{msgspec.json.encode(default).decode()}`"


def _kind(kind: types.Type) -> str:
    """Return in words what a setting may be."""
    match kind:
        case types.BoolType():
            return "true or false"
        case types.IntType() | types.FloatType():
            word = "whole number" if isinstance(kind, types.IntType) else "number"
            bounds = [(kind.ge, "≥"), (kind.gt, ">"), (kind.le, "≤"), (kind.lt, "<")]
            return " ".join([word, *(f"{sign} {bound:g}" for bound, sign in bounds if bound is not None)])
        case types.StrType():
            return "text"
        case types.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case types.ListType(item_type=item):
            return f"list of {_kind(item)}"
        case types.DictType(value_type=value):
            return f"table of {_kind(value)}"
        case types.StructType(cls=cls):
            return f"table: {', '.join(f'`{name}`' for name in cls.__struct_encode_fields__)}"
        case types.UnionType(types=parts):
            return " or ".join(_kind(part) for part in parts if not isinstance(part, types.NoneType))
        case types.CustomType(cls=cls) if issubclass(cls, str):
            return "text"
        case _:
            return "any"


def _field_docs(table: type) -> dict[str, str]:
    """Return the docstrings below the fields of a class and its bases, by field."""
    found: dict[str, str] = {}
    for cls in reversed(table.__mro__):
        if cls.__module__.startswith("backend."):
            body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
            assert isinstance(body, ast.ClassDef)
            for line, below in zip(body.body, body.body[1:], strict=False):
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    match below:
                        case ast.Expr(value=ast.Constant(value=str(text))):
                            found[line.target.id] = " ".join(text.split())
                        case _:
                            pass
    return found


def _variables() -> Iterator[str]:
    yield "| variable | sets |"
    yield "|---|---|"
    for name, key in {**TEXT_VARIABLES, **PORT_VARIABLES, **FLAG_VARIABLES}.items():
        yield f"| `{name}` | `{key}` |"
    for kind in BUILT_IN:
        for name, key in find_provider(kind).variables.items():
            yield f"| `{name}` | `providers.{kind}.{key}` |"
    yield "| `<COMPONENT>_PORT` | the HTTP port of one component of the catalogue |"
    for name, words in OTHER_VARIABLES.items():
        yield f"| `{name}` | {words} |"


def client() -> str:
    """Return the page of `backend.client`, with the calls that `Client.call` takes."""
    page = ["# `backend.client`", MADE, inspect.cleandoc(backend.client.__doc__ or "")]
    page.append("Runnable programs are in [examples](../../examples/).")
    for name in sorted(backend.client.__all__, key=lambda name: (name.isupper(), name[0].isupper(), name)):
        value = getattr(backend.client, name)
        if inspect.isclass(value):
            page += [f"## class `{name}`", *_class_page(value)]
        elif inspect.isfunction(value):
            page += [f"## `{name}`", *_function_page(name, value)]
    page += ["## Calls", _CALLS, *_action_pages()]
    return "\n\n".join(page) + "\n"


_CALLS = """`await client.call(Kill(ids=["apollo"]))` returns what stands behind the arrow. The structs are in
`backend.schema.params`; a misspelt or missing parameter is an error in your editor, and `invalid_request` at the gateway.
Calls marked with *start* may be given to `client.start` too: it returns at once, and the answer comes as events."""


def _action_pages() -> Iterator[str]:
    for action in sorted(ACTIONS.values(), key=lambda action: action.params.__name__):
        fields = msgspec.structs.fields(action.params)
        given = [_parameter(field) for field in fields]
        results = " | ".join(f"{result.__name__}" for result in action.results)
        mark = " · *start*" if issubclass(action.params, Startable) else ""
        summary = f"{action.summary[0].upper()}{action.summary[1:].rstrip('.')}."
        yield (
            f"### `{action.params.__name__}`{mark}\n\n{summary} Scope: {action.scope}.\n\n```python\n"
            + _wrapped(action.params.__name__, given, f" -> {results}")
            + "\n```"
        )


def _parameter(field: msgspec.structs.FieldInfo) -> str:
    text = f"{field.encode_name}: {_annotation(field.type)}"
    if field.default is not msgspec.NODEFAULT:
        return f"{text} = {'unset' if field.default is msgspec.UNSET else repr(field.default)}"
    if field.default_factory is not msgspec.NODEFAULT:
        return f"{text} = {field.default_factory()!r}"
    return text


def _annotation(kind: Any) -> str:
    """Return a type as a reader writes it: without bounds, without the mark for "not given"."""
    if isinstance(kind, type) and not get_args(kind):
        return "None" if kind is type(None) else kind.__name__
    origin, parts = get_origin(kind), get_args(kind)
    if hasattr(kind, "__metadata__"):
        return _annotation(parts[0])
    if origin is None:
        return str(kind).replace("typing.", "")
    if "Literal" in str(origin):
        return " | ".join(repr(part) for part in parts)
    if "Union" in str(origin):
        return " | ".join(_annotation(part) for part in parts if part is not msgspec.UnsetType)
    return f"{origin.__name__}[{', '.join(_annotation(part) for part in parts)}]"


def _class_page(value: type) -> Iterator[str]:
    yield inspect.cleandoc(value.__doc__ or "")
    for name, member in vars(value).items():
        bound = member.__func__ if isinstance(member, classmethod) else member
        if not name.startswith("_") and inspect.isfunction(bound):
            yield f"### `{value.__name__}.{name}`"
            yield from _function_page(name, bound)


def _function_page(name: str, function: Callable[..., Any]) -> Iterator[str]:
    signature = inspect.signature(function)
    kind, parameters = inspect.Parameter.POSITIONAL_OR_KEYWORD, list[str]()
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and kind is not parameter.kind:
            parameters.append("*")
        kind = parameter.kind
        if parameter.name not in ("self", "cls"):
            parameters.append(
                re.sub(r"<function .*?>+ at \w+>|<function \S+ at \w+>", "…", str(parameter)).replace("'", "")
            )
    word = (
        "async def"
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        else "def"
    )
    yield f"```python\n{_wrapped(f'{word} {name}', parameters, f' -> {signature.return_annotation}')}\n```"
    yield _with_list_of_errors(inspect.getdoc(function) or "")


def _wrapped(head: str, parameters: list[str], tail: str) -> str:
    """Return a signature on one line, or with a line for each parameter where that would be too long."""
    line = f"{head}({', '.join(parameters)}){tail}"
    if len(line) <= MAX_LINE_CHARS:
        return line
    return "\n".join([f"{head}(", *(f"    {parameter}," for parameter in parameters), f"){tail}"])


def _with_list_of_errors(doc: str) -> str:
    """Return a docstring with its `Raises:` section as a list."""
    before, raises, after = doc.partition("Raises:\n")
    if not raises:
        return doc
    errors = [re.sub(r"^(\w+): ", r"- `\1`: ", line) for line in textwrap.dedent(after).splitlines()]
    return before + "Raises:\n\n" + "\n".join(errors)


def pages() -> dict[Path, str]:
    """Return the text of each page by its path."""
    return {FOLDER / "configuration.md": configuration(), FOLDER / "client.md": client()}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(Path.cwd()), f"{len(text):,} characters")


if __name__ == "__main__":
    main()
