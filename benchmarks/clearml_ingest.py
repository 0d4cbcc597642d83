"""What a scalar event costs our server: ClearML's batches beside our own journals, and the charts read back.

    python benchmarks/clearml_ingest.py [--points 100000] [--json FILE]

Bodies are made before the clock starts, so that only the server's processor time and the round trips are seen.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent))

from driver import Server, taskloom_server

NOW = 1_700_000_000_000
SHAPES = ((100, 1), (100, 20), (1000, 1), (1000, 20), (5000, 20))  # events of a batch, series they belong to


@dataclass
class Figure:
    name: str
    cpu_us: float  # of the server, a point
    per_second: float


class Wire:
    """One connection that speaks as ClearML's clients do."""

    def __init__(self, server: Server) -> None:
        address = urlsplit(server.url)
        self._connection = HTTPConnection(address.hostname or "", address.port or 0)
        self._headers = {"Authorization": f"Bearer {server.client().address.api_key}"}

    def send(self, name: str, body: bytes, kind: str) -> Any:
        headers = {**self._headers, "Content-Type": kind}
        self._connection.request("GET", f"/v2.23/{name}", body, headers)
        answer = self._connection.getresponse()
        told = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{name}: {answer.status} {told[:500]!r}")
        return told


def batches(task: str, points: int, size: int, series: int) -> Iterator[bytes]:
    for at in range(0, points, size):
        lines = (
            {
                "type": "training_stats_scalar",
                "task": task,
                "metric": "loss",
                "variant": f"s{n % series}",
                "iter": n // series,
                "value": (n % 977) / 7,
                "timestamp": NOW + n,
                "model_event": False,
                "allow_locked": False,
                "method": "get",
            }
            for n in range(at, min(at + size, points))
        )
        yield "\n".join(map(json.dumps, lines)).encode()


def told(server: Server, points: int, size: int, series: int) -> Figure:
    task = make_task(server)
    bodies = list(batches(task, points, size, series))
    wire = Wire(server)
    before, begun = server.cpu(), time.perf_counter()
    for body in bodies:
        wire.send("events.add_batch", body, "application/json-lines")
    wall = time.perf_counter() - begun
    cpu = settled(server) - before
    return Figure(f"add_batch, {size} events of {series} series", cpu / points * 1e6, points / wall)


def shipped(server: Server, points: int, size: int, series: int) -> Figure:
    from taskloom.wire.messages import JournalBatch, ScalarColumns
    from taskloom.wire.operations import SHIP_JOURNAL
    from taskloom.wire.records import Opened, SeriesNamed

    task, writer, client = uuid.uuid4().hex, "w" * 32, server.client()
    opened = Opened(mode="new", name="recorded", project="bench", time=time.time())
    named = [SeriesNamed(number=n, title="loss", series=f"s{n}") for n in range(series)]
    client.call(SHIP_JOURNAL, JournalBatch(writer=writer, events=[opened, *named]), task=task)
    bodies = [
        JournalBatch(
            writer=writer,
            scalars=ScalarColumns(
                start=at,
                series=struct.pack(f"<{size}I", *(n % series for n in range(at, at + size))),
                iteration=struct.pack(f"<{size}q", *(n // series for n in range(at, at + size))),
                value=struct.pack(f"<{size}d", *((n % 977) / 7 for n in range(at, at + size))),
                time=struct.pack(f"<{size}d", *((NOW + n) / 1000 for n in range(at, at + size))),
            ),
        )
        for at in range(0, points, size)
    ]
    before, begun = server.cpu(), time.perf_counter()
    for body in bodies:
        client.call(SHIP_JOURNAL, body, task=task)
    wall = time.perf_counter() - begun
    cpu = settled(server) - before
    return Figure(f"journal, {size} rows of {series} series", cpu / points * 1e6, points / wall)


def charts(server: Server, series: int = 20, points: int = 10_000, asks: int = 40) -> list[Figure]:
    task, wire = make_task(server), Wire(server)
    for body in batches(task, series * points, 10_000, series):
        wire.send("events.add_batch", body, "application/json-lines")
    figures: list[Figure] = []
    for samples in (0, 1000):
        body = json.dumps({"task": task, "samples": samples}).encode()
        size = len(wire.send("events.scalar_metrics_iter_histogram", body, "application/json"))
        before, begun = server.cpu(), time.perf_counter()
        for _ in range(asks):
            wire.send("events.scalar_metrics_iter_histogram", body, "application/json")
        wall = time.perf_counter() - begun
        name = f"histogram of {series} x {points:,}, samples {samples or 'all'}, {size / 1e6:.1f} MB"
        figures.append(Figure(f"{name}: per request", (server.cpu() - before) / asks * 1e6, asks / wall))
    return figures


def make_task(server: Server) -> str:
    from taskloom.wire.messages import TaskCreate
    from taskloom.wire.operations import CREATE_TASK

    return server.client().call(CREATE_TASK, TaskCreate(name="told", project="bench")).id


def settled(server: Server) -> float:
    """Its processor time when the last values have been copied, too."""
    time.sleep(1.5)
    return server.cpu()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder, taskloom_server(Path(folder)) as server:
        told(server, 20_000, 1000, 5)  # warms it
        shipped(server, 20_000, 1000, 5)
        for size, series in SHAPES:
            figures.append(told(server, asked.points, size, series))
            figures.append(shipped(server, asked.points, size, series))
        figures += charts(server)
    for figure in figures:
        print(f"{figure.name:58} {figure.cpu_us:12.2f} us of the server  {figure.per_second:12,.0f} a second")
    if asked.json:
        asked.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))


if __name__ == "__main__":
    main()
