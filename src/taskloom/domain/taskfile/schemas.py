"""Parameters of a task file: plain values, typed descriptions, and fields of a form; as a map or as a list of maps.

A map is a description when it has one of the words that only descriptions have; a map that is meant as a value and
holds such a word stands under `default`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from taskloom.domain.errors import BadInput
from taskloom.domain.project import check_text
from taskloom.domain.taskfile.nodes import Mapping, Node, Scalar, Sequence
from taskloom.domain.taskfile.problems import Findings
from taskloom.domain.taskfile.scalars import plain_value, scalar_value, shown
from taskloom.domain.taskfile.values import ParameterSchema, Schemas, convert, nearest
from taskloom.domain.variables import wrong_name

DESCRIBES = frozenset({"type", "default", "min", "max", "minimum", "maximum", "options", "enum"})
FORM = frozenset({"field_name", "env_var", "field_type"})
TYPES = {
    "int": "int",
    "integer": "int",
    "float": "float",
    "number": "float",
    "bool": "bool",
    "boolean": "bool",
    "str": "str",
    "string": "str",
    "enum": "",
}
FORM_TYPES = {**TYPES, "text": "str", "textarea": "str", "password": "str", "select": "", "checkbox": "bool"}
WIDGETS = (
    "slider",
    "range",
    "switch",
    "radio",
    "password",
    "select",
    "lab_model_select",
    "lab_dataset_select",
    "file",
)
KEYS = {
    "type": "str, int, float, bool or enum",
    "default": "the value when none is given",
    "min": "smallest number",
    "max": "largest number",
    "step": "step of a slider",
    "multiple_of": "numbers are multiples of it",
    "options": "the values that it may have",
    "ui_widget": "how a form shows it",
    "title": "name in a form",
    "description": "what it means",
    "required": "whether it has to be given",
}
FORM_KEYS = {
    "field_name": "name in a form",
    "env_var": "environment variable that gets the value",
    "field_type": "text, password, number, integer, boolean or select",
    "placeholder": "shown while nothing is typed",
    "help_text": "what it means",
    "password": "whether it is typed unseen",
}
SYNONYMS = {
    "minimum": "min",
    "maximum": "max",
    "multipleOf": "multiple_of",
    "enum": "options",
    "widget": "ui_widget",
}
MAX_NAME = 256


def read_parameters(node: Node, findings: Findings) -> Schemas:
    """By name, in the order of the file."""
    found: Schemas = {}
    for key, value in _entries(node, findings):
        name, path = key.text, f"parameters.{key.text[:80]}"
        try:
            check_text(name, "the name")
        except BadInput as error:
            findings.wrong(key.place, "parameters", error.message)
            continue
        if not name or len(name) > MAX_NAME:
            findings.wrong(key.place, "parameters", f"expected a name of 1 to {MAX_NAME} characters")
        elif name in found:
            findings.wrong(key.place, path, "stands twice")
        elif (schema := _schema(value, path, findings)) is not None:
            found[name] = schema
    return found


def _entries(node: Node, findings: Findings) -> Iterator[tuple[Scalar, Node]]:
    if isinstance(node, Mapping):
        yield from node.entries
    elif isinstance(node, Sequence):
        for item in node.items:
            if isinstance(item, Mapping) and (form := item.get("env_var") or item.get("field_name")) is not None:
                if isinstance(form, Scalar):
                    yield form, item
                else:
                    findings.wrong(form.place, "parameters", f"expected a name, got {shown(form)}")
            elif isinstance(item, Mapping) and len(item.entries) == 1:
                yield item.entries[0]
            else:
                findings.wrong(item.place, "parameters", f"expected `- name: value`, got {_item(item)}")
    elif scalar_value(node) is not None:
        findings.wrong(node.place, "parameters", f"expected a map of names and values, got {shown(node)}")


def _item(node: Node) -> str:
    return f"a map of {len(node.entries)} names" if isinstance(node, Mapping) else shown(node)


def _schema(node: Node, path: str, findings: Findings) -> ParameterSchema | None:
    """None for what is no parameter: a heading of a form."""
    if not isinstance(node, Mapping):
        return ParameterSchema(default=plain_value(node))
    keys = {key.text for key, _ in node.entries}
    if keys & FORM:
        return _Description(node, path, findings, form=True).read()
    if keys & DESCRIBES:
        return _Description(node, path, findings, form=False).read()
    return ParameterSchema(default=plain_value(node))


class _Description:
    """One description while it is read."""

    def __init__(self, node: Mapping, path: str, findings: Findings, *, form: bool) -> None:
        self._path, self._findings, self._node = path, findings, node
        known = {**KEYS, **FORM_KEYS} if form else KEYS
        self._form = form
        self._nodes: dict[str, Node] = {}
        for key, value in node.entries:
            name = SYNONYMS.get(key.text, key.text)
            if name not in known:
                findings.wrong(
                    key.place,
                    f"{path}.{key.text[:80]}",
                    f"no word for the description of a parameter{nearest(key.text, [*known, *SYNONYMS])}; "
                    "a map that is a value stands under `default`",
                )
            elif name in self._nodes:
                findings.wrong(key.place, f"{path}.{key.text}", f"says the same as another word: {name}")
            else:
                self._nodes[name] = value

    def read(self) -> ParameterSchema | None:
        written = self._text("type") or self._text("field_type")
        if written.lower() == "header":
            return None
        types = FORM_TYPES if self._form else TYPES
        if written and written.lower() not in types:
            where = self._nodes.get("type") or self._nodes["field_type"]
            self._findings.wrong(
                where.place,
                f"{self._path}.type",
                f"expected one of {', '.join(dict.fromkeys(types))}, got {written!r}"
                f"{nearest(written, types)}; a map that is a value stands under `default`",
            )
            return ParameterSchema()
        widget = self._text("ui_widget")
        schema = ParameterSchema(
            type=types.get(written.lower(), "str" if self._form else ""),
            minimum=self._number("min"),
            maximum=self._number("max"),
            multiple_of=self._positive("multiple_of"),
            required=self._flag("required"),
            title=self._text("title") or self._text("field_name"),
            description=self._text("description") or self._text("help_text") or self._text("placeholder"),
            widget=widget,
            variable=self._variable(),
            hidden=self._flag("password") or widget == "password" or written.lower() == "password",
        )
        self._positive("step")
        schema = msgspec.structs.replace(schema, options=self._options(schema))
        return msgspec.structs.replace(schema, default=self._default(schema))

    def _default(self, schema: ParameterSchema) -> Any:
        node = self._nodes.get("default")
        if node is None or (isinstance(node, Scalar) and scalar_value(node) is None):
            return None
        try:
            return self._converted(msgspec.structs.replace(schema, required=False), node)
        except BadInput as error:
            self._findings.wrong(node.place, f"{self._path}.default", error.message)
            return None

    def _options(self, schema: ParameterSchema) -> tuple[Any, ...]:
        node = self._nodes.get("options")
        if node is None:
            return ()
        if not isinstance(node, Sequence) or not node.items:
            self._findings.wrong(
                node.place, f"{self._path}.options", f"expected a list of values, got {shown(node)}"
            )
            return ()
        found: list[Any] = []
        for item in node.items:
            value = (item.get("value") or item) if isinstance(item, Mapping) else item
            try:
                found.append(self._converted(schema, value))
            except BadInput as error:
                self._findings.wrong(item.place, f"{self._path}.options", error.message)
        return tuple(found)

    @staticmethod
    def _converted(schema: ParameterSchema, node: Node) -> Any:
        return convert(schema, plain_value(node), node.text if isinstance(node, Scalar) else None)

    def _variable(self) -> str:
        name = self._text("env_var")
        if name and (wrong := wrong_name(name)):
            self._findings.wrong(self._nodes["env_var"].place, f"{self._path}.env_var", f"{name[:80]!r}: {wrong}")
            return ""
        return name

    def _text(self, name: str) -> str:
        node = self._nodes.get(name)
        if node is None:
            return ""
        if not isinstance(node, Scalar):
            self._findings.wrong(node.place, f"{self._path}.{name}", f"expected text, got {shown(node)}")
            return ""
        return "" if scalar_value(node) is None else node.text.strip()

    def _number(self, name: str) -> float | None:
        node = self._nodes.get(name)
        if node is None:
            return None
        value = scalar_value(node) if isinstance(node, Scalar) else node
        if value is None:
            return None
        try:
            if not isinstance(value, bool) and isinstance(value, int | float) and not math.isnan(value):
                return float(value)
        except OverflowError:
            pass
        self._findings.wrong(node.place, f"{self._path}.{name}", f"expected a number, got {shown(node)}")
        return None

    def _positive(self, name: str) -> float | None:
        number = self._number(name)
        if number is not None and not 0 < number < float("inf"):
            self._findings.wrong(self._nodes[name].place, f"{self._path}.{name}", "expected a number above 0")
            return None
        return number

    def _flag(self, name: str) -> bool:
        node = self._nodes.get(name)
        if node is None:
            return False
        value = scalar_value(node) if isinstance(node, Scalar) else node
        if not isinstance(value, bool):
            self._findings.wrong(node.place, f"{self._path}.{name}", f"expected true or false, got {shown(node)}")
            return False
        return value
