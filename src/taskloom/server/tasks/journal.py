"""Batches of journals: what runs write, applied once, in order, to the database each part belongs to.

Records go to main with the writer's mark in one transaction; rows, console and plots go to telemetry with marks
of their own; only then the batch is acknowledged. Whoever is cut off in between sends again, and what lies before
a mark is skipped, so it does not matter where a batch was cut. Batches without records (the stream of a running
training) read main and do not write it.

A lease fences: under a worker's attempt only batches with its token come in, and without one (or under an agent's
of another system, which is told none) only batches without. Writers whose results were reset are told `Discarded`; a deleted task swallows what still comes for it
and asks the script to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Collection

import msgspec
from sqlalchemy import Connection

from taskloom.domain.errors import BadInput, Conflict, Discarded, IllegalMove, LeaseLost, NotFound
from taskloom.domain.metrics import MAX_ITERATION, MIN_ITERATION
from taskloom.domain.status import ENDED, Status
from taskloom.server.db import Database
from taskloom.server.evals.checks import check_record
from taskloom.server.evals.recording import jobs_elsewhere
from taskloom.server.evals.service import EvalService
from taskloom.server.events import EventBus
from taskloom.server.metrics.service import MetricsService
from taskloom.server.settings import Clock
from taskloom.server.tasks import store
from taskloom.server.tasks.checks import check_id, check_writer
from taskloom.server.tasks.gates import TaskGates
from taskloom.server.tasks.projection import Projection
from taskloom.server.tasks.recording import Outcome, RecordKeeper
from taskloom.server.tasks.removal import Removal
from taskloom.wire.messages import JournalBatch, JournalMarks, LiveEvent
from taskloom.wire.records import (
    ArtifactRemoved,
    ArtifactStored,
    ArtifactUsed,
    Edited,
    Ended,
    ModelStored,
    ModelUsed,
    Opened,
    Plotted,
)
from taskloom.wire.worker_protocol import STOPPING, fence

FRESH = 5.0  # seconds that `last_update` may lag behind a run that only prints
TRIES = 5  # resets by others that may come in between
IDLE = frozenset({Status.DRAFT, Status.PENDING})
_TIMED = Opened | Edited | Ended | ArtifactRemoved | Plotted | ModelUsed | ArtifactUsed


class JournalDesk:
    def __init__(
        self,
        main: Database,
        metrics: MetricsService,
        evals: EvalService,
        keeper: RecordKeeper,
        removal: Removal,
        projection: Projection,
        gates: TaskGates,
        bus: EventBus,
        clock: Clock,
    ) -> None:
        self._main, self._metrics, self._evals, self._keeper = main, metrics, evals, keeper
        self._removal, self._projection, self._gates = removal, projection, gates
        self._bus, self._clock = bus, clock

    async def ship(self, user: str, task_id: str, batch: JournalBatch) -> JournalMarks:
        """Apply what is new of the batch. See `JournalBatch` for the rules and the errors."""
        check_id(task_id)
        _check(task_id, batch)
        jobs = jobs_elsewhere(task_id, batch.events)
        for _ in range(TRIES):
            async with contextlib.AsyncExitStack() as inside:
                for gate in sorted({task_id, *jobs}):  # in one order, or two could wait for one another
                    await inside.enter_async_context(self._gates.shared(gate))
                marks = await self._ship(user, task_id, batch, await self._evals.closed_jobs(jobs))
            if marks is not None:
                return marks
            await self._removal.finish([task_id])  # results of an earlier run are in the way
        raise Conflict(f"task {task_id} is being reset again and again; try later")

    async def marks(self, task_id: str, writer: str) -> JournalMarks:
        """How far both databases have this writer's streams; a writer that is not known stands at 0."""
        check_id(task_id)
        check_writer(writer)
        tele = await self._metrics.marks(task_id, writer)
        gate, gone = await self._main.read(lambda tx: _look(tx, task_id, writer))
        if gate is None:
            if gone:
                return JournalMarks(stop=True)
            raise NotFound(f"no task {task_id}", task=task_id)
        if gate.closed:
            raise _discarded(task_id)
        return _answer(gate, tele)

    async def _ship(
        self, user: str, task_id: str, batch: JournalBatch, closed: Collection[str]
    ) -> JournalMarks | None:
        """None: something of an earlier run has to be deleted first. `closed`: other tasks' jobs that take nothing."""
        tele, (gate, gone) = await asyncio.gather(
            self._metrics.marks(task_id, batch.writer),
            self._main.read(lambda tx: _look(tx, task_id, batch.writer)),
        )
        if gate is None and gone:
            return _swallowed(batch)
        if gate is not None:
            _admit(task_id, gate, batch)
            if gate.purging:
                return None
        _check_gaps(batch, min(_mark(gate), tele.events), tele)
        if gate is not None and gate.status is Status.PUBLISHED:
            return _nothing_new(task_id, gate, batch, tele)
        now = self._clock()
        jobs: set[str] = set()
        if gate is None or _concerns_main(batch, gate) or now - gate.last_update > FRESH:
            gate, outcome = await self._main.write(lambda tx: self._record(tx, user, task_id, batch, now))
            self._tell(task_id, gate, outcome, now)
            jobs |= outcome.jobs
            if gate.purging:
                return None
        if batch.events or batch.scalars is not None or batch.console:
            also = self._evals.append_steps(closed)
            appended = await self._metrics.append(task_id, batch, gate.project, also)
            tele = appended.marks
            jobs |= appended.others
            if appended.summaries:
                self._projection.wake()
        if jobs:
            await self._evals.tell(jobs, {task_id: gate.project})
        await self._keeper.tidy(gate.status in ENDED)
        if gate.status in ENDED:
            await self._projection.flush()  # who sees the task ended sees its last values, too
        return _answer(gate, tele)

    def _record(
        self, tx: Connection, user: str, task_id: str, batch: JournalBatch, now: float
    ) -> tuple[store.Gate, Outcome]:
        """Everything of the batch that belongs to main, in one transaction; looked at anew inside it."""
        gate, gone = _look(tx, task_id, batch.writer)
        if gone and gate is None:
            raise _discarded(task_id)
        if gate is not None:
            _admit(task_id, gate, batch)
            if gate.status is Status.PUBLISHED:
                raise _published(task_id)
        mark = _mark(gate)
        fresh = batch.events[max(0, mark - batch.events_start) :]
        if fresh and batch.events_start > mark:
            raise _gap("events", batch.events_start, JournalMarks(events=mark))
        if gate is None and not (fresh and isinstance(fresh[0], Opened)):
            raise NotFound(f"no task {task_id}; the record that opens it has not come", task=task_id)
        outcome = self._keeper.apply(tx, user, task_id, batch.writer, fresh, now, batch.iteration_offset)
        store.set_mark(tx, task_id, batch.writer, mark + len(fresh))
        if not outcome.task:
            store.touch(tx, task_id, now)
        after = store.gate(tx, task_id, batch.writer)
        if after is None:
            raise NotFound(f"no task {task_id}", task=task_id)
        return after, outcome

    def _tell(self, task_id: str, gate: store.Gate, outcome: Outcome, now: float) -> None:
        for kind, happened in (("task", outcome.task), ("artifacts", outcome.artifacts)):
            if happened:
                status = gate.status.value
                event = LiveEvent(kind=kind, task=task_id, project=gate.project, status=status, time=now)
                self._bus.publish(event)


