"""`connect` and `connect_configuration`: objects of the script become parameters, and edited values come back.

In a run that a person started the object's values are recorded as they are. Under a worker the values that
stand on the server take their place, in the type that the script's own value has; a text that does not fit
that type ends in a BadInput that names the parameter, because a silent wrong type would train the wrong
model. Nothing here knows where a task runs but for `edited`, the document to take values from.
"""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, cast

from taskloom.domain.errors import BadInput
from taskloom.domain.parameters import (
    ARGS_SECTION,
    DEFAULT_SECTION,
    Parameter,
    Sections,
    cast_like,
    decode,
    encode,
)
from taskloom.domain.task import ConfigurationObject, Task

MAX_DEPTH = 32

Values = dict[str, Any]
Setter = Callable[[Any], None]


class Connected:
    """One connected object: read again at the end, since it may have changed on the way."""

    def __init__(self, target: Any, section: str) -> None:
        self.section = section
        self._target = target
        self._known: dict[str, Parameter] = {}

    def take(self, edited: Task | None) -> dict[str, Parameter]:
        """Put edited values into the object; the parameters that the server does not have yet."""
        on_server = edited.parameters.get(self.section, {}) if edited is not None else {}
        for name, value, put in list(_values(self._target)):
            parameter = on_server.get(name)
            if parameter is not None and not _same(parameter, value):
                put(_cast(f"{self.section}/{name}", parameter, value))
        empty = cast("dict[str, Any]", self._target)
        if edited is not None and isinstance(empty, dict) and not empty:  # pyright: ignore[reportUnnecessaryIsInstance]
            empty.update({name: decode(parameter) for name, parameter in on_server.items()})
        found = self._read()
        self._known = found
        return {name: parameter for name, parameter in found.items() if name not in on_server}

    def changed(self) -> dict[str, Parameter]:
        """What differs from the last look."""
        found = self._read()
        fresh = {name: parameter for name, parameter in found.items() if self._known.get(name) != parameter}
        self._known = found
        return fresh

    def _read(self) -> dict[str, Parameter]:
        return {name: encode(value) for name, value, _ in _values(self._target)}


def section_of(target: Any, name: str | None) -> str:
    if name:
        if "/" in name:
            raise BadInput(f"section name {name!r}: a section has no slash in its name")
        return name
    is_args = isinstance(target, argparse.Namespace | argparse.ArgumentParser)
    return ARGS_SECTION if is_args else DEFAULT_SECTION


def as_sections(values: Mapping[str, Any]) -> Sections:
    """`{'Args/lr': 1, 'lr': 2, 'opt': {'a': 3}}` by section and name; nested dictionaries are flattened."""
    from taskloom.domain.parameters import split_name

    sections: Sections = {}
    for flat, value in _flat(values):
        section, name = split_name(flat)
        sections.setdefault(section, {})[name] = value if isinstance(value, Parameter) else encode(value)
    return sections


def _same(parameter: Parameter, value: Any) -> bool:
    """An untouched value stays the object that the script made."""
    return parameter.value == encode(value).value


def _cast(name: str, parameter: Parameter, value: Any) -> Any:
    try:
        return cast_like(parameter.value, value)
    except BadInput as error:
        raise BadInput(f"parameter {name}: {error.message}", **error.details) from None


# --- reading objects --------------------------------------------------------------------------------------


def _values(target: Any) -> Iterator[tuple[str, Any, Setter]]:
    """(name, value, setter) of everything in the object that can be a parameter."""
    if isinstance(target, MutableMapping):
        yield from _of_dictionary(cast("MutableMapping[Any, Any]", target), "", 0)
    elif isinstance(target, argparse.ArgumentParser):
        yield from _of_parser(target)
    elif _is_object(target):
        for name in _attributes(target):
            yield from _of_value(name, getattr(target, name), _attribute_setter(target, name), 0)
    else:
        raise BadInput(f"connect: expected a dictionary, an object or a class, got {type(target).__name__}")


def _of_value(name: str, value: Any, put: Setter, depth: int) -> Iterator[tuple[str, Any, Setter]]:
    if isinstance(value, MutableMapping) and value and depth < MAX_DEPTH:
        yield from _of_dictionary(cast("MutableMapping[Any, Any]", value), f"{name}/", depth + 1)
    else:
        yield name, value, put


