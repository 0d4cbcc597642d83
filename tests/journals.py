"""A run as the server hears of it: one writer's records, rows and console, sent whole or in any cut."""

from __future__ import annotations

import time
import uuid
from array import array
from typing import Any, Self

from taskloom.domain.task import Task, TaskEdit
from taskloom.wire.messages import ConsoleBytes, JournalBatch, JournalMarks, Points, PointsQuery, ScalarColumns
from taskloom.wire.operations import GET_POINTS, GET_TASK, SHIP_JOURNAL
from taskloom.wire.records import Edited, Ended, EndStatus, Opened, OpenMode, Record, SeriesNamed
from taskloom.wire.send import Client


class Run:
    """One writer of one task. What it says gathers here; `ship` sends what the server has not acknowledged."""

    def __init__(
        self, client: Client, task: str = "", writer: str = "w1", lease: str = "", offset: int = 0
    ) -> None:
        self.client, self.task, self.writer, self.lease, self.offset = (
            client,
            task or fresh_id(),
            writer,
            lease,
            offset,
        )
        self.records: list[Record] = []
        self.rows: list[tuple[int, int, float, float]] = []
        self.stdout = b""
        self.marks = JournalMarks()
        self._numbers: dict[tuple[str, str], int] = {}

    # --- what it says -------------------------------------------------------------------------------------

    def open(self, mode: OpenMode = "new", name: str = "test run", project: str = "tests", **more: Any) -> Self:
        self.records.append(Opened(mode=mode, name=name, project=project, **{"time": time.time(), **more}))
        return self

    def edit(self, **changes: Any) -> Self:
        self.records.append(Edited(edit=TaskEdit(**changes), time=time.time()))
        return self

    def end(self, status: EndStatus = "completed", reason: str = "", message: str = "") -> Self:
        self.records.append(Ended(status=status, time=time.time(), reason=reason, message=message))
        return self

    def scalar(self, iteration: int, value: float, title: str = "loss", series: str = "train") -> Self:
        if (title, series) not in self._numbers:
            self._numbers[title, series] = len(self._numbers)
            self.records.append(SeriesNamed(number=self._numbers[title, series], title=title, series=series))
        self.rows.append((self._numbers[title, series], iteration, value, time.time()))
        return self

    def print(self, text: str) -> Self:
        self.stdout += text.encode()
        return self

    def say(self, record: Record) -> Self:
        self.records.append(record)
        return self

    # --- how it is sent -----------------------------------------------------------------------------------

    def cut(
        self, events: tuple[int, int] = (0, 0), rows: tuple[int, int] = (0, 0), console: tuple[int, int] = (0, 0)
    ) -> JournalBatch:
        """A batch of these positions (from, to)."""
        return JournalBatch(
            writer=self.writer,
            lease=self.lease,
            iteration_offset=self.offset,
            events_start=events[0],
            events=self.records[slice(*events)],
            scalars=columns(rows[0], self.rows[slice(*rows)]) if rows[0] != rows[1] else None,
            console=[ConsoleBytes("stdout", console[0], self.stdout[slice(*console)], time.time())]
            if console[0] != console[1]
            else [],
        )

    def rest(self) -> JournalBatch:
        """What the server has not acknowledged."""
        return self.cut(
            (self.marks.events, len(self.records)),
            (self.marks.rows, len(self.rows)),
            (self.marks.console.get("stdout", 0), len(self.stdout)),
        )

    def send(self, batch: JournalBatch) -> JournalMarks:
        return self.client.call(SHIP_JOURNAL, batch, task=self.task)

    def ship(self) -> JournalMarks:
        self.marks = self.send(self.rest())
        return self.marks

    # --- what the server has ------------------------------------------------------------------------------

    def seen(self) -> Task:
        return self.client.call(GET_TASK, task=self.task)

    def points(self, title: str = "loss", series: str = "train") -> Points:
        query = PointsQuery(title=title, series=series, points=0)
        return self.client.call(GET_POINTS, query=query, task=self.task)


def columns(start: int, rows: list[tuple[int, int, float, float]]) -> ScalarColumns:
    numbers, iterations, values, times = zip(*rows, strict=True) if rows else ((), (), (), ())
    return ScalarColumns(
        start,
        array("I", numbers).tobytes(),
        array("q", iterations).tobytes(),
        array("d", values).tobytes(),
        array("d", times).tobytes(),
    )


def fresh_id() -> str:
    return uuid.uuid4().hex
