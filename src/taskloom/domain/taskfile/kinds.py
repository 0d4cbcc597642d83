"""Kinds of fields: how one is read from its node, and how a JSON Schema says the same.

A kind gives the value, or MISSING after it has said what is wrong; the fields of a task file (`fields`) name kinds,
so that the parser and the published schema are one declaration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from taskloom.domain.errors import BadInput
from taskloom.domain.project import check_name, check_project, check_tag, check_text
from taskloom.domain.repository import check_folder, check_reference, check_repository
from taskloom.domain.taskfile.nodes import Mapping, Node, Scalar, Sequence
from taskloom.domain.taskfile.problems import Findings
from taskloom.domain.taskfile.quantities import (
    BYTES_EXPECTED,
    CPUS_EXPECTED,
    GPUS_EXPECTED,
    SECONDS_EXPECTED,
    read_accelerators,
    read_bytes,
    read_cpus,
    read_seconds,
)
from taskloom.domain.taskfile.scalars import plain_value, scalar_value, shown

MAX_LINE = 4096  # characters of an address, a branch, an image
MAX_PRIORITY = 1000
MAX_ITEMS, MAX_MOUNTS = 256, 64


class _Missing:
    """No value: not there, or wrong and told."""


MISSING = _Missing()
Read = Callable[[Node, str, Findings], Any]


@dataclass(frozen=True)
class Kind:
    schema: dict[str, Any]
    read: Read


def scalar_kind(schema: dict[str, Any], expected: str, read: Callable[[Scalar], Any]) -> Kind:
    """A kind of one value; `read` raises BadInput with what was expected, or ValueError for `expected`."""

    def checked(node: Node, path: str, findings: Findings) -> Any:
        if isinstance(node, Scalar):
            try:
                return read(node)
            except BadInput as error:
                findings.wrong(node.place, path, error.message)
                return MISSING
            except ValueError:
                pass
        findings.wrong(node.place, path, f"{expected}, got {shown(node)}")
        return MISSING

    return Kind(schema, checked)


def _text(node: Scalar) -> str:
    value = scalar_value(node)
    if not isinstance(value, str):
        raise BadInput(f"expected text, got {shown(node)}; in quotes it is text")
    return value


def _optional(node: Scalar) -> str:
    return "" if scalar_value(node) is None else _text(node)


def _written(node: Scalar) -> str:
    """The text as it was written, also when it looks like a number; nothing for `null`."""
    return "" if scalar_value(node) is None else node.text


def _line(check: Callable[[str], str], read: Callable[[Scalar], str] = _text) -> Callable[[Scalar], str]:
    def checked(node: Scalar) -> str:
        text = read(node).strip()
        if len(text) > MAX_LINE:
            raise BadInput(f"expected at most {MAX_LINE} characters, got {len(text)}")
        return check(check_text(text, "the text")) if text else ""

    return checked


def _as_is(text: str) -> str:
    return text


def _shell(node: Scalar) -> str:
    text = _text(node)
    if "\0" in text:
        raise BadInput("expected shell text without NUL characters")
    return text


def _whole(least: int, most: int) -> Callable[[Scalar], int]:
    def read(node: Scalar) -> int:
        value = scalar_value(node)
        if isinstance(value, str):
            value = int(value) if value.strip().lstrip("+-").isdecimal() and len(value) < 20 else value
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError
        return value

    return read


def _boolean(node: Scalar) -> bool:
    value = scalar_value(node)
    if not isinstance(value, bool):
        raise ValueError
    return value


def _quantity(read: Callable[[str], Any]) -> Callable[[Scalar], Any]:
    def checked(node: Scalar) -> Any:
        value = scalar_value(node)
        if value is None:
            return MISSING  # a key with nothing behind it asks for nothing
        if isinstance(value, bool):
            raise ValueError
        return read(node.text)

    return checked


def _accelerators(node: Node, path: str, findings: Findings) -> Any:
    if isinstance(node, Mapping) and len(node.entries) == 1:
        key, count = node.entries[0]
        number = count.text if isinstance(count, Scalar) else ""
        findings.wrong(node.place, path, f'{GPUS_EXPECTED}, got a map; write "{key.text}:{number or 1}"')
        return MISSING
    if not isinstance(node, Scalar) or not isinstance(value := scalar_value(node), str):
        if isinstance(node, Scalar) and scalar_value(node) is None:
            return MISSING
        findings.wrong(node.place, path, f"{GPUS_EXPECTED}, got {shown(node)}")
        return MISSING
    try:
        name, count, odd = read_accelerators(value)
    except BadInput as error:
        findings.wrong(node.place, path, error.message)
        return MISSING
    if odd:
        findings.odd(node.place, path, odd)
    return name, count


def list_kind(item: Kind, expected: str, most: int = MAX_ITEMS) -> Kind:
    """A list of such values; one value alone counts as a list of it."""

    def read(node: Node, path: str, findings: Findings) -> Any:
        if isinstance(node, Scalar) and scalar_value(node) is None:
            return ()
        if isinstance(node, Mapping):
            findings.wrong(node.place, path, f"{expected}, got a map")
            return MISSING
        nodes = node.items if isinstance(node, Sequence) else (node,)
        if len(nodes) > most:
            findings.wrong(node.place, path, f"{len(nodes)} of them; expected at most {most}")
            return MISSING
        values: dict[Any, None] = {}
        for number, one in enumerate(nodes):
            value = item.read(one, f"{path}[{number}]", findings)
            if value == "":
                findings.wrong(one.place, f"{path}[{number}]", "is empty")
            elif value is not MISSING:
                values[value] = None
        return tuple(values)

    return Kind({"oneOf": [item.schema, {"type": "array", "items": item.schema, "maxItems": most}]}, read)


def _mount(text: str) -> str:
    parts = text.split(":")
    read_only = len(parts) == 3 and parts[2] in {"ro", "rw"}
    if not (len(parts) == 2 or read_only) or not all(part.startswith("/") for part in parts[:2]):
        raise BadInput(f"expected /FOLDER/OF/THE/WORKER:/PLACE or the same with :ro, got {text[:80]!r}")
    return text


def _secret(text: str) -> str:
    if not (text.replace("_", "a").isalnum() and text.isascii()) or text[0].isdigit():
        raise BadInput(f"expected the name of a secret (letters, digits, underscores), got {text[:80]!r}")
    return text


def _any(node: Node, path: str, findings: Findings) -> Any:
    return plain_value(node)


_TEXT = {"type": "string"}
_TEXT_OR_NUMBER = {"type": ["string", "number"]}
_WRITTEN = _QUANTITY = {"type": ["string", "number", "null"]}

ANYTHING = Kind({}, _any)
NAME = scalar_kind(
    {"type": "string", "minLength": 3, "maxLength": 256},
    "expected text",
    lambda node: check_name(_text(node), "the name"),
)
TEXT = scalar_kind({"type": ["string", "null"]}, "expected text", _optional)
LINE = scalar_kind({"type": ["string", "null"]}, "expected text", _line(_as_is, _optional))
WORD = scalar_kind({"type": ["string", "number", "boolean", "null"]}, "expected text", _line(_as_is, _written))
RUN = scalar_kind({"type": "string", "minLength": 1}, "expected shell text", _shell)
SETUP = scalar_kind(
    {"type": ["string", "null"]}, "expected shell text", lambda n: "" if scalar_value(n) is None else _shell(n)
)
PROJECT = scalar_kind(_TEXT, "expected the path of a project", lambda node: check_project(_text(node)))
TAG = scalar_kind(_TEXT_OR_NUMBER, "expected text", lambda node: check_tag(_written(node)))
REPOSITORY = scalar_kind(
    {"type": ["string", "null"]}, "expected the URL of a git repository", _line(check_repository, _optional)
)
FOLDER = scalar_kind(_WRITTEN, "expected a folder of the repository", _line(check_folder, _written))
REFERENCE = scalar_kind(_WRITTEN, "expected a branch, tag or commit", _line(check_reference, _written))
CPUS = scalar_kind(_QUANTITY, CPUS_EXPECTED, _quantity(read_cpus))
BYTES = scalar_kind(_QUANTITY, BYTES_EXPECTED, _quantity(read_bytes))
SECONDS = scalar_kind(_QUANTITY, SECONDS_EXPECTED, _quantity(read_seconds))
ACCELERATORS = Kind({"type": ["string", "null"], "examples": ["A100-80GB:1"]}, _accelerators)
NODES = scalar_kind({"type": ["integer", "string"]}, "expected a whole number from 1", _whole(1, 10_000))
MINUTES = scalar_kind({"type": ["integer", "string"]}, "expected whole minutes", _whole(0, 366 * 1440))
COUNT = scalar_kind({"type": "integer", "minimum": 0}, "expected a whole number from 0", _whole(0, 1000))
PRIORITY = scalar_kind({"type": "integer"}, "expected a whole number", _whole(-MAX_PRIORITY, MAX_PRIORITY))
BOOLEAN = scalar_kind({"type": "boolean"}, "expected true or false", _boolean)
MOUNTS = list_kind(
    scalar_kind(_TEXT, "expected /FOLDER:/PLACE", _line(_mount)),
    "expected a list of /FOLDER:/PLACE[:ro]",
    MAX_MOUNTS,
)
SECRETS = list_kind(
    scalar_kind(_TEXT, "expected the name of a secret", _line(_secret)), "expected a list of names of secrets"
)
TAGS = list_kind(TAG, "expected a list of tags")
