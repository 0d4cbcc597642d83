"""Queues: what claims, whole lives of leases, enqueues and looks cost beside how much waits.

`queues.py [--waiting N] [--seconds S] [--json]` starts a server of its own on a folder of its own, over real sockets;
with 100,000 waiting it takes two to three minutes, most of them for filling the queue. What waits is of twenty users,
five shapes and five priorities, a fifth of it fits no machine: every claim looks past that. Rates are of one client
that does nothing else, if no number of workers is named; they are told as numbers and as ratios to each other, since
machines differ, and the server's CPU time beside them, since machines do other things.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taskloom.domain.execution import Execution, Resources, Sweep
from taskloom.domain.parameters import Parameter
from taskloom.domain.queue import Machine
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.client import Address
from taskloom.wire.connection import read_connection
from taskloom.wire.send import Client

READY = "Taskloom is ready at "
GIB = 2**30
USERS, PRIORITIES = 20, (-1, 0, 1, 5, 10)
SHAPES = (
    Resources(),
    Resources(cpus=1),
    Resources(cpus=2, memory=4 * GIB),
    Resources(gpus=1, gpu_type="A100-80GB"),
    Resources(cpus=64, gpus=16),  # fits no machine here: every claim has to look past it
)
MACHINE = Machine(
    host="bench", cpus=64, memory=256 * GIB, disk_free=2**40, gpus=("NVIDIA A100-SXM4-80GB",) * 8,
    gpu_memory=(80 * GIB,) * 8,
)  # fmt: skip
CLAIMERS = 4
FEW = 100


def fill(admin: Client, queue: str, waiting: int) -> int:
    """Sweeps of every user, shape and priority; how many tasks wait."""
    kinds = list(itertools.product(range(USERS), SHAPES, PRIORITIES))
    each, made = max(waiting // len(kinds), 1), 0
    for user, shape, priority in kinds[: max(waiting // each, 1)]:
        client = _client_of(admin, f"user {user}")
        values = tuple(range(each))
        execution = Execution(
            command=("true",), resources=shape, priority=priority, sweep=Sweep(grid={"x": values})
        )
        parameters = {"General": {"x": Parameter("0", "int")}}
        body = m.TaskCreate(name="waits", project="bench", execution=execution, parameters=parameters)
        task = client.call(op.CREATE_TASK, body)
        client.call(op.ENQUEUE_TASK, m.Enqueue(queue=queue, create=True), task=task.id)
        made += each
    return made


_clients: dict[str, Client] = {}


def _client_of(admin: Client, user: str) -> Client:
    if user not in _clients:
        key = admin.call(op.CREATE_KEY, m.KeyCreate(label="bench", role="member", user=user)).key
        _clients[user] = Client(Address(admin.address.url, key))
    return _clients[user]


def register(client: Client, worker: str, queue: str) -> None:
    body = m.WorkerRegister(
        id=worker, name=worker, queues=(queue,), slots=8, machine=MACHINE, version="0", create_queues=True
    )
    client.call(op.REGISTER_WORKER, body)


def claims(client: Client, queue: str, seconds: float) -> list[float]:
    """How long each claim took; what is claimed is ended at once, outside of what is measured."""
    register(client, f"claims of {queue}", queue)
    took: list[float] = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        began = time.perf_counter()
        lease = client.call(op.CLAIM_TASK, m.Claim(worker=f"claims of {queue}", queues=(queue,), wait=0.0)).lease
        took.append(time.perf_counter() - began)
        if lease is None:
            break
        client.call(op.FINISH_LEASE, m.Finish(outcome="completed"), token=lease.token)
    return took


def cycle(url: str, key: str, number: int, queue: str, seconds: float) -> int:
    client, done = Client(Address(url, key)), 0
    register(client, f"cycles {number}", queue)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        claim = m.Claim(worker=f"cycles {number}", queues=(queue,), wait=0.0)
        lease = client.call(op.CLAIM_TASK, claim).lease
        if lease is None:
            break
        client.call(op.RENEW_LEASE, m.Renew(phase="running"), token=lease.token)
        client.call(op.FINISH_LEASE, m.Finish(outcome="completed"), token=lease.token)
        done += 1
    client.close()
    return done


def cycles(admin: Client, queue: str, claimers: int, seconds: float) -> float:
    """Whole lives of a lease a second, by so many processes at once."""
    given = [(admin.address.url, admin.address.api_key, n, queue, seconds) for n in range(claimers)]
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(claimers) as pool:
        done = pool.starmap(cycle, given)
    return sum(done) / max(min(time.monotonic() - began, seconds), 1e-9)


def enqueues(admin: Client, queue: str, number: int) -> list[float]:
    """How long each took, of plain tasks of every user, shape and priority."""
    kinds = itertools.cycle(itertools.product(SHAPES, PRIORITIES, range(USERS)))
    took: list[float] = []
    for shape, priority, user in itertools.islice(kinds, number):
        client = _client_of(admin, f"user {user}")
        execution = Execution(command=("true",), resources=shape, priority=priority)
        task = client.call(op.CREATE_TASK, m.TaskCreate(name="plain", project="bench", execution=execution)).id
        body = m.Enqueue(queue=queue, create=True)
        took.append(timed(client.call, op.ENQUEUE_TASK, body, task=task))
    return took


def timed(call: Callable[..., Any], *arguments: Any, **named: Any) -> float:
    began = time.perf_counter()
    call(*arguments, **named)
    return time.perf_counter() - began


def cpu_seconds(pid: int) -> float:
    """Of the server so far: on a machine that does other things, what is left to compare."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def looks(admin: Client, waiting: int) -> dict[str, float]:
    """Seconds of what people ask of a long queue."""

    def page(offset: int, limit: int = 1000) -> m.QueueEntries:
        return admin.call(op.GET_QUEUE, query=m.QueuePage(limit=limit, offset=offset), queue="many")

    def move(task: str, position: int) -> m.QueueEntries:
        return admin.call(op.MOVE_ENTRY, m.EntryMove(task=task, position=position), queue="many")

    middle = [entry.task for entry in page(waiting // 2, 20).entries]
    return {
        "page of 1,000": statistics.median(timed(page, 0) for _ in range(5)),
        "page of 1,000 from the middle": statistics.median(timed(page, waiting // 2) for _ in range(5)),
        "a reason": statistics.median(timed(admin.call, op.WAITING, task=task) for task in middle[:5]),
        "all queues": timed(admin.call, op.LIST_QUEUES),
        "a move to the third place, with its page": statistics.median(
            timed(move, task, 3) for task in middle[5:10]
        ),
        "a move to the back, with its page": statistics.median(timed(move, task, -1) for task in middle[10:15]),
        "a move into the middle, with its page": timed(move, middle[19], waiting // 3),
    }


def measure(data: Path, waiting: int, seconds: float) -> dict[str, Any]:
    process = subprocess.Popen(
        [sys.executable, "-m", "taskloom.server", "--data", str(data), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix(READY).strip()
        connection = read_connection(data)
        assert connection is not None
        return _measured(Client(Address(url, connection.api_key)), process.pid, waiting, seconds)
    finally:
        process.terminate()
        process.wait(30)


def _measured(admin: Client, server: int, waiting: int, seconds: float) -> dict[str, Any]:
    told: dict[str, Any] = {"waiting": waiting, "load before": os.getloadavg()[0]}
    put = enqueues(admin, "few", FEW)
    told["enqueues/s, few"] = len(put) / sum(put)
    took = claims(admin, "few", seconds)
    told["claims/s, few"] = len(took) / sum(took)
    began = time.monotonic()
    told["many waiting"] = fill(admin, "many", waiting)
    told["many filled in s"] = time.monotonic() - began
    put = enqueues(admin, "many", FEW)
    told["enqueues/s, many"] = len(put) / sum(put)
    took = claims(admin, "many", seconds)
    told["claims/s, many"] = len(took) / sum(took)
    told["claim p95 ms, many"] = 1000 * statistics.quantiles(took, n=20)[-1]
    for claimers in (1, CLAIMERS):
        before, began = cpu_seconds(server), time.monotonic()
        rate = cycles(admin, "many", claimers, seconds)
        told[f"cycles/s, many, {claimers} workers"] = rate
        spent = cpu_seconds(server) - before
        told[f"server CPU ms a cycle, {claimers} workers"] = (
            1000 * spent / (rate * min(time.monotonic() - began, seconds))
        )
    told |= {f"s, many: {name}": value for name, value in looks(admin, waiting).items()}
    told["claims: many to few"] = told["claims/s, many"] / told["claims/s, few"]
    told["enqueues: many to few"] = told["enqueues/s, many"] / told["enqueues/s, few"]
    told[f"cycles: {CLAIMERS} workers to 1"] = (
        told[f"cycles/s, many, {CLAIMERS} workers"] / told["cycles/s, many, 1 workers"]
    )
    told["a page in claims"] = told["s, many: page of 1,000"] * told["claims/s, many"]
    told["a reason in claims"] = told["s, many: a reason"] * told["claims/s, many"]
    told["load after"] = os.getloadavg()[0]
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measure")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taskloom-queues-") as folder:
        told = measure(Path(folder) / "data", chosen.waiting, chosen.seconds)
    if chosen.json:
        print(json.dumps(told))
        return
    for name, value in told.items():
        print(f"{name:48} {value:.4g}" if isinstance(value, float) else f"{name:48} {value}")


if __name__ == "__main__":
    main()
