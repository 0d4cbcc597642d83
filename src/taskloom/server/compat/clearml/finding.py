"""ClearML's calls that find tasks: by filters, page over page or in a scroll, with as much of each as was asked.

Only what the asked fields are made of is read. A list without an order is told in the order of creation, so that
what happens between two pages moves nothing; a scroll without an order goes by the ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from taskloom.domain.task import Task
from taskloom.server.compat.clearml.call import ClearMLCall, Data, Endpoints, Rooms, flag, reads, texts
from taskloom.server.compat.clearml.documents import task_document
from taskloom.server.compat.clearml.people import People
from taskloom.server.compat.clearml.projecting import MAX_PAGE, PAGE, Paging, only, paging
from taskloom.server.compat.clearml.queries import MetricNames, names_for, task_query
from taskloom.wire.messages import Condition, TaskQuery

READ_AT_ONCE = 1000  # tasks of one look into the database
FIRST_ONLY = frozenset({"id", "name", "last_update", "system_tags"})
"""What the SDK's `Task.get_tasks` and `query_tasks` ask for. `get_tasks` looks at the first page of 500 only, so it
is told all that match on that page, and `query_tasks`, which goes on while pages are full, ends with it. When more
match than one answer may hold, both get pages of 500 as they asked, and `get_tasks` warns of the cut."""


def endpoints(rooms: Rooms) -> Endpoints:
    metrics = MetricNames(rooms)

    async def found(call: ClearMLCall) -> tuple[list[Task], People, dict[str, Any]]:
        """The tasks of the page, who is who, and what the answer says of a scroll."""
        body = await _with_subprojects(rooms, call.body)
        names = await names_for(rooms, metrics, body)
        query, page = task_query(body, names), paging(body)
        if page == Paging(PAGE) and frozenset(texts(body, "only_fields")) == FIRST_ONLY:
            tasks = await _tasks(rooms, query, MAX_PAGE + 1, 0)
            return tasks if len(tasks) <= MAX_PAGE else tasks[:PAGE], names.people, {}
        if not page.scrolls or texts(body, "order_by"):
            tasks = await _tasks(rooms, query, page.limit, page.offset)
        else:
            tasks = await _tasks(rooms, _behind(query, page.after), page.limit, 0)
        told = {"scroll_id": page.next([task.id for task in tasks])} if page.scrolls else {}
        return tasks, names.people, told

    async def get_all(call: ClearMLCall) -> Data:
        tasks, people, told = await found(call)
        wanted = texts(call.body, "only_fields")
        return {"tasks": [only(task_document(task, people, call.origin), wanted) for task in tasks], **told}

    async def get_all_ex(call: ClearMLCall) -> Data:
        """What a document names by id is told with its name."""
        tasks, people, told = await found(call)
        wanted = texts(call.body, "only_fields")
        parents = await _parents(rooms, tasks)
        documents = [_expanded(task_document(task, people, call.origin), task, parents) for task in tasks]
        return {"tasks": [only(document, wanted) for document in documents], **told}

    return {
        "tasks.get_all": reads(get_all),
        "tasks.get_all_ex": reads(get_all_ex),
        "tasks.get_by_id_ex": reads(get_all_ex),
    }


async def _tasks(rooms: Rooms, query: TaskQuery, limit: int, offset: int) -> list[Task]:
    tasks: list[Task] = []
    while len(tasks) < limit:
        size = min(limit - len(tasks), READ_AT_ONCE)
        part = msgspec.structs.replace(query, limit=size, offset=offset + len(tasks))
        found = (await rooms.tasks.query_tasks(part)).tasks
        tasks += found
        if len(found) < size:
            break
    return tasks


def _behind(query: TaskQuery, after: str) -> TaskQuery:
    """In the order of ids, from this one on."""
    where = [*query.where, Condition(key="id", is_=">", value=after)] if after else query.where
    return msgspec.structs.replace(query, where=where, order_by=["id"])


async def _with_subprojects(rooms: Rooms, body: Data) -> Data:
    """`include_subprojects` stands for the ids of those below, too."""
    wanted = texts(body, "project")
    if not wanted or not flag(body, "include_subprojects"):
        return body
    return {**body, "project": await rooms.projects.ids_below(wanted)}


async def _parents(rooms: Rooms, tasks: Sequence[Task]) -> Mapping[str, Task]:
    ids = sorted({task.parent for task in tasks if task.parent})
    if not ids:
        return {}
    query = TaskQuery(ids=ids, fields=["name"], count_to=0)
    return {task.id: task for task in await _tasks(rooms, query, len(ids), 0)}


def _expanded(document: dict[str, Any], task: Task, parents: Mapping[str, Task]) -> dict[str, Any]:
    document["project"] = {
        "id": task.project_id,
        "name": task.project,
        "basename": task.project.rpartition("/")[2],
    }
    document["user"] = {"id": document["user"], "name": task.user}
    if task.parent:
        parent = parents.get(task.parent)
        document["parent"] = {"id": task.parent, **({"name": parent.name} if parent else {})}
    if task.queue:
        document["execution"]["queue"] = {"id": task.queue, "name": task.queue_name}
    return document
