"""One workload in one process: `peers.py PEER WORK [ARGUMENTS]` prints one JSON object as its last line.

Every peer is used as its own guide says, offline, with captures that the others do not have switched off.
WORK: start; write CALLS VALUES; writer RUN CALLS BARRIER; count; read POINTS; many COUNT.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

PROJECT = "bench"
HOME = Path(os.environ.get("BENCH_HOME", "."))


class Taskloom:
    """Ships to the server that TASKLOOM_DATA or TASKLOOM_URL names."""

    def load(self) -> None:
        from taskloom import Task

        self.Task = Task

    def begin(self, run: str) -> None:
        self.task = self.Task.init(
            project_name=PROJECT,
            task_name=run,
            reuse_last_task_id=False,
            auto_connect_arg_parser=False,
            auto_connect_frameworks=False,
            auto_resource_monitoring=False,
            auto_connect_streams=False,
        )
        self.logger = self.task.get_logger()

    def log(self, values: dict[str, float], step: int) -> None:
        if len(values) == 1:
            for name, value in values.items():
                self.logger.report_scalar("bench", name, value, step)
        else:
            self.logger.report_scalars("bench", values, step)

    def end(self) -> None:
        self.task.close()


class Trackio:
    def load(self) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(HOME))
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        import trackio

        self.trackio = trackio

    def begin(self, run: str) -> None:
        self.trackio.init(project=PROJECT, name=run, embed=False, auto_log_gpu=False, auto_log_cpu=False)

    def log(self, values: dict[str, float], step: int) -> None:
        self.trackio.log(values, step=step)

    def end(self) -> None:
        self.trackio.finish()

    def count(self) -> int:
        storage = self._storage()
        return sum(len(storage.get_logs(PROJECT, run)) for run in storage.get_runs(PROJECT))

    def prepare_reading(self, points: int) -> None:
        noise = random.Random(1)
        rows = [{"value": noise.random()} for _ in range(points)]
        self._storage().bulk_log(PROJECT, "long", rows, steps=list(range(points)))

    def read_whole(self) -> int:
        return len(self._storage().get_logs(PROJECT, "long"))

    def read_thinned(self, points: int) -> int:
        return len(self._storage().get_logs(PROJECT, "long", max_points=points))

    def make_many(self, count: int) -> None:
        storage = self._storage()
        noise = random.Random(1)
        for number in range(count):
            storage.bulk_log(
                PROJECT, f"run {number}", [{"loss": noise.random()}], steps=[0], config={"lr": noise.random()}
            )

    def query_many(self) -> int:
        configs = self._storage().get_all_run_configs(PROJECT)
        rows = [(float(config["lr"]), run) for run, config in configs.items() if float(config["lr"]) < 0.5]
        return len(sorted(rows)[:100])

    def _storage(self) -> Any:
        from trackio.sqlite_storage import SQLiteStorage

        return SQLiteStorage


class Tensorboard:
    def load(self) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.Event, self.Summary, self.EventFileWriter = Event, Summary, EventFileWriter

    def begin(self, run: str) -> None:
        self.writer = self.EventFileWriter(str(HOME / run))

    def log(self, values: dict[str, float], step: int) -> None:
        summary = self.Summary(
            value=[self.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        )
        self.writer.add_event(self.Event(step=step, wall_time=time.time(), summary=summary))

    def end(self) -> None:
        self.writer.close()

    def count(self) -> int:
        return sum(self._points(folder) for folder in HOME.iterdir() if folder.is_dir())

    def prepare_reading(self, points: int) -> None:
        self.begin("long")
        noise = random.Random(1)
        for step in range(points):
            self.log({"value": noise.random()}, step)
        self.end()

    def read_whole(self) -> int:
        return self._points(HOME / "long")

    def _points(self, folder: Path, limit: int = 0) -> int:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder), size_guidance={"scalars": limit})
        events.Reload()
        return sum(len(events.Scalars(tag)) for tag in events.Tags()["scalars"])


class Clearml:
    def load(self) -> None:
        os.environ["HOME"] = str(HOME)
        from clearml import Task

        self.Task = Task

    def begin(self, run: str) -> None:
        self.Task.set_offline(True)
        self.task = self.Task.init(
            project_name=PROJECT,
            task_name=run,
            reuse_last_task_id=False,
            auto_connect_arg_parser=False,
            auto_connect_frameworks=False,
            auto_resource_monitoring=False,
            auto_connect_streams=False,
        )
        self.logger = self.task.get_logger()

    def log(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.logger.report_scalar("bench", name, value, step)

    def end(self) -> None:
        self.task.close()


class Goodseed:
    def load(self) -> None:
        import goodseed

        self.goodseed = goodseed

    def begin(self, run: str) -> None:
        self.run = self._open(run)

    def log(self, values: dict[str, float], step: int) -> None:
        self.run.log_metrics(values, step)

    def end(self) -> None:
        self.run.close()

    def count(self) -> int:
        import sqlite3  # what is on this machine can only be read from the file itself

        total = 0
        for file in HOME.glob("projects/*/runs/*.sqlite"):
            database = sqlite3.connect(file)
            total += database.execute("SELECT count(*) FROM metric_points").fetchone()[0]
            database.close()
        return total

    def _open(self, run: str) -> Any:
        return self.goodseed.Run(
            project=PROJECT,
            run_id=run,
            goodseed_home=HOME,
            storage="local",
            git_ref=False,
            capture_hardware_metrics=False,
            capture_stdout=False,
            capture_stderr=False,
            capture_traceback=False,
        )


PEERS: dict[str, type[Any]] = {
    "taskloom": Taskloom,
    "trackio": Trackio,
    "tensorboard": Tensorboard,
    "clearml": Clearml,
    "goodseed": Goodseed,
}


def main() -> None:
    peer, work, arguments = PEERS[sys.argv[1]](), sys.argv[2], sys.argv[3:]
    peer.load()
    told = {
        "start": start,
        "write": write,
        "writer": writer,
        "count": count,
        "read": read,
        "many": many,
    }[work](peer, *arguments)
    sys.stdout.flush()
    print("\n" + json.dumps(told))


def start(peer: Any) -> dict[str, float]:
    """Seconds until the script goes on, and until an empty run is closed."""
    begun = time.perf_counter()
    peer.begin(f"empty-{os.getpid()}")
    started = time.perf_counter()
    peer.end()
    return {"start": started - begun, "close": time.perf_counter() - started}


def write(peer: Any, calls: str, values: str) -> dict[str, float]:
    """What the calling thread pays: CPU and wall-clock seconds of all the calls."""
    names = [f"value {number}" for number in range(int(values))]
    rows = prepared(int(calls), names)
    peer.begin("write")
    if rows:
        peer.log(rows[0], 0)  # a series is named once
    wall, cpu = time.perf_counter(), time.thread_time()
    for step, row in enumerate(rows[1:], 1):
        peer.log(row, step)
    cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
    peer.end()
    return {"calls": max(len(rows) - 1, 0), "points": len(rows) * len(names), "cpu": cpu, "wall": wall}


def writer(peer: Any, run: str, calls: str, barrier: str) -> dict[str, float]:
    """One of several: ready, wait for the barrier, write, say when it was done."""
    rows = prepared(int(calls), ["value"])
    peer.begin(run)
    Path(f"{barrier}.{run}").touch()
    while not Path(barrier).exists():
        time.sleep(0.005)
    begun = time.time()
    for step, row in enumerate(rows):
        peer.log(row, step)
    logged = time.time()
    peer.end()
    return {"begun": begun, "logged": logged, "closed": time.time()}


def count(peer: Any) -> dict[str, float]:
    return {"points": peer.count()}


def read(peer: Any, points: str) -> dict[str, float]:
    peer.prepare_reading(int(points))
    told: dict[str, float] = {}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    told["points"] = peer.read_whole()
    told["wall"], told["cpu"] = time.perf_counter() - wall, time.process_time() - cpu
    told["memory"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    if hasattr(peer, "read_thinned"):
        wall = time.perf_counter()
        told["thinned_points"] = peer.read_thinned(1000)
        told["thinned"] = time.perf_counter() - wall
    return told


def many(peer: Any, runs: str) -> dict[str, float]:
    peer.make_many(int(runs))
    times: list[float] = []
    for _ in range(5):
        begun = time.perf_counter()
        found = peer.query_many()
        times.append(time.perf_counter() - begun)
    return {"seconds": sorted(times)[2], "found": found}


def prepared(calls: int, names: list[str]) -> list[dict[str, float]]:
    """Random doubles of full length: the worst case for what has to be kept."""
    noise = random.Random(1)
    return [{name: noise.random() for name in names} for _ in range(calls)]


if __name__ == "__main__":
    main()