def _of_dictionary(target: MutableMapping[Any, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any, Setter]]:
    for key, value in list(target.items()):
        name = str(key)
        if not name:
            raise BadInput("connect: a key is empty")

        def put(new: Any, key: Any = key) -> None:
            target[key] = new

        yield from _of_value(f"{prefix}{name}", value, put, depth)


def _of_parser(parser: argparse.ArgumentParser) -> Iterator[tuple[str, Any, Setter]]:
    for action in parser._actions:  # pyright: ignore[reportPrivateUsage]
        if action.dest not in {argparse.SUPPRESS, "help", "version"}:

            def put(new: Any, name: str = action.dest) -> None:
                parser.set_defaults(**{name: new})

            yield action.dest, parser.get_default(action.dest), put


def _is_object(target: Any) -> bool:
    if isinstance(target, str | bytes | int | float | complex | list | tuple | set | frozenset | None):
        return False
    kind: Any = type(target)  # pyright: ignore[reportUnknownVariableType]
    return inspect.isclass(target) or hasattr(target, "__dict__") or hasattr(kind, "__slots__")


def _attributes(target: Any) -> list[str]:
    """Public data: of the instance, its slots and its classes; no methods, properties or modules."""
    classes = target.__mro__ if inspect.isclass(target) else type(target).__mro__
    names: dict[str, None] = {}
    for kind in reversed(classes):
        if kind is object:
            continue
        slots = kind.__dict__.get("__slots__", ())
        names |= dict.fromkeys([slots] if isinstance(slots, str) else slots)
        names |= {name: None for name, value in vars(kind).items() if not hasattr(value, "__get__")}
    if not inspect.isclass(target):
        names |= dict.fromkeys(getattr(target, "__dict__", {}))
    return [
        name
        for name in names
        if not name.startswith("_") and hasattr(target, name) and not _is_code(getattr(target, name))
    ]


def _is_code(value: Any) -> bool:
    return callable(value) or inspect.ismodule(value)


def _attribute_setter(target: Any, name: str) -> Setter:
    def put(new: Any) -> None:
        try:
            setattr(target, name, new)
        except AttributeError:  # a frozen dataclass; the value was edited on purpose
            object.__setattr__(target, name, new)

    return put


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(cast("Mapping[str, Any]", value), f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


# --- configuration ----------------------------------------------------------------------------------------


def configuration_text(configuration: Any, name: str) -> ConfigurationObject:
    """A dictionary or list as JSON (which is valid HOCON), or the text of a file."""
    if isinstance(configuration, str | Path):
        path = Path(configuration)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"configuration {name!r}: the file {path} cannot be read: {error}") from None
        return ConfigurationObject(text, path.suffix.lstrip(".") or "file")
    if isinstance(configuration, Mapping | list | tuple):
        try:
            text = json.dumps(_without_keys_of_other_types(configuration), indent=2, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise BadInput(f"configuration {name!r} cannot be written as JSON: {error}") from None
        return ConfigurationObject(text, "json")
    kind = type(configuration).__name__
    raise BadInput(f"configuration {name!r}: expected a dictionary, a list or the path of a file, got {kind}")


def configuration_back(configuration: Any, found: ConfigurationObject, name: str) -> Any:
    """The script's own object with the server's content, or the path of a file that has it."""
    if isinstance(configuration, str | Path):
        import tempfile

        folder = Path(tempfile.mkdtemp(prefix="taskloom-configuration-"))
        path = folder / (Path(configuration).name or "configuration")
        path.write_text(found.value, encoding="utf-8")
        return path if isinstance(configuration, Path) else str(path)
    value = parse_configuration(found, name)
    if isinstance(configuration, MutableMapping) and isinstance(value, dict):
        target = cast("MutableMapping[Any, Any]", configuration)
        target.clear()
        target.update(cast("dict[Any, Any]", value))
        return target
    if isinstance(configuration, list) and isinstance(value, list):
        configuration[:] = value
        return cast("list[Any]", configuration)
    return value


def parse_configuration(found: ConfigurationObject, name: str) -> Any:
    try:
        return json.loads(found.value)
    except ValueError as error:
        raise BadInput(f"configuration {name!r} on the server is not valid JSON: {error}") from None


def _without_keys_of_other_types(value: Any) -> Any:
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {str(key): _without_keys_of_other_types(inner) for key, inner in items}
    if isinstance(value, list | tuple):
        return [_without_keys_of_other_types(inner) for inner in cast("list[Any]", value)]
    return value
