"""Our server, as an import writes to it: native operations, repeated until they are answered.

Everything here may be sent twice: journals carry positions, bytes their digest, and the steps of an import are made
to be repeated.
"""

from __future__ import annotations

import re
import uuid
from array import array
from typing import IO, Any, TypeVar

from taskloom.cli.clearml.patience import Patience
from taskloom.domain.task import Task
from taskloom.server.compat.clearml.event_lines import Share
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.client import build_call, read_answer
from taskloom.wire.operations import Operation
from taskloom.wire.records import Plotted, Record, Sampled, SeriesNamed
from taskloom.wire.send import Client, away

Body = TypeVar("Body")
Reply = TypeVar("Reply")

PIECE = 1 << 20
ROWS = 50_000  # scalars in one batch
RECORDS = 500
BYTES = 8 << 20  # of plots and console in one batch
DIGEST = re.compile(r"[0-9a-f]{64}")


class Target:
    """Safe to share between threads."""

    def __init__(self, client: Client, patience: Patience) -> None:
        self._client, self._patience = client, patience

    @property
    def url(self) -> str:
        return self._client.address.url

    def call(
        self, operation: Operation[Body, Reply], body: Body | None = None, *, query: Any = None, **path: str
    ) -> Reply:
        return self._patience.keep_trying(lambda: self._client.call(operation, body, query=query, **path))

    def step(self, step: m.ImportStep, task: Task, version: str, writer: str) -> m.ImportState:
        body = m.TaskImport(step=step, version=version, writer=writer, task=task)
        return self.call(op.IMPORT_TASK, body, task=task.id).state

    def has(self, digest: str, size: int) -> bool:
        """Whether these bytes are here already."""
        if not DIGEST.fullmatch(digest):
            return False
        status = self.call(op.BLOB_STATUS, digest=digest)
        return status.complete and status.size == size

    def put(self, file: IO[bytes], digest: str, size: int) -> None:
        """The bytes of an open file, unless they are here."""
        if not self.has(digest, size):
            self._patience.keep_trying(lambda: self._put(file, digest, size))

    def _put(self, file: IO[bytes], digest: str, size: int) -> None:
        import httpx

        file.seek(0)
        call = build_call(self._client.address, op.PUT_BLOB, digest=digest)
        headers = {**call.headers, "Content-Type": "application/octet-stream", "Content-Length": str(size)}
        pieces = iter(lambda: file.read(PIECE), b"")
        try:
            answer = self._client.http.request(call.method, call.url, headers=headers, content=pieces)
        except httpx.TransportError as error:
            raise away(call, error) from error
        kind, wait = answer.headers.get("Content-Type", ""), answer.headers.get("Retry-After", "")
        read_answer(op.PUT_BLOB, answer.status_code, answer.content, kind, wait)


class Shipment:
    """The journal of one import of one task: it gathers and is sent in batches. Not for several threads."""

    def __init__(self, target: Target, task: str) -> None:
        self._target, self._task = target, task
        self.writer = f"i.{uuid.uuid4().hex}"
        self._numbers: dict[tuple[str, str], int] = {}
        self._sent_records = self._sent_rows = 0
        self._ends: dict[str, int] = {}
        self._begin()

    def _begin(self) -> None:
        self._records: list[Record] = []
        self._series, self._iteration = array("I"), array("q")
        self._value, self._time = array("d"), array("d")
        self._console: list[m.ConsoleBytes] = []
        self._bytes = 0

    def add(self, share: Share) -> None:
        """Scalars, plots and console of a page of events; its samples come by `sample`."""
        for name, told in share.points.items():
            number = self._numbers.get(name)
            if number is None:
                number = self._numbers[name] = len(self._numbers)
                self._records.append(SeriesNamed(number=number, title=name[0], series=name[1]))
            self._series.extend([number] * len(told.value))
            self._iteration.extend(told.iteration)
            self._value.extend(told.value)
            self._time.extend(told.time)
        for line in share.lines:
            data, start = line.text.encode("utf-8", "replace"), self._ends.get(line.stream, 0)
            self._console.append(m.ConsoleBytes(line.stream, start, data, line.time))
            self._ends[line.stream] = start + len(data)
            self._bytes += len(data)
        for plot in share.plots:
            self.plot(plot)
        self._flush_when_full()

    def plot(self, plot: Plotted) -> None:
        self._records.append(plot)
        self._bytes += len(plot.figure)
        self._flush_when_full()

    def sample(self, sample: Sampled) -> None:
        self._records.append(sample)
        self._flush_when_full()

    def _flush_when_full(self) -> None:
        if len(self._series) >= ROWS or len(self._records) >= RECORDS or self._bytes >= BYTES:
            self.flush()

    def flush(self) -> None:
        rows = len(self._series)
        if not (rows or self._records or self._console):
            return
        columns = None
        if rows:
            parts = (self._series, self._iteration, self._value, self._time)
            columns = m.ScalarColumns(self._sent_rows, *(_little(part) for part in parts))
        batch = m.JournalBatch(
            writer=self.writer,
            events_start=self._sent_records,
            events=self._records,
            scalars=columns,
            console=self._console,
        )
        self._target.call(op.SHIP_JOURNAL, batch, task=self._task)
        self._sent_records += len(self._records)
        self._sent_rows += rows
        self._begin()


def _little(column: array[Any]) -> bytes:
    import sys

    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()
