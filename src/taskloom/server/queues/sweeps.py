"""Sweeps: a task that is not run itself, but once for each combination of values.

Enqueueing such a task makes a task for each combination, in the order of its grid (the last name runs fastest), puts
them all into the queue, and lets the task itself run without a worker: one transaction. When the last of them has
ended it is completed, however they ended; how many did what stands in its message, and the best in its runtime under
`sweep`. A combination that somebody takes out of the queue, resets or deletes is not waited for. Aborting the task
aborts what is left of them.
"""

from __future__ import annotations

import itertools
import math
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import msgspec
from sqlalchemy import Connection

from taskloom.domain.errors import BadInput
from taskloom.domain.execution import Sweep as Grid
from taskloom.domain.parameters import DEFAULT_SECTION, Parameter, cast_like, decode, encode
from taskloom.domain.project import MAX_NAME
from taskloom.domain.status import Move, Status
from taskloom.domain.task import Task, how_to_run
from taskloom.server.queues import entry_store, lease_store, sweep_store
from taskloom.server.queues.attempts import Attempts, Changed
from taskloom.server.queues.waiting import Sweep, tally
from taskloom.server.tasks import moves, store
from taskloom.server.tasks.execution_checks import combinations_of
from taskloom.server.tasks.service import TaskService

RUNTIME = "sweep"  # the name in the runtime of a task that was a sweep
SCORE = "score"  # the name in the runtime under which a script's own score stands


class Sweeps:
    def __init__(self, tasks: TaskService, attempts: Attempts) -> None:
        self._tasks, self._attempts = tasks, attempts

    def combine(self, task: Task, grid: Grid, user: str, now: float) -> list[Task]:
        """The tasks for the combinations; raises BadInput when the task has no parameter of a name."""
        parameters = task.parameters.get(DEFAULT_SECTION, {})
        unknown = [name for name in grid.grid if name not in parameters]
        if unknown:
            raise BadInput(
                f"sweep: the task has no parameter {unknown[0][:80]!r} in the section {DEFAULT_SECTION}; "
                f"expected one of {', '.join(sorted(parameters)[:20]) or 'none'}",
                parameter=unknown[0][:80],
            )
        combinations_of(grid)
        return [_combination(task, values, user, now) for values in _products(grid, parameters)]

    def begin(self, tx: Connection, found: store.Found, made: list[Task], queue_id: str, now: float) -> Task:
        """The tasks are there and wait; what they belong to runs. What was left of an earlier time is let go."""
        sweep_store.drop_members(tx, found.task.id)
        self._tasks.add_waiting(tx, found.task, made, queue_id)
        sweep_store.add_members(tx, found.task.id, [task.id for task in made])
        message = f"a sweep of {len(made)} tasks"
        running = moves.make(tx, found, Move.START, now=now, message=message, at=now, queue_id=queue_id)
        return running.task

    def after(self, tx: Connection, changed: Changed, now: float) -> Changed:
        """The same, with the task whose last combination this was."""
        if not changed.task.parent or changed.task.status in {Status.PENDING, Status.RUNNING}:
            return changed
        sweep_id = sweep_store.note_end(tx, changed.task.id)
        if sweep_id is None or sweep_store.any_open(tx, sweep_id):
            return changed
        ended = self.settle(tx, sweep_id, now)
        return changed if ended is None else replace(changed, also=(*changed.also, ended))

    def settle(self, tx: Connection, sweep_id: str, now: float) -> Changed | None:
        """End the sweep when nothing of it runs or waits any more."""
        if not self.is_over(tx, sweep_id):
            return None
        found, so_far = store.find(tx, sweep_id), sweep_store.progress(tx, sweep_id)
        if found is None or found.status is not Status.RUNNING or found.lease or so_far is None:
            sweep_store.drop_members(tx, sweep_id)
            return None
        grid = found.task.execution.sweep
        best = None if grid is None else self._best(tx, sweep_id, grid)
        told = _told(so_far, best, grid)
        after = msgspec.structs.replace(found.task, runtime={**found.task.runtime, RUNTIME: told})
        store.change(tx, found, after)
        sweep_store.drop_members(tx, sweep_id)
        ended = moves.make(
            tx,
            store.Found(after, found.lease, found.opener),
            Move.COMPLETE,
            now=now,
            message=f"{tally(so_far)}{_words(best, grid)}",
            at=now,
        )
        return Changed(ended.task)

    def is_over(self, tx: Connection, sweep_id: str) -> bool:
        """Whether `settle` would end it, or forget that it was one."""
        return not sweep_store.any_going_on(tx, sweep_id)

    def settle_all(self, tx: Connection, now: float) -> list[Changed]:
        """Those whose tasks ended by other ways than a lease, or were deleted."""
        ended = [self.settle(tx, sweep_id, now) for sweep_id in sweep_store.open_sweeps(tx)]
        return [changed for changed in ended if changed is not None]

    def abort(self, tx: Connection, sweep_id: str, reason: str, now: float) -> tuple[Changed, ...]:
        """Abort what is left of its tasks: what waits at once, what runs by its worker."""
        waiting = sweep_store.members(tx, sweep_id, Status.PENDING)
        moves.abort_waiting(tx, waiting, reason, now)
        entry_store.remove_entries(tx, waiting)
        stopped: list[Changed] = []
        for task_id in sweep_store.members(tx, sweep_id, Status.RUNNING):
            lease = lease_store.open_lease(tx, task_id)
            if lease is not None and (not lease.stop or lease.give_back):
                self._attempts.stop(tx, lease, reason, now)
            elif lease is None:
                moves.move(tx, task_id, Move.ABORT, now=now, reason=reason)
            stopped.append(Changed(moves.known(tx, task_id).task))
        sweep_store.drop_members(tx, sweep_id)
        return tuple(stopped)

    def _best(self, tx: Connection, sweep_id: str, grid: Grid) -> dict[str, Any] | None:
        found = sweep_store.best_by_metric(tx, sweep_id, grid.metric, lower=grid.lower_is_better)
        found = found or self._best_by_score(tx, sweep_id, grid)
        if found is None:
            return None
        task = moves.known(tx, found[0]).task
        swept = task.parameters.get(DEFAULT_SECTION, {})
        values = {name: decode(swept[name]) for name in grid.grid if name in swept}
        return {"task": task.id, "name": task.name, "value": found[1], "parameters": values}

    def _best_by_score(self, tx: Connection, sweep_id: str, grid: Grid) -> tuple[str, float] | None:
        """By the score that the scripts gave themselves."""
        scored: list[tuple[float, str]] = []
        ids = sweep_store.members(tx, sweep_id, Status.COMPLETED, Status.PUBLISHED)
        for task_id, task in store.find_many(tx, ids, documents=True).items():
            number = _score(task.runtime.get(SCORE), grid.metric)
            if number is not None:
                scored.append((number if grid.lower_is_better else -number, task_id))
        if not scored:
            return None
        value, task_id = min(scored)
        return task_id, value if grid.lower_is_better else -value


