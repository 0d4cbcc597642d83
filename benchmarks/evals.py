"""Evaluations: runs a second with a no-op agent, and memory, beside HUD's package and Inspect, in one go.

    evals.py [--hud PYTHON] [--inspect PYTHON] [--quick] [--large COUNT] [--json FILE]

PYTHON: an interpreter that has the peer (by default that of TASKLOOM_TEST_HUD, and of TASKLOOM_TEST_INSPECT); without one the
peer is left out. Taskloom records everything on a real `taskloom server` of its own, and each job is counted there, run
by run, before its figure counts; `recorded` is the rate up to the moment when the server had the last of it. HUD runs
twice: reporting nowhere, and to a local server that says yes to everything. Each workload has processes of its own. The machine
may be busy: only figures of the same run compare.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from taskloom.wire.client import Address
from taskloom.wire.connection import read_connection
from taskloom.wire.messages import RunQuery
from taskloom.wire.operations import GET_JOB, LIST_RUNS
from taskloom.wire.send import Client

HERE = Path(__file__).resolve().parent
PEERS = HERE / "eval_peers.py"
READY = "Taskloom is ready at "
PORT = "HUD_SERVE_PORT="
PATIENCE = 600.0  # seconds that one workload may take
GOAL = 500.0  # runs a second, recorded, at the highest concurrency


@dataclass(frozen=True)
class Workload:
    """Counts by concurrency, such that nobody takes minutes."""

    name: str
    peer: str
    runtime: str
    counts: dict[int, int]
    reporting: bool = False


WORKLOADS = (
    Workload("taskloom, Runtime(url), recorded on a server", "taskloom", "url", {1: 1000, 8: 3000, 64: 6000}),
    Workload("hud, Runtime(url), not reporting", "hud", "url", {1: 300, 8: 600, 64: 1200}),
    Workload("hud, Runtime(url), reporting to a stand-in", "hud", "url", {1: 20, 8: 40, 64: 64}, reporting=True),
    Workload("inspect, mock model, .eval file", "inspect", "none", {1: 100, 8: 200, 64: 300}),
    Workload("taskloom, LocalRuntime, recorded on a server", "taskloom", "local", {1: 100, 8: 400, 64: 800}),
    Workload("hud, SubprocessRuntime, not reporting", "hud", "local", {1: 2, 8: 4}),
)


@dataclass(frozen=True)
class Result:
    name: str
    peer: str
    runtime: str
    concurrency: int
    count: int
    rate: float
    cpu_ms: float
    memory: float
    recorded: float | None = None


@contextmanager
def house(folder: Path) -> Iterator[dict[str, str]]:
    """A server as `taskloom server` starts it; yields the variables with which it is found."""
    process = subprocess.Popen(
        [sys.executable, "-m", "taskloom.server", "--data", str(folder), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(READY), line
        found = read_connection(folder)
        assert found is not None
        yield {"TASKLOOM_DATA": str(folder), "TASKLOOM_URL": found.url, "TASKLOOM_API_KEY": found.api_key}
    finally:
        _end(process)


@contextmanager
def served(python: str, peer: str, environment: dict[str, str]) -> Iterator[int]:
    """The port that a process announced."""
    process = subprocess.Popen(
        [python, str(PEERS), peer, "serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(PORT):
                yield int(line.removeprefix(PORT))
                return
        raise RuntimeError(f"the environment of {peer} did not start")
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Bench:
    """Everything that the workloads share."""

    def __init__(self, stack: ExitStack, pythons: dict[str, str]) -> None:
        self.pythons = pythons
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taskloom-bench-")))
        self.stack = stack
        self.house = stack.enter_context(house(self.folder / "house"))
        self._client = Client(Address(self.house["TASKLOOM_URL"], self.house["TASKLOOM_API_KEY"]))
        self._ports: dict[str, int] = {}

    def environment(self, peer: str, *, reporting: bool = False) -> dict[str, str]:
        found = {**os.environ, **self.house, "HOME": str(self.folder), "BENCH_HOME": str(self.folder)}
        found["HUD_TELEMETRY_ENABLED"] = "true" if reporting else "false"
        found["HUD_CLI_ANALYTICS_ENABLED"] = "false"
        found.pop("HUD_API_KEY", None)
        if reporting:
            address = f"http://127.0.0.1:{self.port('stand-in')}"
            found |= {"HUD_API_KEY": "key", "HUD_API_URL": address, "HUD_TELEMETRY_URL": address}
        if peer != "taskloom":
            found.pop("PYTHONPATH", None)
        return found

    def port(self, peer: str) -> int:
        if peer not in self._ports:
            python = self.pythons.get(peer, sys.executable)
            self._ports[peer] = self.stack.enter_context(served(python, peer, self.environment(peer)))
        return self._ports[peer]

    def measure(self, workload: Workload, concurrency: int, count: int) -> Result:
        words = [
            self.pythons[workload.peer],
            str(PEERS),
            workload.peer,
            workload.runtime,
            str(count),
            str(concurrency),
        ]
        if workload.runtime == "url":
            words.append(f"tcp://127.0.0.1:{self.port(workload.peer)}")
        done = subprocess.run(
            words,
            env=self.environment(workload.peer, reporting=workload.reporting),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{workload.name}: {done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        if "job" in found:
            self.verify(found["job"], count)
        recorded = found.get("recorded_seconds")
        return Result(
            name=workload.name,
            peer=workload.peer,
            runtime=workload.runtime,
            concurrency=concurrency,
            count=count,
            rate=count / found["seconds"],
            cpu_ms=1000 * found["cpu"] / count,
            memory=found["memory"],
            recorded=count / recorded if recorded else None,
        )

    def verify(self, job: str, count: int) -> None:
        """Every run is on the server, ended and graded; the command itself has waited for that."""
        record = self._client.call(GET_JOB, job=job)
        assert record.counts == {"completed": count}, record.counts
        assert record.reward == 1.0
        total = self._client.call(LIST_RUNS, query=RunQuery(limit=1), job=job).total
        assert total == count, total


def show(results: list[Result]) -> None:
    """A table by workload, then how many times faster Taskloom is at each concurrency."""
    print(f"\n{'':48}{'at a time':>10}{'runs/s':>9}{'recorded/s':>12}{'CPU ms':>9}{'MB':>7}")
    for one in results:
        recorded = f"{one.recorded:.0f}" if one.recorded else ""
        print(
            f"{one.name:48}{one.concurrency:>10}{one.rate:>9.1f}{recorded:>12}{one.cpu_ms:>9.2f}{one.memory / 1e6:>7.0f}"
        )
    print("\nTaskloom (recorded) to its peers, times as fast:")
    for ours in results:
        if ours.peer != "taskloom":
            continue
        for theirs in results:
            alike = theirs.runtime == ours.runtime or (theirs.runtime == "none" and ours.runtime == "url")
            if theirs.peer != "taskloom" and alike and theirs.concurrency == ours.concurrency:
                print(
                    f"  {ours.runtime:6}{ours.concurrency:>3}  {(ours.recorded or 0) / theirs.rate:>8.1f}  {theirs.name}"
                )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hud", default=os.environ.get("TASKLOOM_TEST_HUD", ""))
    parser.add_argument("--inspect", default=os.environ.get("TASKLOOM_TEST_INSPECT", ""))
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs")
    parser.add_argument("--large", type=int, default=10_000, help="runs of the job whose memory is told; 0: none")
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    pythons = {"taskloom": sys.executable}
    for peer in ("hud", "inspect"):
        if getattr(options, peer):
            pythons[peer] = getattr(options, peer)
        else:
            print(f"{peer} is left out: no interpreter that has it was named", file=sys.stderr)
    results: list[Result] = []
    with ExitStack() as stack:
        bench = Bench(stack, pythons)
        for workload in WORKLOADS:
            for concurrency, count in workload.counts.items() if workload.peer in pythons else ():
                some = max(count // 10, 1) if options.quick else count
                results.append(bench.measure(workload, concurrency, some))
                print(f"{workload.name}, {concurrency} at a time: {results[-1].rate:.1f} runs/s", file=sys.stderr)
        if options.large:
            large = Workload(f"taskloom, {options.large} runs in one job", "taskloom", "url", {})
            results.append(bench.measure(large, 256, options.large))
    show(results)
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(one) for one in results], indent=2))
    best = max(
        (
            one.recorded or 0.0
            for one in results
            if one.runtime == "url" and one.concurrency == 64 and one.peer == "taskloom"
        ),
        default=0.0,
    )
    print(
        f"\nrecorded at 64 at a time: {best:.0f} runs/s, wanted {GOAL:.0f}: {'reached' if best >= GOAL else 'missed'}"
    )
    return 0


if __name__ == "__main__":
    begun = time.perf_counter()
    code = main()
    print(f"{time.perf_counter() - begun:.0f} s in all")
    sys.exit(code)
