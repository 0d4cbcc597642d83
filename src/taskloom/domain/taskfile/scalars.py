"""What a value written without quotes means, and how values are shown in messages.

Numbers are read as people write them (`2e-5` is one, though YAML 1.1 says otherwise); what only YAML 1.1 would turn
into a number (`010` into 8, `12:30` into 750) stays text. `yes`, `no`, `on` and `off` are booleans as in YAML 1.1.
"""

from __future__ import annotations

import json
import re
from typing import Any

from taskloom.domain.taskfile.nodes import Mapping, Node, Scalar

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)")
_BASED = re.compile(r"[-+]?0(?:x[0-9a-fA-F]+|o[0-7]+|b[01]+)")
_ONLY_IN_1_1 = re.compile(r"[-+]?(?:0[0-9_]+|[0-9][0-9_]*(?::[0-5]?[0-9])+)(?:\.[0-9_]*)?")
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {
    spelled: value
    for word, value in {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}.items()
    for spelled in (word, word.capitalize(), word.upper())
}
_SPECIAL = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}
LONGEST_NUMBER = 400


def value_of(text: str) -> Any:
    """The value of a text without quotes: None, a boolean, a number, else the text."""
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if len(text) > LONGEST_NUMBER:
        return text
    if _INT.fullmatch(text):
        return int(text.replace("_", ""))
    if _FLOAT.fullmatch(text):
        return float(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if text.lower() in _SPECIAL:
        return float(_SPECIAL[text.lower()])
    return text


def only_old_yaml(text: str) -> bool:
    """Whether other programs would read a number where we read text."""
    return _ONLY_IN_1_1.fullmatch(text) is not None and isinstance(value_of(text), str)


def scalar_value(node: Scalar) -> Any:
    return value_of(node.text) if node.plain else node.text


def plain_value(node: Node) -> Any:
    """The whole value in Python's own types."""
    if isinstance(node, Scalar):
        return scalar_value(node)
    if isinstance(node, Mapping):
        return {key.text: plain_value(value) for key, value in node.entries}
    return [plain_value(item) for item in node.items]


def shown(node: Node) -> str:
    """The value as a message names it."""
    if isinstance(node, Mapping):
        return "a map"
    if not isinstance(node, Scalar):
        return "a list"
    return shown_value(scalar_value(node))


def shown_value(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case str():
            return repr(value if len(value) <= 80 else f"{value[:77]}...")
        case _:
            return json.dumps(value)[:80]
