"""The JSON Schema of the format, for editors, made from the declaration that the parser uses.

It says what a schema can say: names, types, options. Texts with rules of their own (sizes, names of variables,
placeholders) are the parser's; whatever the parser takes, the schema takes.
"""

from __future__ import annotations

from typing import Any

from taskloom.domain.task import TaskType
from taskloom.domain.taskfile.fields import RESOURCES, RETRIES, SWEEPS, TASK, Field
from taskloom.domain.taskfile.schemas import DESCRIBES, FORM, FORM_KEYS, FORM_TYPES, KEYS, SYNONYMS, TYPES

_SCALAR = {"type": ["string", "number", "boolean", "null"]}
_NUMBER = {"type": ["number", "null"]}
_SHAPES: dict[str, dict[str, Any]] = {
    "min": _NUMBER,
    "max": _NUMBER,
    "step": _NUMBER,
    "multiple_of": _NUMBER,
    "options": {"type": "array", "minItems": 1},
    "required": {"type": "boolean"},
    "password": {"type": "boolean"},
    "default": {},
    "env_var": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
}


def json_schema() -> dict[str, Any]:
    """A document of JSON Schema 2020-12."""
    body = _object(TASK)
    body |= {"required": ["run"], "anyOf": [{"required": ["name"]}, {"required": ["title"]}]}
    parts: dict[str, Any] = body["properties"]
    parts["type"] |= {"examples": ["REMOTE", *(kind.value for kind in TaskType)]}
    parts["envs"] |= {
        "type": ["object", "null"],
        "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
        "additionalProperties": _SCALAR,
    }
    parts["resources"] |= _nullable(_object(RESOURCES))
    parts["retries"] |= {"oneOf": [{"type": ["integer", "null"], "minimum": 0}, _object(RETRIES)]}
    parts["parameters"] |= {
        "oneOf": [
            {"type": "null"},
            {"type": "object", "additionalProperties": {"$ref": "#/$defs/parameter"}},
            {"type": "array", "items": {"anyOf": [{"$ref": "#/$defs/single"}, {"$ref": "#/$defs/form"}]}},
        ]
    }
    sweeps = _object(SWEEPS)
    sweeps["properties"]["sweep_config"] |= {
        "type": ["object", "null"],
        "additionalProperties": {"type": "array", "minItems": 1},
    }
    parts["sweeps"] |= _nullable(sweeps) | {"required": ["sweep_config"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "task.yaml of Taskloom",
        "description": "A recipe for a task: what to run, with what, where.",
        "anyOf": [{"$ref": "#/$defs/task"}, {"$ref": "#/$defs/wrapped"}],
        "$defs": {
            "task": body,
            "wrapped": {
                "type": "object",
                "properties": {"task": {"$ref": "#/$defs/task"}},
                "required": ["task"],
                "additionalProperties": False,
            },
            "single": {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": {"$ref": "#/$defs/parameter"},
            },
            "parameter": {
                "description": "A value, or a map that describes one.",
                "if": {"type": "object", "anyOf": [{"required": [word]} for word in sorted(FORM)]},
                "then": {"$ref": "#/$defs/form"},
                "else": {
                    "if": {"type": "object", "anyOf": [{"required": [word]} for word in sorted(DESCRIBES)]},
                    "then": {"$ref": "#/$defs/described"},
                },
            },
            "described": _description(KEYS, TYPES),
            "form": _description({**KEYS, **FORM_KEYS}, FORM_TYPES),
        },
    }


def _object(fields: tuple[Field, ...]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for field in fields:
        said = field.says + (" (Taskloom's own)" if field.ours else "")
        properties[field.name] = {"description": said, **field.kind.schema}
        for synonym in field.synonyms:
            shape = {"type": ["string", "null"]} if synonym == "title" else field.kind.schema
            properties[synonym] = {"description": f"The same as `{field.name}`.", "deprecated": True, **shape}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _nullable(shape: dict[str, Any]) -> dict[str, Any]:
    return {**shape, "type": ["object", "null"]}


def _description(keys: dict[str, str], types: dict[str, str]) -> dict[str, Any]:
    properties = {key: {"description": f"{says[0].upper()}{says[1:]}.", **_SHAPES.get(key, _SCALAR)}
                  for key, says in keys.items()}  # fmt: skip
    for synonym, key in SYNONYMS.items():
        properties[synonym] = {"description": f"The same as `{key}`.", **_SHAPES.get(key, _SCALAR)}
    for key in ("type", "field_type"):
        if key in properties:
            properties[key] |= {"type": ["string", "null"], "examples": sorted(types)}
    return {"type": "object", "properties": properties, "additionalProperties": False}
