"""Finding tasks: the arguments of `get_task`, `get_tasks` and `query_tasks` become one `TaskQuery`.

Names in `task_filter` that do not exist are refused with the list of those that do: a filter that is
silently ignored returns the wrong tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from taskloom.domain.errors import BadInput, NotFound
from taskloom.domain.status import Status
from taskloom.domain.task import ARCHIVED_TAG, Task, TaskType
from taskloom.wire.messages import TaskQuery
from taskloom.wire.operations import GET_TASK, QUERY_TASKS

if TYPE_CHECKING:
    from taskloom.wire.send import Client

PAGE = 1000
_LISTS = {"tags": "tags", "system_tags": "system_tags", "user": "user", "parent": "parent", "id": "ids"}
_KNOWN = (*_LISTS, "status", "type", "search_text", "name", "order_by", "hidden")


def find_one(
    client: Client,
    task_id: str | None,
    project_name: str | None,
    task_name: str | None,
    tags: Sequence[str] | None,
    allow_archived: bool,
    task_filter: Mapping[str, Any] | None,
) -> Task:
    """By id, or the last modified one of that project and exact name; NotFound names what was asked for."""
    if task_id:
        return client.call(GET_TASK, task=task_id)
    if not (project_name or task_name or tags or task_filter):
        raise BadInput("get_task: give task_id, or project_name and task_name")
    query = build_query(project_name, task_name, tags, task_filter, exact=True)
    for system_tags in _archived_last(query, allow_archived):
        narrowed = msgspec.structs.replace(query, system_tags=system_tags, limit=1)
        found = client.call(QUERY_TASKS, narrowed).tasks
        if found:
            return found[0]
    wanted = ", ".join(f"{what} {value!r}" for what, value in (
        ("project", project_name), ("name", task_name), ("tags", tags), ("filter", task_filter)) if value)  # fmt: skip
    raise NotFound(f"no task with {wanted}")


def find_many(
    client: Client,
    task_ids: Sequence[str] | None,
    project_name: str | Sequence[str] | None,
    task_name: str | None,
    tags: Sequence[str] | None,
    allow_archived: bool,
    task_filter: Mapping[str, Any] | None,
) -> list[Task]:
    """All that match, last modified first; `task_name` is a part of the name, `project_name` a whole path."""
    if task_ids is not None and not task_ids:
        return []
    projects = [project_name] if isinstance(project_name, str) or project_name is None else list(project_name)
    found: dict[str, Task] = {}
    for project in projects:
        query = build_query(project, task_name, tags, task_filter, exact=False)
        if task_ids:
            query = msgspec.structs.replace(query, ids=list(task_ids))
        for system_tags in _archived_last(query, allow_archived):
            found |= {
                task.id: task for task in _pages(client, msgspec.structs.replace(query, system_tags=system_tags))
            }
    return list(found.values())


def build_query(
    project: str | None,
    name: str | None,
    tags: Sequence[str] | None,
    task_filter: Mapping[str, Any] | None,
    *,
    exact: bool,
) -> TaskQuery:
    fields: dict[str, Any] = {"project": project or "", "name": name or "", "exact_name": exact and bool(name)}
    for key, value in (task_filter or {}).items():
        if key not in _KNOWN:
            raise BadInput(f"task_filter has no {key!r}; expected some of {', '.join(_KNOWN)}")
        if value is None:
            continue
        if key in _LISTS:
            fields[_LISTS[key]] = _texts(key, value)
        elif key == "status":
            fields["status"] = [_one_of(Status, key, text) for text in _texts(key, value)]
        elif key == "type":
            fields["type"] = [_one_of(TaskType, key, text) for text in _texts(key, value)]
        elif key == "search_text":
            fields["search"] = str(value)
        elif key == "order_by":
            fields["order_by"] = _texts(key, value)
        else:
            fields[key] = value
    if tags is not None:
        fields["tags"] = _texts("tags", tags)
    try:
        return msgspec.convert(fields, TaskQuery)
    except msgspec.ValidationError as error:
        raise BadInput(f"task_filter: {error}") from None


def _archived_last(query: TaskQuery, allow_archived: bool) -> list[list[str]]:
    """The server leaves archived tasks out unless they are asked for: then it is asked twice."""
    if not allow_archived or query.system_tags:
        return [query.system_tags]
    return [[], [ARCHIVED_TAG]]


def _pages(client: Client, query: TaskQuery) -> list[Task]:
    found: list[Task] = []
    while True:
        page = client.call(QUERY_TASKS, msgspec.structs.replace(query, limit=PAGE, offset=len(found))).tasks
        found += page
        if len(page) < PAGE:
            return found


def _texts(key: str, value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list | tuple | set | frozenset):
        raise BadInput(f"task_filter: {key} is a list of texts, got {type(value).__name__}")
    return [str(getattr(item, "value", item)) for item in value]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _one_of(kind: Any, key: str, text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        names = ", ".join(member.value for member in kind)
        raise BadInput(f"task_filter: {key} {text!r}: expected one of {names}") from None
