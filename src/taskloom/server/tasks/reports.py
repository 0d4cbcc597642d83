"""Events of clients that keep no journal: whether a task or model takes them now, and what follows when it does.

The rules are those of journals as far as such clients can keep them: deleting and reporting do not overlap, results
of an earlier run go first, the key of an attempt that is over reports nothing to its task. What a batch does to
the telemetry database, and that a repeated one does it once, stands in `metrics`.
"""

from __future__ import annotations

from sqlalchemy import Connection

from taskloom.domain.artifact import Model
from taskloom.domain.errors import BadInput, Conflict, IllegalMove, LeaseLost, NotFound
from taskloom.domain.metrics import MAX_ITERATION, MIN_ITERATION, from_wire
from taskloom.domain.status import ENDED, Status
from taskloom.server.artifacts.service import ArtifactService
from taskloom.server.call import Caller
from taskloom.server.db import Database
from taskloom.server.metrics.reporting import Reported, Told
from taskloom.server.metrics.service import MetricsService
from taskloom.server.settings import Clock
from taskloom.server.tasks import store
from taskloom.server.tasks.checks import check_long, finite
from taskloom.server.tasks.gates import TaskGates
from taskloom.server.tasks.journal import FRESH, TRIES
from taskloom.server.tasks.projection import Projection
from taskloom.server.tasks.removal import Removal
from taskloom.wire.messages import ModelReport

NOBODY = ""  # no writer of a journal
LONGEST_NAME = 1024  # characters of a title or series


class ReportDesk:
    def __init__(
        self,
        main: Database,
        metrics: MetricsService,
        artifacts: ArtifactService,
        removal: Removal,
        projection: Projection,
        gates: TaskGates,
        clock: Clock,
    ) -> None:
        self._main, self._metrics, self._artifacts = main, metrics, artifacts
        self._removal, self._projection, self._gates = removal, projection, gates
        self._clock = clock

    async def report(self, caller: Caller, task_id: str, what: Reported, *, locked: bool = False) -> None:
        """Store them; returns when they are on the disk.

        Raises NotFound (`task`), IllegalMove for a published task unless `locked`, and LeaseLost when the key was
        made for an attempt at this task that is over.
        """
        for _ in range(TRIES):
            async with self._gates.shared(task_id):
                if await self._report(caller, task_id, what, locked):
                    return
            await self._removal.finish([task_id])  # results of an earlier run are in the way
        raise Conflict(f"task {task_id} is being reset again and again; try later")

    async def report_model(self, model_id: str, what: Reported, *, locked: bool = False) -> None:
        """The same for a model: NotFound (`model`), IllegalMove."""
        model = await self._open_model(model_id, locked)
        if await self._main.read(lambda tx: store.is_deleting(tx, model_id)):
            await self._removal.finish([model_id])  # an earlier model of this id
        await self._metrics.report(model_id, what, model.project)

    async def clear(self, caller: Caller, task_id: str, *, locked: bool = False) -> None:
        """Delete all that the task reported; who still reports goes on. Raises what `report` raises."""
        await self._main.read(lambda tx: _admitted(tx, caller, task_id, locked))
        async with self._gates.alone(task_id):
            await self._metrics.empty_task(task_id)
            await self._artifacts.drop_samples(task_id)
            await self._main.write(lambda tx: store.clear_metrics(tx, task_id))

    async def clear_model(self, model_id: str, *, locked: bool = False) -> None:
        """The same for a model: NotFound (`model`), IllegalMove."""
        await self._open_model(model_id, locked)
        await self._metrics.empty_task(model_id)
        await self._artifacts.drop_samples(model_id)

    async def clear_console(
        self, caller: Caller, task_id: str, before: float | None, *, locked: bool = False
    ) -> int:
        """Delete what the task printed before a time, or all; how many entries that were."""
        await self._main.read(lambda tx: _admitted(tx, caller, task_id, locked))
        async with self._gates.shared(task_id):
            return await self._metrics.drop_console(task_id, before)

    async def _open_model(self, model_id: str, locked: bool) -> Model:
        model = await self._artifacts.get_model(model_id)
        if model.published and not locked:
            raise IllegalMove(f"model {model_id} is published and takes nothing more", model=model_id)
        return model

    async def _report(self, caller: Caller, task_id: str, what: Reported, locked: bool) -> bool:
        """False: something of an earlier run has to be deleted first."""

        def look(tx: Connection) -> store.Gate:
            return _admitted(tx, caller, task_id, locked)

        gate = await self._main.read(look)
        if gate.purging:
            return False
        now = self._clock()
        if now - gate.last_update > FRESH:
            await self._main.write(lambda tx: store.touch(tx, task_id, now))
        applied = await self._metrics.report(task_id, what, gate.project)
        if applied.summaries:
            self._projection.wake()
        if gate.status in ENDED:
            await self._projection.flush()  # who sees the task ended sees its last values, too
        return True


def model_report(told: ModelReport) -> Reported:
    """Raises BadInput for names, iterations and times that cannot be kept."""
    points: dict[tuple[str, str], Told] = {}
    for one in told.points:
        _check(one.title, one.series, one.iteration, one.time)
        curve = points.setdefault((one.title, one.series), Told())
        curve.iteration.append(one.iteration)
        curve.value.append(from_wire(one.value))
        curve.time.append(one.time)
    for plot in told.plots:
        _check(plot.title, plot.series, plot.iteration, plot.time)
    return Reported(points, plots=told.plots)


def _check(title: str, series: str, iteration: int, time: float) -> None:
    for text, what in ((title, "title"), (series, "series")):
        check_long(text, what, LONGEST_NAME)
    if not MIN_ITERATION <= iteration <= MAX_ITERATION:
        raise BadInput(f"iteration {iteration}: expected a whole number of 64 bits")
    finite(time, "time")


def _admitted(tx: Connection, caller: Caller, task_id: str, locked: bool) -> store.Gate:
    gate = store.gate(tx, task_id, NOBODY)
    if gate is None:
        raise NotFound(f"no task {task_id[:80]!r}", task=task_id)
    if caller.lease and caller.lease != gate.lease and store.task_of_lease(tx, caller.lease) == task_id:
        raise LeaseLost(f"task {task_id} is under another lease; this attempt is void", status=gate.status.value)
    if gate.status is Status.PUBLISHED and not locked:
        raise IllegalMove(f"task {task_id} is published and takes nothing more", status=gate.status.value)
    return gate
