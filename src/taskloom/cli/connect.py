"""From what a person types to the server and the thing that is meant.

A task is meant by its id, by the beginning of its id (at least four characters), by `PROJECT/NAME` (the one
that changed last), or by an address that ends in its id. Names may hold slashes, so every way to divide is
tried, the longest project first.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated

import typer

from taskloom.domain.errors import BadInput, NotFound, ServerAway
from taskloom.domain.project import Project
from taskloom.domain.task import Task
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.connection import find_address
from taskloom.wire.send import Client

TaskReference = Annotated[
    str,
    typer.Argument(
        metavar="TASK",
        help="Id, the beginning of an id (at least 4 characters), or PROJECT/NAME.",
        show_default=False,
    ),
]
ProjectReference = Annotated[
    str, typer.Argument(metavar="PROJECT", help="Path such as main/sub, or id.", show_default=False)
]
QueueReference = Annotated[
    str, typer.Argument(metavar="QUEUE", help="Name or id of the queue.", show_default=False)
]

SHORTEST_PREFIX = 4
PAGE = 1000
_ID = re.compile(r"[0-9a-f]{32}")
_PREFIX = re.compile(r"[0-9a-f]{4,31}")
NO_SERVER = (
    "no Taskloom server found: start one here with `taskloom up`, or name one with --url and --api-key "
    "(or TASKLOOM_URL and TASKLOOM_API_KEY)"
)


@contextmanager
def server() -> Generator[Client]:
    """A connection to the server that the options, the environment or this machine's data folder name."""
    address = find_address()
    if address is None:
        raise ServerAway(NO_SERVER)
    client = Client(address)
    try:
        yield client
    finally:
        client.close()


def task_id(client: Client, reference: str) -> str:
    """The full id of the task that is meant; a full id is believed without asking."""
    reference = reference.strip()
    last_part = reference.rstrip("/").rpartition("/")[2]
    if _ID.fullmatch(last_part) and (last_part == reference or "://" in reference):
        return last_part
    if _PREFIX.fullmatch(reference):
        return _by_prefix(client, reference)
    if "/" in reference:
        return _by_name(client, reference)
    if re.fullmatch(r"[0-9a-f]+", reference) and len(reference) < SHORTEST_PREFIX:
        raise BadInput(f"task {reference!r}: an id needs at least {SHORTEST_PREFIX} characters of its beginning")
    raise NotFound(
        f"no task {reference!r}: give an id, the beginning of one (at least {SHORTEST_PREFIX} characters), "
        "or PROJECT/NAME"
    )


def find_task(client: Client, reference: str) -> Task:
    """The whole task that is meant."""
    return client.call(op.GET_TASK, task=task_id(client, reference))


def find_project(client: Client, reference: str) -> Project:
    """A project by its path or id."""
    found = client.call(op.LIST_PROJECTS, query=m.ProjectQuery(name=reference, limit=1)).projects
    if found:
        return found[0]
    if _ID.fullmatch(reference):
        return client.call(op.GET_PROJECT, project=reference)
    raise NotFound(f"no project {reference!r}; `taskloom project list` shows them")


def task_address(client: Client, task: str) -> str:
    """Where a task can be read on the server."""
    return client.address.task(task)


def _by_prefix(client: Client, prefix: str) -> str:
    found = _ids_with(client, prefix)
    if not found:
        raise NotFound(f"no task whose id begins with {prefix!r}")
    if len(found) > 1:
        listed = "\n".join(f"  {task.id}  {task.project}/{task.name}" for task in found[:10])
        more = f"\n  ... and {len(found) - 10} more" if len(found) > 10 else ""
        raise BadInput(
            f"{prefix!r} is the beginning of {len(found)} task ids; which one?\n{listed}{more}",
            tasks=[task.id for task in found],
        )
    return found[0].id


def _ids_with(client: Client, prefix: str) -> list[Task]:
    """Tasks whose id begins so; the server's search also looks into names, so pages are read to the end."""
    found: list[Task] = []
    offset = 0
    while True:
        query = m.TaskQuery(search=prefix, hidden=True, fields=["name"], limit=PAGE, offset=offset)
        page = client.call(op.QUERY_TASKS, query).tasks
        found += [task for task in page if task.id.startswith(prefix)]
        offset += PAGE
        if len(page) < PAGE:
            return found


def _by_name(client: Client, reference: str) -> str:
    parts = reference.split("/")
    for hidden in (False, True):  # archived ones only when there is no other
        for cut in range(len(parts) - 1, 0, -1):
            project, name = "/".join(parts[:cut]), "/".join(parts[cut:])
            if not project or not name:
                continue
            query = m.TaskQuery(
                project=project, name=name, exact_name=True, hidden=hidden, fields=["name"], limit=1
            )
            try:
                found = client.call(op.QUERY_TASKS, query).tasks
            except NotFound:  # no such project
                continue
            if found:
                return found[0].id
    raise NotFound(f"no task {reference!r}: the last part is the name, what stands before it the project")