# --- who may come in ---------------------------------------------------------------------------------------


def _look(tx: Connection, task_id: str, writer: str) -> tuple[store.Gate | None, bool]:
    """What stands at the gate, and when there is no such task whether there was one."""
    gate = store.gate(tx, task_id, writer)
    return gate, gate is None and store.was_deleted(tx, task_id)


def _admit(task_id: str, gate: store.Gate, batch: JournalBatch) -> None:
    if gate.closed:
        raise _discarded(task_id)
    if fence(gate.lease) != batch.lease:
        held = "is under another lease" if gate.lease else "is under no lease"
        raise LeaseLost(f"task {task_id} {held}; this attempt is void", status=gate.status.value)
    opens = bool(batch.events) and isinstance(batch.events[0], Opened)
    if gate.events is None and gate.status in IDLE and not opens:
        raise _discarded(task_id)  # nothing runs here: it speaks of a run that was reset before it was heard of


def _nothing_new(task_id: str, gate: store.Gate, batch: JournalBatch, tele: JournalMarks) -> JournalMarks:
    """A published task takes nothing, but a batch that came before may come again."""
    events = min(_mark(gate), tele.events)
    known = batch.events_start + len(batch.events) <= events if batch.events else True
    if batch.scalars is not None:
        known = known and batch.scalars.start + len(batch.scalars.series) // 4 <= tele.rows
    known = known and all(p.start + len(p.data) <= tele.console.get(p.stream, 0) for p in batch.console)
    if not known:
        raise _published(task_id)
    return _answer(gate, tele)


