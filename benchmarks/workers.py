"""What a worker costs: from the enqueue to the script's first line, and the overhead of a task that does nothing.

    python benchmarks/workers.py [--tasks 1000] [--slots 4] [--samples 20] [--json]

A server and a worker as processes of their own, with a fresh folder; nothing is left. `run_tasks` counts the tasks that
any system finishes, so that others can be measured beside ours: it is given what enqueues one and what tells how many
are over.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from taskloom.domain.execution import Execution
from taskloom.domain.status import Status
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.client import Address
from taskloom.wire.connection import read_connection
from taskloom.wire.send import Client

PATIENCE = 900.0


@dataclass(frozen=True)
class Throughput:
    """`cpu`: seconds of all the processes given, per task."""

    tasks: int
    seconds: float
    per_second: float
    cpu: float


def run_tasks(count: int, enqueue: Callable[[], object], over: Callable[[], int], pids: list[int]) -> Throughput:
    """Enqueues `count` tasks, waits until `over` says that so many are, tells how long that took."""
    before = _cpu(pids)
    began = time.perf_counter()
    for _ in range(count):
        enqueue()
    while over() < count:
        if time.perf_counter() - began > PATIENCE:
            raise TimeoutError(f"{over()} of {count} tasks were over after {PATIENCE:g} s")
        time.sleep(0.05)
    seconds = time.perf_counter() - began
    return Throughput(count, seconds, count / seconds, (_cpu(pids) - before) / count)


def _cpu(pids: list[int]) -> float:
    """Of these processes and of their children that are over."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


@contextlib.contextmanager
def ours(slots: int) -> Iterator[tuple[Client, list[int]]]:
    """A server and a worker with reused packages: what is measured is the worker, not an index."""
    with tempfile.TemporaryDirectory(prefix="taskloom-bench-") as folder:
        data = Path(folder) / "data"
        environ = {k: v for k, v in os.environ.items() if not k.startswith("TASKLOOM_")}
        with contextlib.ExitStack() as stack:
            words = ["-m", "taskloom.server", "--data", str(data), "--port", "0"]
            server = stack.enter_context(_process(words, environ))
            written = read_connection(data)
            assert written is not None
            environ |= {
                "TASKLOOM_URL": written.url,
                "TASKLOOM_API_KEY": written.api_key,
                "TASKLOOM_DATA": str(data),
            }
            words = ["-m", "taskloom.cli.worker", "--slots", str(slots), "--packages", "reuse", "--leave", "0"]
            worker = stack.enter_context(_process(words, environ))
            client = Client(Address(written.url, written.api_key))
            yield client, [server.pid, worker.pid]
            client.close()


@contextlib.contextmanager
def _process(words: list[str], environ: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *words], env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), "it did not start"
        yield process
    finally:
        process.terminate()
        process.wait(60)


def make_task(client: Client, execution: Execution) -> str:
    task = client.call(op.CREATE_TASK, m.TaskCreate(name="no-op", project="benchmark", execution=execution)).id
    client.call(op.ENQUEUE_TASK, m.Enqueue(), task=task)
    return task


def first_lines(client: Client, samples: int, folder: Path) -> list[float]:
    """Seconds from the call of enqueue to the script's first line, one task after another on an idle worker."""
    found: list[float] = []
    for number in range(samples):
        mark = folder / f"mark-{number}"
        script = f"import time\nopen({str(mark)!r}, 'w').write(repr(time.time()))\n"
        began = time.time()
        task = make_task(client, Execution(diff=script, entry_point="script.py"))
        while client.call(op.GET_TASK, task=task).status in {"pending", "running"}:
            time.sleep(0.02)
        found.append(float(mark.read_text()) - began)
    return found


def over(client: Client) -> int:
    query = m.TaskQuery(
        project="benchmark", limit=1, status=[Status.COMPLETED, Status.FAILED, Status.ABORTED], count_to=1_000_000
    )
    return client.call(op.QUERY_TASKS, query).total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with ours(asked.slots) as (client, pids), tempfile.TemporaryDirectory() as marks:
        latency = first_lines(client, asked.samples, Path(marks)) if asked.samples else [0.0]
        already = over(client)
        noop = Execution(command=("true",))
        done = run_tasks(asked.tasks, lambda: make_task(client, noop), lambda: over(client) - already, pids)
    told = {
        "claim_to_first_line_s": {"median": statistics.median(latency), "max": max(latency)},
        "no_op": asdict(done),
        "slots": asked.slots,
    }
    if asked.json:
        print(json.dumps(told))
        return
    print(f"enqueue to first line: median {statistics.median(latency):.3f} s, worst {max(latency):.3f} s")
    print(
        f"{done.tasks} no-op tasks, {asked.slots} slots: {done.per_second:.1f} tasks/s, "
        f"{1000 * asked.slots / done.per_second:.0f} ms of a slot per task, {1000 * done.cpu:.0f} ms of CPU per task"
    )


if __name__ == "__main__":
    main()
