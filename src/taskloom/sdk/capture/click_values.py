"""click's parameters as texts: the words that say a value, and the text that a parameter's type would read again.

Everything here looks at click's objects from outside and runs none of the script's own code but types and defaults.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, cast

from taskloom.domain.parameters import Parameter, encode, items

# Types whose values are written as the text that they are read from.
_EXACT = frozenset(
    {
        "StringParamType",
        "IntParamType",
        "FloatParamType",
        "BoolParamType",
        "IntRange",
        "FloatRange",
        "Choice",
        "Tuple",
    }
)
Words = list[str]


def is_said(raw: Any) -> bool:
    """click marks what was not said by None, by an empty tuple, or by a mark of its own."""
    return not (raw is None or raw == () or getattr(raw, "name", "") == "UNSET")


def long_name(names: Sequence[str]) -> str:
    return next((name for name in names if name.startswith("--")), names[0])


def option_words(name: str, raw: Any) -> Words:
    if isinstance(raw, str):
        return [f"{name}={raw}"] if name.startswith("--") else [name, raw]
    if isinstance(raw, list | tuple):
        return [name, *cast("Sequence[str]", raw)]
    return [name]  # given without its optional value


def value_of(param: Any, ctx: Any) -> Any:
    """What the parameter's callback got, since that is what it will get again."""
    return ctx.params[param.name] if param.callback is None else None


def default_of(param: Any, ctx: Any) -> Parameter:
    mapped = ctx.lookup_default(param.name)
    raw = mapped if mapped is not None else param.get_default(ctx)
    return told(param, cast_raw(param, ctx, raw if is_said(raw) else None), None)


def cast_raw(param: Any, ctx: Any, raw: Any) -> Any:
    """Through the parameter's type, but for files: that would open them."""
    if type(param.type).__name__ == "File":
        return raw
    try:
        if raw is None and getattr(param, "is_bool_flag", False):
            return False
        return param.type_cast_value(ctx, raw)
    except Exception:  # a type of the script may raise anything; its own parse will
        return raw


def told(param: Any, value: Any, raw: Any) -> Parameter:
    """The value as text that the parameter's type would read again. `raw`: as it stood on the command line."""
    description = getattr(param, "help", None) or ""
    plain = _is_plain(value)
    texts = isinstance(raw, str | list | tuple)
    if texts and (not plain or param.callback is not None or type(param.type).__name__ not in _EXACT):
        text = raw if isinstance(raw, str) else json.dumps(raw)
        kind = encode(value).type if plain and value is not None else "str" if isinstance(raw, str) else "list"
        return Parameter(text, kind, description)
    if param.callback is not None and value is None:
        default = cast("Any", param.default if raw is None else raw)
        return encode(default if is_said(default) and _is_plain(default) else None, description)
    if plain:
        return encode(value, description)
    if isinstance(value, list | tuple):
        names = [one if _is_plain(one) else _name(one) for one in cast("Sequence[Any]", value)]
        return Parameter(json.dumps(names), "list", description)
    return Parameter(_name(value), "str", description)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(one) for one in cast("Sequence[Any]", value))
    return value is None or type(value) in {str, int, float, bool}


def _name(value: Any) -> str:
    """A file's path, an enumeration's name, or the text of anything else."""
    name: Any = getattr(value, "name", None)
    return (
        name
        if isinstance(name, str) and not isinstance(value, type) and not hasattr(value, "parts")
        else str(value)
    )


def must_say(param: Any, ctx: Any) -> bool:
    """Left out, it would come from the machine's environment or be asked for."""
    return bool(getattr(param, "prompt", None)) or param.value_from_envvar(ctx) is not None


def same(edited: Parameter, now: Parameter, raw: Any) -> bool:
    if edited.value == now.value:
        return True
    if isinstance(raw, str):
        return raw == edited.value
    return isinstance(raw, list | tuple) and [str(one) for one in _flat(raw)] == [
        word for row in items(edited.value) for word in (items(row) if row[:1] in {"[", "("} else [row])
    ]


def _flat(raw: Any) -> Iterator[Any]:
    for one in raw:
        yield from _flat(one) if isinstance(one, list | tuple) else (one,)
