"""What a parameter may be, and values checked against it: of a command line, of a sweep, of an edit.

`check_values` is what a command asks before it sends, `check_parameters` what a server asks before it enqueues:
both are given the schemas of the task's file. A value without a description has the type of its default.
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

from taskloom.domain.errors import BadInput
from taskloom.domain.parameters import DEFAULT_SECTION, Parameter, Sections, cast_like, decode, encode
from taskloom.domain.taskfile.scalars import shown_value, value_of

MOST_COMPARED = 300  # names that a wrong one is compared with
_EXPECTED = {"int": "a whole number", "float": "a number", "bool": "true or false"}


class ParameterSchema(msgspec.Struct, frozen=True, omit_defaults=True):
    """One parameter as the file describes it.

    type      str, int, float, bool; '' when only a value stands in the file: then its type is the rule
    default   None when there is none
    options   the values that it may have; empty: any
    variable  environment variable that gets the value, too
    hidden    it is to be typed unseen
    """

    type: str = ""
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    multiple_of: float | None = None
    options: tuple[Any, ...] = ()
    required: bool = False
    title: str = ""
    description: str = ""
    widget: str = ""
    variable: str = ""
    hidden: bool = False


Schemas = dict[str, ParameterSchema]


def convert(schema: ParameterSchema, value: Any, written: str | None = None) -> Any:
    """The value in the parameter's type; BadInput says what was expected. `written`: the text it was read from."""
    if value is None:
        if schema.required:
            raise BadInput("expected a value; it has no default")
        return None
    found = _typed(schema, value, written)
    _check_range(schema, found)
    if schema.options and found not in schema.options:
        listed = ", ".join(str(option) for option in schema.options)
        near = nearest(str(found), [str(option) for option in schema.options])
        raise BadInput(f"expected one of {listed}, got {shown_value(found)}{near}")
    return found


def check_values(schemas: Schemas, values: Mapping[str, Any]) -> Sections:
    """The values as typed parameters of the section General; BadInput has a line for everything that is wrong.

    A text is read as a person typed it on a command line: `8` is a number where the parameter is one.
    """
    wrong: list[str] = []
    typed: dict[str, Parameter] = {}
    for name, value in values.items():
        schema = schemas.get(name) or schemas.get(name.removeprefix(f"{DEFAULT_SECTION}/"))
        if schema is None:
            wrong.append(f"no parameter {name!r}{nearest(name, schemas)}{_known(schemas)}")
            continue
        try:
            found = encode(convert(schema, value), schema.description)
            typed[name if name in schemas else name.removeprefix(f"{DEFAULT_SECTION}/")] = msgspec.structs.replace(
                found, given=True
            )
        except BadInput as error:
            wrong.append(f"parameter {name}: {error.message}")
    if wrong:
        raise BadInput("\n".join(wrong), problems=wrong)
    return {DEFAULT_SECTION: typed} if typed else {}


def check_parameters(schemas: Schemas, parameters: Sections) -> list[str]:
    """What is wrong with a task's parameters as they stand now; others than the file's are nobody's business."""
    present = parameters.get(DEFAULT_SECTION, {})
    wrong: list[str] = []
    for name, schema in schemas.items():
        kept = present.get(name)
        try:
            convert(schema, None if kept is None else decode(kept))
        except BadInput as error:
            wrong.append(f"parameter {name}: {error.message}")
    return wrong


def defaults(schemas: Schemas) -> Sections:
    """The parameters of a task that is made from the file, in its order."""
    named = {name: encode(schema.default, schema.description) for name, schema in schemas.items()}
    return {DEFAULT_SECTION: named} if named else {}


def nearest(name: str, known: Iterable[object]) -> str:
    """`; did you mean 'learning_rate'?`, or nothing."""
    names = [str(one) for one in itertools.islice(known, MOST_COMPARED)]
    lowered = {one.lower(): one for one in reversed(names)}
    found = difflib.get_close_matches(name.lower()[:80], lowered, n=1, cutoff=0.6)
    return f"; did you mean {lowered[found[0]]!r}?" if found else ""


def _known(schemas: Schemas) -> str:
    if not schemas:
        return "; the task has none"
    names = list(schemas)
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f" (there are {', '.join(names[:12])}{more})"


def _typed(schema: ParameterSchema, value: Any, written: str | None) -> Any:
    kind = schema.type
    if not kind:
        return _like_default(schema.default, value, written)
    if kind == "str":
        if isinstance(value, list | dict):
            raise BadInput(f"expected text, got {shown_value(value)}")
        return value if isinstance(value, str) else (written if written is not None else encode(value).value)
    found = value_of(value.strip()) if isinstance(value, str) else value
    if kind == "bool" and isinstance(found, int) and found in {0, 1}:
        return bool(found)
    if kind == "int" and isinstance(found, float) and found.is_integer():
        found = int(found)
    fits = {
        "bool": isinstance(found, bool),
        "int": isinstance(found, int) and not isinstance(found, bool),
        "float": isinstance(found, int | float) and not isinstance(found, bool),
    }[kind]
    if not fits:
        raise BadInput(f"expected {_EXPECTED[kind]}, got {shown_value(value)}")
    return _float(found) if kind == "float" else found


def _float(number: float) -> float:
    try:
        found = float(number)
    except OverflowError:
        found = math.inf
    if math.isnan(found):
        raise BadInput("expected a number, got nan")
    return found


def _like_default(default: Any, value: Any, written: str | None) -> Any:
    """Without a description the default's type decides; another number, or text for nothing, is welcome."""
    if default is None:
        return value_of(value) if isinstance(value, str) and written is None else value
    if isinstance(default, str):
        if isinstance(value, list | dict):
            return cast("Any", value)
        return value if isinstance(value, str) else (written if written is not None else encode(value).value)
    if isinstance(value, str):
        found = value_of(value.strip())
        if isinstance(default, int | float) and not isinstance(default, bool) and isinstance(found, int | float):
            return found if isinstance(default, int) or isinstance(found, bool) else _float(found)
        return cast_like(value, default)
    if isinstance(default, bool) and not isinstance(value, bool):
        raise BadInput(f"expected true or false, got {shown_value(value)}")
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return _float(value)
    return value


def _check_range(schema: ParameterSchema, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    low, high = schema.minimum, schema.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        limits = f"from {low:g}" if low is not None else ""
        limits += (" to " if limits else "up to ") + f"{high:g}" if high is not None else ""
        raise BadInput(f"expected a number {limits}, got {shown_value(value)}")
    if schema.multiple_of and math.isfinite(value):
        steps = value / schema.multiple_of
        if not math.isclose(steps, round(steps), rel_tol=1e-9, abs_tol=1e-9):
            raise BadInput(f"expected a multiple of {schema.multiple_of:g}, got {shown_value(value)}")
