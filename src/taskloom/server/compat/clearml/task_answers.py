"""What the calls about tasks share: which task is meant, what is told of it afterwards, and the same for many."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from taskloom.domain.errors import TaskloomError
from taskloom.domain.status import Status
from taskloom.domain.task import Task
from taskloom.server.compat.clearml.call import ClearMLCall, Data, flag, needed, texts
from taskloom.server.compat.clearml.documents import STATUSES, moment
from taskloom.server.compat.clearml.errors import INVALID_TASK, MISSING_FIELD, Refusal, told

MOST = 1000  # tasks in one call
OPEN = frozenset({Status.DRAFT, Status.PENDING, Status.RUNNING})
"""States in which what to run may be edited without force: a run edits its own, and nobody's copy is stale."""
UNPUBLISHED = frozenset(Status) - {Status.PUBLISHED}
_ID = re.compile(r"[0-9a-f]{32}")

One = Callable[[str], Awaitable[Mapping[str, Any]]]


def check_task_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise Refusal(f"no task {text[:80]!a}: expected 32 hexadecimal digits", 400, INVALID_TASK)
    return text


def task_id(body: Data, name: str = "task") -> str:
    """The task that a call is about."""
    return check_task_id(needed(body, name))


def task_ids(body: Data, name: str) -> list[str]:
    """The tasks that a call is about, each once."""
    found = list(dict.fromkeys(texts(body, name)))
    if not found:
        raise Refusal(f"missing field {name!r}", 400, MISSING_FIELD)
    if len(found) > MOST:
        raise Refusal(f"field {name!r}: {len(found)} tasks; expected at most {MOST}", 400)
    return found


def open_states(body: Data) -> frozenset[Status]:
    return UNPUBLISHED if flag(body, "force") else OPEN


def changed(task: Task, **more: Any) -> dict[str, Any]:
    """The answer of most calls that change a task."""
    fields = {
        "status": STATUSES[task.status],
        "status_reason": task.status_reason,
        "status_message": task.status_message,
        "status_changed": moment(task.status_changed),
        "last_update": moment(task.last_update),
        "last_change": moment(task.last_update),
        "started": moment(task.started),
        "completed": moment(task.completed),
    }
    return {"updated": 1, "fields": fields, **more}


async def for_each(call: ClearMLCall, one: One) -> dict[str, Any]:
    """The same for each of `ids`: who succeeded, and who did not and why."""
    succeeded: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for wanted in task_ids(call.body, "ids"):
        try:
            succeeded.append({"id": wanted, **await one(check_task_id(wanted))})
        except TaskloomError as error:
            if error.http_status >= 500:  # the client shall ask again
                raise
            wrong: dict[str, Any] = {"codes": list(told(error)), "msg": error.message, "data": {}}
            failed.append({"id": wanted, "error": wrong})
    return {"succeeded": succeeded, "failed": failed}
