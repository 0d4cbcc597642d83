"""Parameters: values by section and name, kept as text with the type they had in the script.

The flat form is `section/name`. A name without a section belongs to `General`; both parts are
case-sensitive. Source: seeds 001 and 003 ("Setting Parameters").
"""

from __future__ import annotations

import ast
import json
import shlex
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from taskloom.domain.errors import BadInput

DEFAULT_SECTION = "General"
ARGS_SECTION = "Args"
ENVIRONMENT_SECTION = "Environment"
FUNCTION_SECTION = "Function"

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0", ""})


class Parameter(msgspec.Struct, frozen=True, omit_defaults=True):
    """`value` as text; `type` one of str, int, float, bool, none, list, tuple, dict, json; '' when unknown.

    `given`: somebody said it, on a command line or in an edit of it; False: the script's own, or not known.
    """

    value: str = ""
    type: str = ""
    description: str = ""
    given: bool = False


Sections = dict[str, dict[str, Parameter]]


def split_name(flat: str) -> tuple[str, str]:
    """`'Args/lr'` -> `('Args', 'lr')`; `'lr'` -> `('General', 'lr')`. Only the first slash divides."""
    section, slash, name = flat.partition("/")
    if not slash:
        section, name = DEFAULT_SECTION, flat
    if not section or not name:
        raise BadInput(f"parameter name {flat!r}: expected 'name' or 'section/name'")
    return section, name


def encode(value: Any, description: str = "") -> Parameter:
    """The text and type of a Python value; containers become JSON where JSON can hold them."""
    if value is None:
        return Parameter("", "none", description)
    if isinstance(value, bool):
        return Parameter(str(value), "bool", description)
    if isinstance(value, int):
        return Parameter(str(int(value)), "int", description)
    if isinstance(value, float):
        return Parameter(repr(float(value)), "float", description)
    if isinstance(value, str):
        return Parameter(value, "str", description)
    if isinstance(value, list | tuple | dict):
        kind = "list" if isinstance(value, list) else "tuple" if isinstance(value, tuple) else "dict"
        try:
            return Parameter(json.dumps(value), kind, description)
        except (TypeError, ValueError):
            return Parameter(str(value), "str", description)  # pyright: ignore[reportUnknownArgumentType]
    return Parameter(str(value), "str", description)


def decode(parameter: Parameter) -> Any:
    """The Python value; text that does not fit its type comes back as text, since a person may have typed it."""
    text, kind = parameter.value, parameter.type
    try:
        match kind:
            case "none":
                return None if text in {"", "None"} else text
            case "bool":
                return _bool(text)
            case "int":
                return int(text)
            case "float":
                return float(text)
            case "list" | "tuple" | "dict" | "json":
                return _container(text, kind)
            case _:
                return text
    except (ValueError, SyntaxError):
        return text


def cast_like(text: str, original: Any) -> Any:
    """`text` (edited by a person) in the type of the script's own value `original`.

    Raises BadInput when the text cannot be read so: a silent wrong type would train the wrong model.
    """
    kind = encode(original).type
    if original is None:
        return None if text in {"", "None", "none", "null"} else _guess(text)
    if kind == "int":
        try:
            return int(text)
        except ValueError:
            number = _float_or_none(text)
            if number is not None:  # an int edited to 0.5 was meant
                return int(number) if number.is_integer() else number
            raise BadInput(f"expected a whole number, got {text!r}", value=text, type=kind) from None
    if kind == "float":
        number = _float_or_none(text)
        if number is None:
            raise BadInput(f"expected a number, got {text!r}", value=text, type=kind)
        return number
    if kind == "bool":
        try:
            return _bool(text)
        except ValueError:
            raise BadInput(f"expected true or false, got {text!r}", value=text, type=kind) from None
    if kind in {"list", "tuple", "dict"}:
        try:
            return _container(text, kind)
        except (ValueError, SyntaxError):
            raise BadInput(f"expected a {kind}, got {text!r}", value=text, type=kind) from None
    return text


def same_text(edited: Parameter, present: Any) -> bool:
    """Whether the text is what `present` was told as: then nobody edited it."""
    told = encode(present)
    return told.value == edited.value and (edited.type in {"", told.type} or told.type == "str")


def items(text: str) -> list[str]:
    """`["a", 1]`, `[a, 1]`, `a, 1` and `a 1` are all the words a and 1."""
    for read in (json.loads, ast.literal_eval):
        try:
            value: Any = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, list | tuple):
            return [w if isinstance(w, str) else encode(w).value for w in cast("list[Any]", value)]
    inner = text.strip().removeprefix("[").removesuffix("]")
    try:
        return shlex.split(inner.replace(",", " "))
    except ValueError:
        return inner.split()


def flatten(sections: Mapping[str, Mapping[str, Parameter]]) -> dict[str, Parameter]:
    return {f"{section}/{name}": p for section, names in sections.items() for name, p in names.items()}


def number(parameter: Parameter) -> float | None:
    """The value as a number for filters and sorting; None when it is not one."""
    if parameter.type == "bool":
        return 1.0 if parameter.value.lower() in _TRUE else 0.0
    if parameter.type in {"none", "list", "tuple", "dict", "json"}:
        return None
    return _float_or_none(parameter.value)


def _bool(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise ValueError(text)


def _float_or_none(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _container(text: str, kind: str) -> Any:
    try:
        value: Any = json.loads(text)
    except ValueError:
        value = ast.literal_eval(text)
    if kind == "tuple" and isinstance(value, list):
        return tuple(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if kind != "json" and type(value).__name__ != kind:
        raise ValueError(text)
    return value


def _guess(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
