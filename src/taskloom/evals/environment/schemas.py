"""A template's arguments as a JSON Schema, for its entry of the manifest."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

from pydantic import ConfigDict, Field, TypeAdapter, create_model
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError
from pydantic.json_schema import PydanticJsonSchemaWarning

_FAULTS = (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError, NameError, TypeError)


def arguments_schema(signature: inspect.Signature) -> dict[str, Any]:
    """An object with a property for each parameter; one that no schema can describe takes anything."""
    named = {
        name: one
        for name, one in signature.parameters.items()
        if one.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    }
    try:
        schema = _schema(named, known=frozenset(named))
    except _FAULTS:
        schema = _schema(named, known=frozenset(name for name in named if _is_describable(named[name])))
    kinds = {one.kind for one in signature.parameters.values()}
    schema["additionalProperties"] = inspect.Parameter.VAR_KEYWORD in kinds
    return schema


def type_schema(declared: Any) -> dict[str, Any]:
    """A type's JSON Schema; the empty one, which is anything's, when there is none."""
    try:
        return TypeAdapter(declared).json_schema()
    except _FAULTS:
        return {}


def _is_describable(parameter: inspect.Parameter) -> bool:
    try:
        _schema({parameter.name: parameter}, known=frozenset({parameter.name}))
    except _FAULTS:
        return False
    return True


def _schema(parameters: dict[str, inspect.Parameter], known: frozenset[str]) -> dict[str, Any]:
    # Fields have names of their own, as a parameter may have one that a model's field must not have.
    fields: dict[str, Any] = {}
    for number, (name, one) in enumerate(parameters.items()):
        annotation = one.annotation if name in known and one.annotation is not inspect.Parameter.empty else Any
        default = ... if one.default is inspect.Parameter.empty else one.default
        fields[f"field_{number}"] = (
            annotation,
            Field(default, alias=name, title=name.replace("_", " ").title()),
        )
    model = create_model("Arguments", __config__=ConfigDict(arbitrary_types_allowed=False), **fields)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)  # a default that is no JSON is left out
        schema = model.model_json_schema()
    schema.pop("title", None)
    schema.setdefault("properties", {})
    return schema