def _concerns_main(batch: JournalBatch, gate: store.Gate) -> bool:
    """New records; also a writer's first batch, because its row is what a reset closes."""
    return gate.events is None or (bool(batch.events) and batch.events_start + len(batch.events) > gate.events)


def _mark(gate: store.Gate | None) -> int:
    return 0 if gate is None else gate.events or 0


def _answer(gate: store.Gate, tele: JournalMarks) -> JournalMarks:
    stopping = gate.status is Status.RUNNING and gate.status_message == STOPPING
    return JournalMarks(
        events=min(_mark(gate), tele.events),
        rows=tele.rows,
        console=tele.console,
        stop=stopping or gate.status is Status.ABORTED,
    )


def _swallowed(batch: JournalBatch) -> JournalMarks:
    """The task was deleted: nobody wants this any more, and the script may end."""
    rows = 0 if batch.scalars is None else batch.scalars.start + len(batch.scalars.series) // 4
    console: dict[str, int] = {}
    for part in batch.console:
        console[part.stream] = max(console.get(part.stream, 0), part.start + len(part.data))
    return JournalMarks(events=batch.events_start + len(batch.events), rows=rows, console=console, stop=True)


# --- what a batch must be ----------------------------------------------------------------------------------


def _check(task_id: str, batch: JournalBatch) -> None:
    check_writer(batch.writer)
    if not MIN_ITERATION <= batch.iteration_offset <= MAX_ITERATION:
        raise BadInput(f"iteration_offset {batch.iteration_offset}: beyond 64 bits")
    _start("events_start", batch.events_start)
    if batch.scalars is not None:
        _start("scalars.start", batch.scalars.start)
        rows, odd = divmod(len(batch.scalars.series), 4)
        lengths = [len(batch.scalars.iteration), len(batch.scalars.value), len(batch.scalars.time)]
        if odd or lengths != [8 * rows] * 3:
            raise BadInput(
                f"scalars: columns of {len(batch.scalars.series)}, {', '.join(map(str, lengths))} bytes; "
                "expected 4 bytes a row for series and 8 for iteration, value and time"
            )
    for part in batch.console:
        _start(f"console {part.stream}", part.start)
        if not math.isfinite(part.time):
            raise BadInput(f"console {part.stream}: time {part.time}: expected seconds since the epoch")
    for number, record in enumerate(batch.events, batch.events_start):
        check_record(number, record, task_id)
        if isinstance(record, _TIMED) and not math.isfinite(record.time):
            raise BadInput(f"record {number}: time {record.time}: expected seconds since the epoch")
        if isinstance(record, ArtifactStored | ModelStored):
            value = record.artifact if isinstance(record, ArtifactStored) else record.model
            if not math.isfinite(value.created):
                raise BadInput(f"record {number}: created {value.created}: expected seconds since the epoch")


def _start(what: str, start: int) -> None:
    if not 0 <= start <= MAX_ITERATION:
        raise BadInput(f"{what} {start}: expected a position from 0 on")


def _check_gaps(batch: JournalBatch, events: int, tele: JournalMarks) -> None:
    """Before anything is written, so that a batch with a hole leaves no trace."""
    marks = msgspec.structs.replace(tele, events=events)
    if batch.events and batch.events_start > events:
        raise _gap("events", batch.events_start, marks)
    if batch.scalars is not None and batch.scalars.start > tele.rows:
        raise _gap("rows", batch.scalars.start, marks)
    reached = dict(tele.console)
    for part in batch.console:
        if part.start > reached.get(part.stream, 0):
            raise _gap(part.stream, part.start, marks)
        reached[part.stream] = max(reached.get(part.stream, 0), part.start + len(part.data))


def _gap(stream: str, start: int, marks: JournalMarks) -> Conflict:
    return Conflict(
        f"{stream} begin at {start}, beyond what is here; send from the marks on",
        marks=msgspec.to_builtins(marks),
        stream=stream,
    )


def _discarded(task_id: str) -> Discarded:
    return Discarded(
        f"task {task_id} was reset or deleted; what this writer still has is not wanted", task=task_id
    )


def _published(task_id: str) -> IllegalMove:
    return IllegalMove(f"task {task_id} is published and takes nothing more", status=Status.PUBLISHED.value)
