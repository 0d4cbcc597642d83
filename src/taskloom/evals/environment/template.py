"""A template: the registered function of an environment, its arguments, and the rows that it makes.

Called with arguments it gives an eval task and runs nothing. `call` makes the generator that a started task runs,
see open_task.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Mapping
from functools import cached_property, update_wrapper
from typing import Any, Generic, ParamSpec, Protocol

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from taskloom.evals.environment.schemas import arguments_schema
from taskloom.evals.task import Task

P = ParamSpec("P")
Function = Callable[P, AsyncGenerator[Any, Any]]

_SPREAD = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Owner(Protocol):
    """What a template needs of its environment."""

    name: str
    source: str | None

    async def end_task(self) -> None: ...


class Template(Generic[P]):
    """The handle that `@env.template` leaves in the place of the function."""

    def __init__(
        self, environment: Owner, function: Function[P], id: str, description: str, input: Any, returns: Any
    ) -> None:
        self.environment = environment
        self.function = function
        self.id = id
        self.description = description
        self.input = input
        self.returns = returns
        self.signature = _signature(function)
        self._plain = all(
            one.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
            for one in self.signature.parameters.values()
        )
        self._needed = frozenset(
            name
            for name, one in self.signature.parameters.items()
            if one.default is inspect.Parameter.empty and one.kind not in _SPREAD
        )
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Task:
        """A row with these arguments; TypeError names what is missing or unknown. Defaults are not filled in."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"template {self.id!r}: {error}; it takes {self.signature}") from None
        row = Task(env=self.environment.name, id=self.id, args=self._flat(bound.arguments))
        return row if self.environment.source is None else row.from_source(self.environment.source)

    def __repr__(self) -> str:
        return f"<template {self.id!r} of environment {self.environment.name!r}>"

    def _flat(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name, with those of a `**parameter` among the others."""
        flat: dict[str, Any] = {}
        for name, value in arguments.items():
            kind = self.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                flat |= value
            else:
                flat[name] = list(value) if kind is inspect.Parameter.VAR_POSITIONAL else value
        return flat

    # --- a call that came over the wire -------------------------------------------------------------------

    def call(self, args: Mapping[str, Any]) -> AsyncGenerator[Any, Any]:
        """The generator, with each argument as its annotation has it; TypeError when they do not bind."""
        self._check_names(args)
        coerced = {name: self._coerce(name, value) for name, value in args.items()}
        if self._plain:
            return self.function(**coerced)  # type: ignore[call-arg]
        return self._call_by_kind(coerced)

    def _check_names(self, args: Mapping[str, Any]) -> None:
        parameters = self.signature.parameters
        missing = [name for name in parameters if name in self._needed and name not in args]
        open_ended = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
        unknown = [] if open_ended else [name for name in args if name not in parameters]
        if missing or unknown:
            faults = [f"missing {', '.join(missing)}"] if missing else []
            faults += [f"unknown {', '.join(unknown)}"] if unknown else []
            raise TypeError(f"template {self.id!r}: {'; '.join(faults)}; it takes {self.signature}")

    def _call_by_kind(self, args: dict[str, Any]) -> AsyncGenerator[Any, Any]:
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for name, one in self.signature.parameters.items():
            if name not in args or one.kind is inspect.Parameter.VAR_KEYWORD:
                continue
            value = args.pop(name)
            if one.kind is inspect.Parameter.POSITIONAL_ONLY:
                positional.append(value)
            elif one.kind is inspect.Parameter.VAR_POSITIONAL:
                # Python fills what comes by position first: by now the names before it have to come so, too.
                positional += [named.pop(before) for before in list(named)] + list(value)
            else:
                named[name] = value
        return self.function(*positional, **named, **args)  # type: ignore[call-arg]

    def _coerce(self, name: str, value: Any) -> Any:
        """As the annotation has it: a value of Python's, for texts also JSON; what does not fit is passed as it is."""
        adapter = self._adapters.get(name)
        if adapter is None:
            return value
        try:
            return adapter.validate_python(value)
        except ValidationError:
            if not isinstance(value, str):
                return value
        try:
            return adapter.validate_json(value)
        except ValidationError:
            return value

    @cached_property
    def _adapters(self) -> dict[str, TypeAdapter[Any]]:
        found = {
            name: adapter_of(one.annotation)
            for name, one in self.signature.parameters.items()
            if one.kind not in _SPREAD and one.annotation not in (inspect.Parameter.empty, Any)
        }
        return {name: adapter for name, adapter in found.items() if adapter is not None}

    @cached_property
    def answers(self) -> TypeAdapter[Any] | None:
        """What reads answers, for a template with `returns`."""
        return None if self.returns is None else TypeAdapter(self.returns)

    # --- what it says of itself ---------------------------------------------------------------------------

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Its entry of `tasks.list`, with JSON Schemas."""
        entry: dict[str, Any] = {
            "id": self.id,
            "description": self.description,
            "args": arguments_schema(self.signature),
        }
        for key, declared in (("input", self.input), ("returns", self.returns)):
            if declared is not None:
                entry[key] = TypeAdapter(declared).json_schema()
        return entry


def adapter_of(annotation: Any) -> TypeAdapter[Any] | None:
    """What brings values to an annotation; None for one that Pydantic has no rules for."""
    try:
        return TypeAdapter(annotation)
    except (PydanticSchemaGenerationError, PydanticUserError, NameError, TypeError):
        return None


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """With its annotations looked up, each for itself: one that is nowhere, as those under TYPE_CHECKING, is as none."""
    found = inspect.signature(function)
    names = getattr(function, "__globals__", {})
    known = [one.replace(annotation=_look_up(one.annotation, names)) for one in found.parameters.values()]
    return found.replace(parameters=known)


def _look_up(annotation: Any, names: dict[str, Any]) -> Any:
    def holder() -> None: ...

    holder.__annotations__ = {"it": annotation}
    try:
        found = inspect.get_annotations(holder, globals=names, eval_str=True)["it"]
    except Exception:
        return inspect.Parameter.empty
    return inspect.Parameter.empty if isinstance(found, str) else found
