"""A person's words as the values of a form that a tool's server wants filled. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from backend.schema.content import read_arguments
from backend.schema.errors import TektonError
from backend.schema.tools import Ask, AskField

BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}


def filled(ask: Ask, option: str, words: str) -> str:
    """Return the values of a form as JSON: of an option chosen, of words, or of a JSON object of fields.

    Of a form of one field the words are its value; of several each stands on a line of its own, as `name: value`.

    Raises:
        TektonError: `invalid_request`: a field is missing, unknown, or of the wrong kind. The question still waits.
    """
    form = ask.form or []
    fields = {field.name: field for field in form}
    said: Mapping[str, Any]
    if option and len(form) == 1:
        [field] = form
        said = {field.name: next(one.name for one in ask.options if one.id == option)}
    elif words.lstrip().startswith("{"):
        try:
            said = read_arguments(words)
        except ValueError as error:
            raise _wrong(ask, f"this is no JSON object: {error}") from error
    elif len(form) == 1:
        said = {form[0].name: words} if words else {}
    else:
        rows = [line.partition(":") for line in words.splitlines() if line.strip()]
        said = {name.strip(): value.strip() for name, _, value in rows}
    if unknown := [name for name in said if name not in fields]:
        raise _wrong(ask, f"there is no field {unknown[0][:80]!r}")
    if missing := [name for name, field in fields.items() if field.required and name not in said]:
        raise _wrong(ask, f"{missing[0]!r} is missing")
    return msgspec.json.encode(
        {name: _value(ask, fields[name], value) for name, value in said.items()}
    ).decode()


def _value(ask: Ask, field: AskField, value: Any) -> Any:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    try:
        match field.kind:
            case "boolean":
                return BOOLEANS[text.strip().lower()]
            case "integer":
                return int(text)
            case "number":
                return msgspec.json.decode(text.strip(), type=float)
            case "string":
                if not field.choices or text in field.choices:
                    return text
    except (KeyError, ValueError, msgspec.MsgspecError):
        pass
    wanted = f"one of {', '.join(field.choices)}" if field.choices else f"a value of kind {field.kind}"
    raise _wrong(ask, f"{field.name!r} needs {wanted}, not {text[:80]!r}")


def _wrong(ask: Ask, text: str) -> TektonError:
    names = ", ".join(field.name for field in ask.form or ()) or "none"
    return TektonError(f"{text}; the fields of this question: {names}", code="invalid_request")
