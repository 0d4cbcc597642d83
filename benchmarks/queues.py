"""Queues: claims per second beside how much waits, and whole cycles of four workers that contend.

`queues.py [--waiting N] [--seconds S] [--json]` starts a server of its own on a folder of its own, over real sockets.
What waits is of twenty users, five shapes and five priorities, and does not fit all in the order of coming: the longest
queues are made by sweeps. Rates are told as numbers and as ratios to each other, since machines differ.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
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
        admin = Client(Address(url, connection.api_key))
        told: dict[str, Any] = {"waiting": waiting}
        for name, number in (("few", 100), ("many", waiting)):
            began = time.monotonic()
            told[f"{name} waiting"] = fill(admin, name, number)
            told[f"{name} filled in s"] = round(time.monotonic() - began, 2)
            took = claims(admin, name, seconds)
            told[f"claims/s, {name}"] = round(len(took) / sum(took), 1)
            told[f"claim p95 ms, {name}"] = round(1000 * statistics.quantiles(took, n=20)[-1], 2)
        fill(admin, "few cycles", 100)
        told["cycles/s, 1 worker, many"] = round(cycles(admin, "many", 1, seconds), 1)
        told[f"cycles/s, {CLAIMERS} workers, many"] = round(cycles(admin, "many", CLAIMERS, seconds), 1)
        for word, call in (
            ("page of 1000", lambda: admin.call(op.GET_QUEUE, query=m.QueuePage(), queue="many")),
            ("queues", lambda: admin.call(op.LIST_QUEUES)),
        ):
            began = time.perf_counter()
            call()
            told[f"{word} ms, many"] = round(1000 * (time.perf_counter() - began), 1)
        last = admin.call(op.GET_QUEUE, query=m.QueuePage(limit=1, offset=waiting // 2), queue="many").entries[0]
        began = time.perf_counter()
        told["reason"] = admin.call(op.WAITING, task=last.task).reason
        told["why it waits ms, many"] = round(1000 * (time.perf_counter() - began), 1)
        told["claims: many to few"] = round(told["claims/s, many"] / told["claims/s, few"], 2)
        contended, alone = told[f"cycles/s, {CLAIMERS} workers, many"], told["cycles/s, 1 worker, many"]
        told[f"cycles: {CLAIMERS} workers to 1"] = round(contended / alone, 2)
        return told
    finally:
        process.terminate()
        process.wait(30)


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
        print(f"{name:28} {value}")


if __name__ == "__main__":
    main()
