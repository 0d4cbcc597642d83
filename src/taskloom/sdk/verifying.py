"""Run a task again and see whether the same comes out: a clone for a queue, both runs read back, the verdict kept.

What is compared and how stands in `domain.verification`; how a person follows the run is the caller's. Both tasks keep
the verdict in their runtime, which is not a result: a published task keeps it, too.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from taskloom.domain.errors import BadInput, Conflict, NotFound, TaskloomError
from taskloom.domain.project import MAX_NAME
from taskloom.domain.status import ENDED, Status
from taskloom.domain.task import NOT_COPIED_TAGS, VERIFICATION, Task, TaskEdit
from taskloom.domain.verification import Curve, Tolerance, Verification, compare_runs
from taskloom.wire.messages import Enqueue, PointsQuery, TaskClone, TaskDelete, TaskEditRequest
from taskloom.wire.operations import (
    CLONE_TASK,
    DELETE_TASK,
    EDIT_TASK,
    ENQUEUE_TASK,
    GET_MODEL,
    GET_POINTS,
    GET_TASK,
)

if TYPE_CHECKING:
    from taskloom.wire.send import Client

NAME = "Verification of "


def run_again(client: Client, original: Task, queue: str) -> Task:
    """A pending clone, marked as what it is. BadInput for a task that has not ended; whatever enqueueing raises."""
    check_ended(original)
    tags = tuple(tag for tag in original.system_tags if tag not in NOT_COPIED_TAGS)
    name = f"{NAME}{original.name}"[:MAX_NAME].rstrip()
    edit = TaskEdit(system_tags=(*tags, VERIFICATION))
    clone = client.call(CLONE_TASK, TaskClone(name=name, edit=edit), task=original.id)
    try:
        return client.call(ENQUEUE_TASK, Enqueue(queue=queue), task=clone.id)
    except TaskloomError:
        with contextlib.suppress(TaskloomError):  # a draft that nobody asked for should not stay
            client.call(DELETE_TASK, query=TaskDelete(), task=clone.id)
        raise


def check_ended(task: Task) -> None:
    if task.status not in ENDED:
        raise BadInput(f"task {task.id} is {task.status.value}: only a task that has ended can be compared")


def compare(client: Client, first: str, second: str, tolerance: Tolerance) -> Verification:
    """What two ended tasks have in common. BadInput when one has not ended."""
    tasks = client.call(GET_TASK, task=first), client.call(GET_TASK, task=second)
    for task in tasks:
        check_ended(task)

    def curve(task: Task, title: str, series: str) -> Curve:
        points = client.call(GET_POINTS, query=PointsQuery(title=title, series=series, points=0), task=task.id)
        return Curve(points.iteration, points.value)

    models = (_models(client, tasks[0]), _models(client, tasks[1]))
    return compare_runs(tasks[0], tasks[1], models, curve, tolerance, time.time())


def keep(client: Client, verification: Verification) -> str:
    """Write the verdict to both tasks; why that was not possible, or ''."""
    edit = TaskEdit(runtime={VERIFICATION: verification.kept()})
    try:
        for task in (verification.task, verification.by):
            client.call(EDIT_TASK, TaskEditRequest(edit=edit), task=task)
    except TaskloomError as error:
        return error.message
    return ""


def verify(client: Client, original: Task, queue: str, tolerance: Tolerance, timeout: float) -> Verification:
    """Run again, wait, compare, keep. `timeout` in seconds, 0 without end; when it is over the clone goes on, and
    Conflict is raised.
    """
    clone = run_again(client, original, queue)
    deadline = time.monotonic() + timeout if timeout else float("inf")
    while True:
        found = client.call(GET_TASK, task=clone.id)
        if found.status in ENDED:
            break
        if found.status is Status.DRAFT:
            raise BadInput(f"task {clone.id} was taken out of its queue: nothing was verified")
        if time.monotonic() > deadline:
            raise Conflict(f"task {clone.id} is still {found.status.value} after {timeout:g} seconds")
        time.sleep(min(1.0, max(deadline - time.monotonic(), 0.0)))
    verification = compare(client, original.id, clone.id, tolerance)
    keep(client, verification)
    return verification


def _models(client: Client, task: Task) -> dict[str, str]:
    found: dict[str, str] = {}
    for link in task.models:
        try:
            model = client.call(GET_MODEL, model=link.model)
        except NotFound:
            found[f"{link.direction}/{link.name}"] = ""
            continue
        found[f"{link.direction}/{link.name}"] = model.digest or model.fingerprint
    return found
