"""Bringing a task to a state in one step, by whichever moves lead there; and back to a draft.

Scripts of other systems say which state their task shall have, and say it again when they missed the answer: a
task that is there already stays as it is. All functions work in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from sqlalchemy import Connection

from taskloom.domain.errors import IllegalMove
from taskloom.domain.execution import Execution
from taskloom.domain.status import ENDED, Move, Status, way
from taskloom.domain.task import how_to_run
from taskloom.server.artifacts.service import ArtifactService
from taskloom.server.tasks import moves, store
from taskloom.server.tasks.checks import told
from taskloom.server.tasks.removal import Removal
from taskloom.wire.messages import MoveRequest
from taskloom.wire.worker_protocol import STOPPING

HELD = frozenset({Status.PENDING, Status.RUNNING})


def bring(
    tx: Connection,
    found: store.Found,
    target: Status,
    why: MoveRequest,
    now: float,
    sources: Collection[Status] | None = None,
) -> store.Found:
    """The task in the state `target`; IllegalMove when it is in none of `sources`, or no moves lead there.

    A task that a worker runs is ended by its worker: what is told about its end here is kept for then.
    """
    steps = way(found.status, target)
    if found.status is target or (found.lease and target in ENDED - {Status.PUBLISHED}):
        return _with_words(tx, found, why)
    if steps is None or found.lease or (sources is not None and found.status not in sources):
        raise IllegalMove(
            f"a task that is {found.status.value} cannot become {target.value}",
            status=found.status.value,
            allowed=sorted(sources or ()),
        )
    if found.status is Status.PENDING:
        store.leave_queue(tx, found.task.id)
    for step in steps:
        found = moves.make(tx, found, step, now=now, reason=why.reason, message=why.message)
    return found


def _with_words(tx: Connection, found: store.Found, why: MoveRequest) -> store.Found:
    """The last words about a task whose state stays; a worker that was asked to stop it still is."""
    changes: dict[str, Any] = {}
    if why.reason:
        changes["status_reason"] = told(why.reason)
    if why.message and found.task.status_message != STOPPING:
        changes["status_message"] = told(why.message)
    after = msgspec.structs.replace(found.task, **changes)
    store.change(tx, found, after)
    return store.Found(after, found.lease, found.opener)


class Resetting:
    """Back to a draft; results go, their bytes when nothing else names them."""

    def __init__(self, artifacts: ArtifactService, removal: Removal) -> None:
        self._artifacts, self._removal = artifacts, removal

    def reset(self, tx: Connection, task_id: str, request: MoveRequest, now: float, *, clear: bool) -> str:
        """The queue that it waited in, or nothing. `clear`: what to run goes, too; parameters stay."""
        found = moves.known(tx, task_id)
        reason, message = request.reason, request.message
        queue = found.task.queue if found.status is Status.PENDING else ""
        if found.status in HELD and request.force:
            store.leave_queue(tx, task_id)
            moves.move(tx, task_id, Move.ABORT, now=now, reason=reason, message=message, lease=None)
        moves.move(tx, task_id, Move.RESET, now=now, reason=reason, message=message, queue_id="", lease=None)
        links = self._artifacts.links_of_task(tx, task_id)
        self._removal.drop_results(tx, task_id)
        draft = moves.known(tx, task_id)
        self._removal.keep_inputs(tx, draft.task, links)
        after = msgspec.structs.replace(draft.task, runtime=how_to_run(draft.task.runtime))
        if clear:
            after = msgspec.structs.replace(after, execution=Execution())
        store.change(tx, draft, after, opener="")
        return queue
