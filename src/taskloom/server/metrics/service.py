"""What runs pour in: appended once, however it was cut; read whole, thinned or live.

Appending. `append` applies the telemetry part of a journal batch (series names, plots, scalar rows, console
bytes) with the writer's marks in one transaction: what lies before the marks is skipped, a gap is a Conflict
that tells them. Whether the writer may write at all (lease, state, reset) was decided before by `tasks`, which
also keeps `append` and `delete_task` of one task from overlapping. `report` does the same for events that come without a
journal's numbers.

Summaries. Filters and sorting read last, minimum and maximum from `task_values` in the other database. Every
append marks its series dirty; `tasks` copies them over, at leisure and again at start:
    while found := await metrics.dirty_summaries(500):
        write task_values of found (absolute values; a task that is gone: skip)
        await metrics.clear_dirty(found)
A crash between the two copies again, which changes nothing; a series that grew meanwhile stays dirty.

numpy, zstd and the thinning library are imported by the first call that needs them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from taskloom.domain.errors import BadInput, NotFound
from taskloom.domain.metrics import SeriesSummary
from taskloom.domain.status import ENDED, Status
from taskloom.server.db import Database
from taskloom.server.events import Announcements, EventBus
from taskloom.server.metrics import appending, curves, query, reading, reporting, store
from taskloom.server.metrics.appending import Also, Appended
from taskloom.server.metrics.curves import Axis, Curve, PointsPage, Wanted
from taskloom.server.metrics.query import PlotKey
from taskloom.server.metrics.reporting import Applied, Reported
from taskloom.server.settings import Clock, Settings
from taskloom.wire.messages import (
    ConsoleEntry,
    ConsolePage,
    ConsoleQuery,
    JournalBatch,
    JournalMarks,
    Plot,
    PlotsQuery,
    Points,
    PointsQuery,
)

CONSOLE_NEWS = frozenset({"console", "task"})
FORGET_EVERY = 60.0  # seconds between two looks for batches that need not be known any more
DELETE_ROWS = 200  # rows deleted in one transaction, so that other writers get their turn


@dataclass(frozen=True)
class DirtySummary:
    series_id: int
    task: str
    summary: SeriesSummary
    stored: bytes  # the same as the database has it


class MetricsService:
    def __init__(
        self, main: Database, telemetry: Database, bus: EventBus, clock: Clock, settings: Settings
    ) -> None:
        self._main, self._db, self._bus, self._settings = main, telemetry, bus, settings
        self._clock, self._forgot = clock, 0.0
        self._live = Announcements(bus, clock)
        self._decoded = reading.Decoded()

    # --- appending ---------------------------------------------------------------------------------------

    async def append(
        self, task_id: str, batch: JournalBatch, project: str = "", also: Also | None = None
    ) -> Appended:
        """Store what of the batch is new; returns when it is on the disk. `project` goes into live events.

        also: what another room does with the new records in the same transaction.
        """
        appending.check(batch)

        def work(tx: Connection) -> Appended:
            return appending.apply(tx, task_id, batch, self._settings.console_limit, also)

        appended = await self._db.write(work)
        self._tell(appended, task_id, project)
        return appended

    async def report(self, owner_id: str, what: Reported, project: str = "") -> Applied:
        """Store events that have no journal; a batch that was applied before is skipped. See `reporting`.

        Whether the owner, a task or a model, takes them was decided before.
        """
        now = self._clock()
        forget = now - self._forgot > FORGET_EVERY

        def work(tx: Connection) -> Applied:
            if forget:
                store.forget_batches(tx, now - reporting.REMEMBERED)
            return reporting.apply(tx, owner_id, what, now, self._settings.console_limit)

        applied = await self._db.write(work)
        if forget:
            self._forgot = now
        self._tell(applied, owner_id, project)
        return applied

    def _tell(self, grew: Appended | Applied, task_id: str, project: str) -> None:
        kinds = {"metrics": grew.summaries, "console": grew.console, "plots": grew.plots}
        for kind in (kind for kind, happened in kinds.items() if happened):
            self._live.tell(kind, task_id, project)

    async def marks(self, task_id: str, writer: str) -> JournalMarks:
        """How far a writer's streams are here; `events` counts only for series names and plots."""
        return await self._db.read(lambda tx: store.find_marks(tx, task_id, writer))

    # --- summaries ---------------------------------------------------------------------------------------

    async def summaries(self, task_id: str) -> tuple[SeriesSummary, ...]:
        """A task's series in the order of their names; empty for a task without any, or unknown."""
        return (await self.summaries_of([task_id])).get(task_id, ())

    async def summaries_of(self, task_ids: Sequence[str]) -> dict[str, tuple[SeriesSummary, ...]]:
        """The same for a page of tasks at once; tasks without any are missing."""
        return await self._db.read(lambda tx: store.summaries(tx, task_ids))

    async def dirty_summaries(self, limit: int) -> list[DirtySummary]:
        found = await self._db.read(lambda tx: store.dirty(tx, limit))
        return [DirtySummary(*row) for row in found]

    async def clear_dirty(self, seen: list[DirtySummary]) -> None:
        rows = [(one.series_id, one.task, one.stored) for one in seen]
        await self._db.write(lambda tx: store.clear_dirty(tx, rows))

    async def list_series(self, task_id: str) -> list[SeriesSummary]:
        """Like `summaries`; raises NotFound for an unknown task."""
        found = await self.summaries(task_id)
        if not found:
            await self._state(task_id)
        return list(found)

    # --- points ------------------------------------------------------------------------------------------

    async def points(self, task_id: str, query: PointsQuery) -> Points:
        """One series in the order of x; see `thinning` for what is kept when it is thinned."""
        if query.points < 0:
            raise BadInput(f"points {query.points}: expected 0 for all, or how many at most")
        found = await self._db.read(lambda tx: reading.points(self._decoded, tx, task_id, query))
        if found is None:
            await self._state(task_id)
            raise NotFound(f"task {task_id} has no series {query.title!r} / {query.series!r}")
        return found

    # --- console -----------------------------------------------------------------------------------------

    async def console(self, task_id: str, query: ConsoleQuery) -> ConsolePage:
        """Entries after `after`, or the last `tail`; up to `limit`, and up to `CONSOLE_ANSWER` bytes of text."""
        if query.after < 0 or query.tail < 0 or query.limit < 1 or not query.wait >= 0:
            raise BadInput("after, tail, wait: expected 0 or more; limit: 1 or more")
        until = asyncio.get_running_loop().time() + min(query.wait, self._settings.max_wait)
        async with self._bus.subscribe(task=task_id, kinds=CONSOLE_NEWS) as live:
            waiting = query.wait > 0
            while True:
                ended = await self._state(task_id) in ENDED  # read first: what came before it is then seen
                page, more = await self._db.read(lambda tx: reading.console_page(tx, task_id, query))
                if page or ended or not waiting:
                    return ConsolePage(entries=page, ended=ended and not more)
                # No news means that the time is over: look a last time.
                waiting = await live.next(until - asyncio.get_running_loop().time()) is not None

    # --- plots -------------------------------------------------------------------------------------------

    async def plots(self, task_id: str, query: PlotsQuery) -> list[Plot]:
        found = await self._db.read(lambda tx: reading.plots(tx, task_id, query))
        if not found:
            await self._state(task_id)
        return found

    # --- all series at once -------------------------------------------------------------------------------

    async def curves(
        self, owner_ids: Sequence[str], axis: Axis, points: int, wanted: Wanted | None = None
    ) -> dict[str, list[Curve]]:
        """The charts of tasks or models, each series thinned to `points` (0: all); see `curves.charted`."""

        def work(tx: Connection) -> dict[str, list[Curve]]:
            found = curves.curves(self._decoded, tx, owner_ids, wanted)
            return {owner: [curves.charted(curve, axis, points) for curve in own] for owner, own in found.items()}

        return await self._db.read(work)

    async def points_page(
        self,
        owner_id: str,
        after: tuple[int, int] | None,
        limit: int,
        *,
        wanted: Wanted | None = None,
        newest_first: bool = False,
    ) -> PointsPage:
        """Points of all series in the order of their iterations, a page at a time; see `PointsPage.next`."""

        def work(tx: Connection) -> PointsPage:
            found = curves.curves(self._decoded, tx, [owner_id], wanted).get(owner_id, [])
            return curves.page(found, after, limit, newest_first=newest_first)

        return await self._db.read(work)

    async def single_values(
        self, owner_ids: Sequence[str], wanted: Wanted | None = None
    ) -> dict[str, list[Curve]]:
        """Curves of one point; owners without single values are missing."""
        return await self._db.read(lambda tx: curves.single_values(self._decoded, tx, owner_ids, wanted))

    # --- console by time, plots by iteration ----------------------------------------------------------------

    async def console_count(self, task_id: str) -> int:
        return await self._db.read(lambda tx: query.console_count(tx, task_id))

    async def console_at(
        self, task_id: str, milliseconds: int | None, limit: int, *, earlier: bool
    ) -> list[ConsoleEntry]:
        """Entries before or after a time, the nearest first; without a time from the end or the beginning.

        What has the time of the last one comes along, so that the next page may begin there.
        """
        return await self._db.read(
            lambda tx: reading.console_at(tx, task_id, milliseconds, limit, earlier=earlier)
        )

    async def console_around(self, task_id: str, number: int, limit: int, *, after: bool) -> list[ConsoleEntry]:
        """Entries behind a number in their order, or before it, backwards."""
        return await self._db.read(lambda tx: reading.console_around(tx, task_id, number, limit, after=after))

    async def plot_keys(self, owner_ids: Sequence[str]) -> dict[str, list[PlotKey]]:
        """The names of all plots, without their figures; owners without any are missing."""
        return await self._db.read(lambda tx: query.plot_keys(tx, owner_ids))

    async def figures(self, wanted: Sequence[tuple[str, PlotKey]]) -> list[tuple[str, Plot]]:
        """Plots by owner and key as far as one answer may hold, at least one; such that went are left out."""
        return await self._db.read(lambda tx: reading.figures(tx, wanted))

    # --- deleting ----------------------------------------------------------------------------------------

    async def delete_task(self, task_id: str) -> None:
        """Delete all that a task has here, in short transactions; may be repeated after a crash.

        For a reset, too: nothing may be appended for the task until it returns.
        """
        while await self._db.write(lambda tx: store.drop_some(tx, task_id, DELETE_ROWS)):
            pass
        self._decoded.clear()

    async def empty_task(self, task_id: str) -> None:
        """Delete what was reported, and let those who report go on."""
        while await self._db.write(lambda tx: store.empty_some(tx, task_id, DELETE_ROWS)):
            pass
        self._decoded.clear()

    async def drop_console(self, task_id: str, before: float | None) -> int:
        """Delete what was printed before a time, or all; how many entries that were."""
        return await self._db.write(lambda tx: query.drop_console(tx, task_id, before))

    async def check_task(self, task_id: str) -> None:
        """Raises NotFound when there is no such task."""
        await self._state(task_id)

    async def _state(self, task_id: str) -> Status:
        found = await self._main.read(lambda tx: store.task_state(tx, task_id))
        if found is None:
            raise NotFound(f"no task {task_id[:80]!r}", task=task_id[:80])
        return Status(found)