def _combination(task: Task, values: dict[str, Parameter], user: str, now: float) -> Task:
    words = " ".join(f"{name}={parameter.value}" for name, parameter in values.items())
    section = {**task.parameters.get(DEFAULT_SECTION, {}), **values}
    return Task(
        id=uuid.uuid4().hex,
        name=" ".join(f"{task.name} {words}".split())[:MAX_NAME].rstrip(),
        project=task.project,
        project_id=task.project_id,
        type=task.type,
        status=Status.PENDING,
        status_changed=now,
        user=user,
        comment=task.comment,
        parent=task.id,
        tags=task.tags,
        system_tags=task.system_tags,
        created=now,
        last_update=now,
        execution=msgspec.structs.replace(task.execution, sweep=None),
        parameters={**task.parameters, DEFAULT_SECTION: section},
        configuration=task.configuration,
        properties=task.properties,
        runtime=how_to_run(task.runtime),
        output_uri=task.output_uri,
    )


def _products(grid: Grid, parameters: dict[str, Parameter]) -> Iterator[dict[str, Parameter]]:
    columns = [[_valued(parameters[name], name, value) for value in values] for name, values in grid.grid.items()]
    for values in itertools.product(*columns):
        yield dict(zip(grid.grid, values, strict=True))


def _valued(parameter: Parameter, name: str, value: Any) -> Parameter:
    """The value of the grid as that parameter has them."""
    if isinstance(value, str) and parameter.type not in {"", "str", "none"}:
        try:
            value = cast_like(value, decode(parameter))
        except BadInput as error:
            raise BadInput(f"sweep: parameter {name[:80]!r}: {error.message}", parameter=name[:80]) from None
    elif parameter.type == "str" and not isinstance(value, str):
        value = encode(value).value
    elif parameter.type == "float" and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    return encode(value, parameter.description)


def _score(told: Any, metric: str) -> float | None:
    if isinstance(told, dict):
        named = cast("dict[str, Any]", told)
        told = named.get(metric, named.get(metric.rpartition("/")[2]))
    if isinstance(told, bool) or not isinstance(told, int | float) or not math.isfinite(told):
        return None
    return float(told)


def _words(best: dict[str, Any] | None, grid: Grid | None) -> str:
    """`; best valley/height 0.5 with lr=0.1`, for people."""
    if best is None or grid is None:
        return ""
    values = ", ".join(f"{name}={value}" for name, value in best["parameters"].items())
    return f"; best {grid.metric} {best['value']:g} with {values}"


def _told(so_far: Sweep, best: dict[str, Any] | None, grid: Grid | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "total": so_far.total,
        "completed": so_far.completed,
        "failed": so_far.failed,
        "aborted": so_far.aborted,
    }
    if grid is not None:
        told |= {"metric": grid.metric, "lower_is_better": grid.lower_is_better}
    return told if best is None else {**told, "best": best}
