"""The API document: complete, consistent, at a fixed address, and true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from tests.conftest import House

from taskloom.server.openapi import describe
from taskloom.wire.operations import OPERATIONS

DOCUMENT: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(describe(OPERATIONS, "1.2.3")))


def everything(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of the document."""
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from everything(part)
    elif isinstance(value, list):
        for part in value:
            yield from everything(part)


def described() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, what) for path, methods in DOCUMENT["paths"].items() for method, what in methods.items()
    ]


def test_it_is_served_without_a_key_and_is_the_same(house: House) -> None:
    response = httpx.get(f"{house.url}/api/openapi.json")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    served = response.json()
    assert {**served, "info": None} == {**DOCUMENT, "info": None}


def test_it_holds_every_operation_once_under_its_name() -> None:
    names = [what["operationId"] for _, _, what in described()]
    assert sorted(names) == sorted(OPERATIONS)
    assert len(names) == len(set(names))


def test_every_reference_leads_somewhere() -> None:
    references = [part["$ref"] for part in everything(DOCUMENT) if isinstance(part.get("$ref"), str)]
    assert references
    for reference in references:
        place = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


TYPES = {"object", "array", "string", "number", "integer", "boolean", "null"}


def test_every_schema_says_what_it_holds() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        if schema.get("type") == "object" and "properties" in schema:
            assert set(schema.get("required", [])) <= set(schema["properties"]), name
        for part in everything(schema):
            kind = part.get("type")
            if isinstance(kind, str):
                assert kind in TYPES, name
            if "properties" in part and isinstance(part["properties"], dict) and kind == "object":
                assert all(isinstance(p, dict) for p in part["properties"].values()), name


@pytest.mark.parametrize(("path", "method", "what"), described(), ids=lambda v: v if isinstance(v, str) else "")
def test_an_operation_is_described_whole(path: str, method: str, what: dict[str, Any]) -> None:
    operation = OPERATIONS[what["operationId"]]
    in_path = {p["name"] for p in what["parameters"] if p["in"] == "path"}
    assert in_path == set(re.findall(r"{(\w+)}", path))
    in_query = {p["name"] for p in what["parameters"] if p["in"] == "query"}
    fields = operation.query.__struct_encode_fields__ if operation.query is not None else ()
    assert in_query == set(fields)
    assert ("requestBody" in what) == (operation.body is not None or method == "put")
    assert (what.get("security") == []) == (operation.role is None)
    assert ("401" in what["responses"]) == (operation.role is not None)
    assert what["summary"]
    assert what["responses"]["200"]["content"]


def test_an_error_has_the_shape_that_the_document_says(house: House) -> None:
    schemas = DOCUMENT["components"]["schemas"]
    fault = httpx.get(f"{house.url}/api/keys").json()
    assert set(fault) == set(schemas["Fault"]["required"])
    assert set(schemas["FaultBody"]["required"]) <= set(fault["error"]) <= set(schemas["FaultBody"]["properties"])
