"""The OpenAPI document, made from the table of operations: what is not there does not exist.

Only describes; nothing is decided here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from taskloom.wire.client import JSON, MSGPACK
from taskloom.wire.messages import Done, Fault
from taskloom.wire.operations import Operation

_REFERENCE = "#/components/schemas/{name}"
BYTES = "application/octet-stream"
_ERRORS = {
    "400": "The request is malformed; the message says what was expected",
    "401": "No valid API key",
    "403": "The key's role is too low, or the request came from elsewhere",
    "404": "No such object",
    "409": "The present state forbids it",
    "413": "Over a limit",
    "415": "A content type that is not read here",
    "429": "Too many wrong keys",
    "500": "A fault of the server, recorded in its log",
    "503": "Try again later",
    "507": "The server's disk is full",
}
Schema = dict[str, Any]


def describe(operations: Mapping[str, Operation[Any, Any]], version: str) -> Schema:
    """The whole document as plain values."""
    structs = _structs(operations)
    schemas, components = msgspec.json.schema_components(structs, ref_template=_REFERENCE)
    known = dict(zip(structs, schemas, strict=True))
    paths: dict[str, Schema] = {}
    for operation in operations.values():
        path = operation.path.replace(":path}", "}")
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, known, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Taskloom",
            "version": version,
            "description": f"Every body and answer may be {JSON} or {MSGPACK}, by Content-Type and Accept.",
        },
        "security": [{"key": []}],
        "tags": [{"name": feature} for feature in sorted({o.feature for o in operations.values()})],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key"}},
            "responses": {
                f"Fault{status}": {"description": text, "content": _content(known[Fault])}
                for status, text in _ERRORS.items()
            },
        },
    }


def _structs(operations: Mapping[str, Operation[Any, Any]]) -> list[Any]:
    wanted: dict[Any, None] = {Fault: None, Done: None}
    for operation in operations.values():
        wanted |= {kind: None for kind in (operation.body, operation.query, operation.answer) if kind is not None}
    return list(wanted)


def _operation(
    operation: Operation[Any, Any], known: Mapping[Any, Schema], components: Mapping[str, Any]
) -> Schema:
    described: Schema = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.feature],
        "parameters": [*_path_parameters(operation.path), *_query_parameters(operation, known, components)],
        "responses": {"200": _answer(operation, known), **_faults(operation)},
    }
    if operation.role is None:
        described["security"] = []
    else:
        described["description"] = f"Needs a key of role {operation.role}."
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(known[operation.body])}
    elif operation.stream and operation.method == "PUT":
        described["requestBody"] = {"required": True, "content": {BYTES: {}}}
    return described


def _path_parameters(path: str) -> list[Schema]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)(?::path)?}", path)
    ]


def _query_parameters(
    operation: Operation[Any, Any], known: Mapping[Any, Schema], components: Mapping[str, Any]
) -> list[Schema]:
    if operation.query is None:
        return []
    schema = components[known[operation.query]["$ref"].rpartition("/")[2]]
    required = set(schema.get("required", []))
    return [
        {"name": name, "in": "query", "required": name in required, "schema": part}
        for name, part in schema["properties"].items()
    ]


def _answer(operation: Operation[Any, Any], known: Mapping[Any, Schema]) -> Schema:
    if not operation.stream:
        return {"description": operation.summary, "content": _content(known[operation.answer])}
    if operation.answer is Done:
        kind = JSON if operation.path.endswith(".json") else BYTES
        return {"description": operation.summary, "content": {kind: {}}}
    if operation.method == "GET":
        return {
            "description": operation.summary,
            "content": {"text/event-stream": {"schema": known[operation.answer]}},
        }
    return {"description": operation.summary, "content": _content(known[operation.answer])}


def _faults(operation: Operation[Any, Any]) -> Schema:
    statuses = dict(_ERRORS)
    if operation.role is None:
        del statuses["401"], statuses["429"]
    if operation.body is None and not operation.stream:
        del statuses["413"], statuses["415"]
    return {status: {"$ref": f"#/components/responses/Fault{status}"} for status in statuses}


def _content(schema: Schema) -> Schema:
    return {JSON: {"schema": schema}, MSGPACK: {"schema": schema}}
