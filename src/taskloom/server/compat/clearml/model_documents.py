"""Our model as ClearML's model document, ClearML's fields as an edit of ours, and its filters as a query.

Metadata are values here and texts with a type there: numbers and flags are translated where the text comes back
the same, other types are kept with their type beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from taskloom.domain.artifact import Model
from taskloom.server.compat.clearml.addresses import artifact_url
from taskloom.server.compat.clearml.call import Data, flag, table, tables, text, texts
from taskloom.server.compat.clearml.documents import moment
from taskloom.server.compat.clearml.errors import BAD_FIELD, Refusal
from taskloom.server.compat.clearml.filters import NOTHING, members, members_list, moments, numbers, one_text
from taskloom.server.compat.clearml.filters import tags_or_none as either_tags
from taskloom.server.compat.clearml.people import People
from taskloom.server.compat.clearml.tokens import COMPANY
from taskloom.wire.messages import Condition, ModelEdit, ModelQuery

DESIGN = "design"
_METADATA = "metadata."
_TYPES: dict[str, type] = {"int": int, "float": float, "bool": bool}
_KEYS = {
    "id": "id",
    "name": "name",
    "comment": "comment",
    "user": "user",
    "framework": "framework",
    "task": "task",
    "parent": "parent",
    "project": "project",
    "project.name": "project",
    "uri": "uri",
    "ready": "published",
    "created": "created",
    "last_update": "last_update",
    "last_change": "last_update",
    "last_iteration": "iteration",
}
"""ClearML's field of a model -> our key."""


# --- our model, told --------------------------------------------------------------------------------------


def model_document(model: Model, projects: Mapping[str, str], people: People, origin: str) -> dict[str, Any]:
    """`projects`: ids by path."""
    return {
        "id": model.id,
        "name": model.name,
        "project": projects.get(model.project),
        "task": model.task or None,
        "parent": model.parent or None,
        "user": people.id_of(model.user) or None,
        "company": COMPANY,
        "comment": model.comment,
        "tags": list(model.tags),
        "system_tags": list(model.system_tags),
        "framework": model.framework or None,
        "design": {DESIGN: model.design},
        "labels": dict(model.labels),
        "uri": artifact_url(origin, model) or None,
        "ready": model.published,
        "created": moment(model.created),
        "last_update": moment(model.last_update),
        "last_change": moment(model.last_update),
        "last_iteration": model.iteration or 0,
        "metadata": {key: _item(key, value) for key, value in model.metadata.items()},
        "ui_cache": {},
        "stats": {},
    }


def _item(key: str, value: Any) -> dict[str, str]:
    if isinstance(value, dict) and cast("dict[str, Any]", value).keys() == {"type", "value"}:
        kept = cast("dict[str, Any]", value)
        return {"key": key, "type": str(kept["type"]), "value": str(kept["value"])}
    if isinstance(value, str | bool | int | float):
        return {"key": key, "type": type(value).__name__, "value": str(value)}
    kind = "list" if isinstance(value, list) else "dict" if isinstance(value, dict) else "str"
    return {"key": key, "type": kind, "value": msgspec.json.encode(value, enc_hook=str).decode()}


# --- ClearML's fields, read -------------------------------------------------------------------------------


def edit_of(body: Data, project: str | None) -> ModelEdit:
    """What the body speaks of; fields with None stay. `project`: the path of the project that it names."""

    def given(name: str) -> str | None:
        return None if body.get(name) is None else text(body, name)

    def words(name: str) -> tuple[str, ...] | None:
        return None if body.get(name) is None else tuple(dict.fromkeys(texts(body, name)))

    iteration = body.get("iteration")
    if iteration is not None and (not isinstance(iteration, int) or isinstance(iteration, bool)):
        raise _wrong("iteration", iteration, "a whole number")
    return ModelEdit(
        name=given("name"),
        project=project,
        comment=given("comment"),
        tags=words("tags"),
        system_tags=words("system_tags"),
        task=given("task"),
        parent=given("parent"),
        labels=None if body.get("labels") is None else _labels(table(body, "labels")),
        design=None if body.get(DESIGN) is None else _design(body[DESIGN]),
        framework=given("framework"),
        iteration=iteration,
        metadata=None if body.get("metadata") is None else metadata_of(body["metadata"]),
        uri=given("uri"),
    )


def metadata_of(items: Any) -> dict[str, Any]:
    """A list of `{key, type, value}`, or a dictionary of such."""
    if isinstance(items, dict):
        named = cast("dict[str, Any]", items).items()
        listed: Any = [
            {"key": key, **(item if isinstance(item, dict) else {"value": item})} for key, item in named
        ]
    else:
        listed = items
    found: dict[str, Any] = {}
    for item in tables({"metadata": listed}, "metadata"):
        key = text(item, "key")
        if not key:
            raise _wrong("metadata", item, "an object with a key")
        found[key] = _value(text(item, "type"), text(item, "value"))
    return found


