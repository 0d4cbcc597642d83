"""The metrics service on fresh databases, without a socket, and batches as a journal's shipper cuts them."""

from __future__ import annotations

import asyncio
import struct
import time
import uuid
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from taskloom.server import tables
from taskloom.server.db import Database
from taskloom.server.events import EventBus
from taskloom.server.metrics.service import MetricsService
from taskloom.server.settings import Settings
from taskloom.wire.messages import ConsoleBytes, JournalBatch, ScalarColumns
from taskloom.wire.records import Record, SeriesNamed

T = TypeVar("T")
Row = tuple[int, int, float, float]
"""Series number, iteration, value, time."""


class Telemetry:
    """Methods of `service` are run with `run`, in one event loop."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self.main = Database(f"sqlite:///{folder}/main.db")
        self.telemetry = Database(f"sqlite:///{folder}/telemetry.db")
        self.main.write_now(tables.main.create_all)
        self.telemetry.write_now(tables.telemetry.create_all)
        self.bus = EventBus()
        self.service = MetricsService(
            self.main, self.telemetry, self.bus, time.time, Settings(data=folder, **limits)
        )
        self._runner = asyncio.Runner()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def ship(self, task: str, batch: JournalBatch) -> Any:
        return self.run(self.service.append(task, batch))

    def make_task(self, status: str = "running") -> str:
        task = uuid.uuid4().hex
        self.main.write_now(
            lambda tx: tx.execute(
                tables.tasks.insert().values(
                    id=task,
                    name="a task",
                    project_id=self._project(tx),
                    type="training",
                    status=status,
                    status_changed=0,
                    created=0,
                    last_update=0,
                    tags=b"",
                    system_tags=b"",
                    document=b"",
                )
            )
        )
        return task

    def end_task(self, task: str) -> None:
        ended = tables.tasks.update().where(tables.tasks.c.id == task).values(status="completed")
        self.main.write_now(lambda tx: tx.execute(ended))

    def rows(self, table: Any) -> list[Any]:
        return self.telemetry.read_now(lambda tx: list(tx.execute(table.select())))

    def close(self) -> None:
        self._runner.close()
        self.main.close()
        self.telemetry.close()

    def _project(self, tx: Any) -> str:
        made = uuid.uuid4().hex
        tx.execute(
            tables.projects.insert().values(
                id=made, name=made, tags=b"", system_tags=b"", created=0, last_update=0
            )
        )
        return made


@dataclass
class Journal:
    """Everything that one writer wrote; `batch` cuts a piece out of it."""

    writer: str = "w"
    events: list[Record] = field(default_factory=list[Record])
    rows: list[Row] = field(default_factory=list[Row])
    console: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def batch(
        self,
        events: tuple[int, int] | None = None,
        rows: tuple[int, int] | None = None,
        console: dict[str, tuple[int, int]] | None = None,
        offset: int = 0,
    ) -> JournalBatch:
        """`(from, to)` of each stream."""
        first, last = events or (0, 0)
        return JournalBatch(
            writer=self.writer,
            iteration_offset=offset,
            events_start=first,
            events=self.events[first:last],
            scalars=None if rows is None else columns(self.rows[rows[0] : rows[1]], rows[0]),
            console=[
                ConsoleBytes(stream=stream, start=a, data=self.console[stream][a:b], time=1.0)  # pyright: ignore[reportArgumentType]
                for stream, (a, b) in (console or {}).items()
            ],
        )

    def whole(self, offset: int = 0) -> JournalBatch:
        return self.batch(
            (0, len(self.events)),
            (0, len(self.rows)),
            {stream: (0, len(data)) for stream, data in self.console.items()},
            offset,
        )


def names(*series: tuple[str, str]) -> list[Record]:
    return [SeriesNamed(number=n, title=title, series=name) for n, (title, name) in enumerate(series)]


def columns(rows: Sequence[Row], start: int = 0) -> ScalarColumns:
    count = len(rows)
    return ScalarColumns(
        start=start,
        series=struct.pack(f"<{count}I", *(r[0] for r in rows)),
        iteration=struct.pack(f"<{count}q", *(r[1] for r in rows)),
        value=struct.pack(f"<{count}d", *(r[2] for r in rows)),
        time=struct.pack(f"<{count}d", *(r[3] for r in rows)),
    )
