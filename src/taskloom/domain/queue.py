"""Queues, workers and leases, as values.

A worker owns a task only while its lease is fresh; the lease's token fences every report of the attempt.
"""

from __future__ import annotations

from typing import Literal

import msgspec

OnLost = Literal["requeue", "fail"]


class Queue(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where pending tasks wait.

    on_lost               what becomes of a task whose worker fell silent
    max_attempts          leases that one enqueued task may have before it fails for good
    max_running           tasks that may run at once; 0: as many as workers take
    max_running_per_user  the same for the tasks of one user
    max_waiting_per_user  tasks that one user may have waiting; 0: as many as come
    hold_after            seconds that a task has to have waited before a worker that it would fit keeps free for it
                          what other tasks give back
    """

    id: str
    name: str
    description: str = ""
    tags: tuple[str, ...] = ()
    paused: bool = False
    on_lost: OnLost = "requeue"
    max_attempts: int = 3
    max_running: int = 0
    max_running_per_user: int = 0
    max_waiting_per_user: int = 0
    hold_after: float = 300.0
    created: float = 0.0
    waiting: int = 0
    running: int = 0


class QueueEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One waiting task, as a list of the queue shows it; `position` counts from 1."""

    task: str
    task_name: str
    project: str
    user: str
    position: int
    enqueued: float
    attempts: int = 0
    priority: int = 0


class Waiting(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a task waits: a sentence for people with the facts it was made from."""

    task: str
    queue: str
    position: int
    ahead: int
    reason: str
    workers: int = 0
    free_slots: int = 0


class Machine(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker's machine has, and how busy it is. Memory and disk in bytes, use in percent.

    gpus        names of the GPUs that the worker may use; gpu_memory: bytes of each
    containers  the command that runs containers there, `docker` or `podman`; empty: none
    """

    host: str = ""
    os: str = ""
    python: str = ""
    cpus: int = 0
    memory: int = 0
    disk_free: int = 0
    gpus: tuple[str, ...] = ()
    gpu_memory: tuple[int, ...] = ()
    containers: str = ""
    cpu_use: float = 0.0
    memory_use: float = 0.0


class Reserved(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the tasks of a worker asked for, all together. gpus: by their place in `Machine.gpus`."""

    cpus: float = 0.0
    memory: int = 0
    disk: int = 0
    gpus: tuple[int, ...] = ()


class WorkerInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One worker as the server knows it. `alive`: heard of within two lease periods.

    phases: of its tasks, in their order: preparing, setup, running, uploading.
    """

    id: str
    name: str
    queues: tuple[str, ...] = ()
    slots: int = 1
    tasks: tuple[str, ...] = ()
    phases: tuple[str, ...] = ()
    reserved: Reserved = Reserved()
    machine: Machine = Machine()
    version: str = ""
    user: str = ""
    registered: float = 0.0
    last_seen: float = 0.0
    alive: bool = True
    draining: bool = False