def _value(kind: str, value: str) -> Any:
    if kind in {"", "None", "str"}:
        return value
    if kind in _TYPES:
        try:
            read = value == "True" if kind == "bool" else _TYPES[kind](value)
        except (ValueError, OverflowError):
            read = None
        if str(read) == value and value not in {"nan", "inf", "-inf"} and not (kind == "int" and len(value) > 18):
            return read
    return {"type": kind, "value": value}


def _labels(labels: Mapping[str, Any]) -> dict[str, int]:
    try:
        return {name: int(value) for name, value in labels.items()}
    except (TypeError, ValueError, OverflowError):
        raise _wrong("labels", dict(labels), "names with whole numbers") from None


def _design(design: Any) -> str:
    """ClearML's clients wrap one text; other dictionaries are kept as JSON."""
    if isinstance(design, str):
        return design
    if not isinstance(design, dict):
        raise _wrong(DESIGN, design, "an object")
    found = cast("dict[str, Any]", design)
    if not found:
        return ""
    if found.keys() == {DESIGN} and isinstance(found[DESIGN], str):
        return found[DESIGN]
    return msgspec.json.encode(found, enc_hook=str).decode()


# --- filters ----------------------------------------------------------------------------------------------


def model_query(body: Data, projects: Mapping[str, str], people: People, at_uris: Sequence[str]) -> ModelQuery:
    """`projects`: paths by the ids that the body names; `at_uris`: models whose weights the body's uris reach."""
    where: list[Condition] = []
    any_of: list[list[Condition]] = []
    tags: dict[str, list[str]] = {"tags": [], "system_tags": []}
    for path, value in body.items():
        if value is None or value == []:
            continue
        if path in tags:
            words = members_list(path, value)
            if None in words:
                any_of += either_tags(path, words)
            else:
                tags[path] = [word for word in words if word is not None]
        elif path == "uri":
            addresses: list[float | str] = list(texts(body, path))
            either = [Condition(key="uri", is_="in", value=addresses)]
            any_of.append([*either, Condition(key="id", is_="in", value=list(at_uris))])
        elif path.startswith(_METADATA):
            key = path.removesuffix(".value")
            where += members(path, value).conditions(key) if key != _METADATA else []
        elif path in _KEYS:
            where += _conditions(path, _KEYS[path], value, projects, people)
    for name in ("_any_", "_or_", "_all_", "_and_"):
        several = _several(name, table(body, name))
        any_of += several
    search = body.get("search_text")
    if search is not None and one_text("search_text", search).strip():
        fields = ("id", "name", "comment")
        any_of.append([Condition(key=key, is_="contains", value=str(search).strip()) for key in fields])
    return ModelQuery(
        tags=tags["tags"], system_tags=tags["system_tags"], where=where, any_of=any_of, order_by=_orders(body)
    )


def _conditions(path: str, key: str, value: Any, projects: Mapping[str, str], people: People) -> list[Condition]:
    match key:
        case "name" | "comment":
            return [Condition(key=key, is_="matches", value=one_text(path, value))] if value != "" else []
        case "published":
            return [Condition(key=key, value=str(flag({path: value}, path)))]
        case "created" | "last_update":
            return [Condition(key=key, is_=comparison, value=bound) for comparison, bound in moments(path, value)]
        case "iteration":
            return [Condition(key=key, is_=comparison, value=bound) for comparison, bound in numbers(path, value)]
        case "project" if path == "project":
            return members(path, value).conditions(key, lambda project: projects.get(project, f"/{project}"))
        case "user":
            return members(path, value).conditions(key, lambda user: people.name_of(user) or user)
        case _:
            return members(path, value).conditions(key)


def _several(name: str, given: Mapping[str, Any]) -> list[list[Condition]]:
    """A pattern that any or all of some fields have to match; all of the lists have to hold in one entry each."""
    pattern, asked = given.get("pattern"), texts(given, "fields")
    if not pattern or not asked:
        return []
    wanted = f"(?i){one_text(name, pattern)}"
    known = [_KEYS.get(field, "") for field in asked]
    tests = [
        Condition(key=key, is_="matches", value=wanted)
        if key and key not in {"published", "created", "last_update", "iteration"}
        else NOTHING
        for key in known
    ]
    return [tests] if name in {"_any_", "_or_"} else [[test] for test in tests]


def _orders(body: Data) -> list[str]:
    found: list[str] = []
    for word in texts(body, "order_by"):
        key = _KEYS.get(word.removeprefix("-"))
        if key is not None:
            found.append(f"-{key}" if word.startswith("-") else key)
    return found[:8] or ["created"]


def _wrong(name: str, value: object, expected: str) -> Refusal:
    return Refusal(f"field {name!r}: {str(value)[:80]!a} is not {expected}", 400, BAD_FIELD)
