"""Queues, workers and leases; their order and retries: see `wire.worker_protocol`."""

from __future__ import annotations

from taskloom.domain.queue import Machine, OnLost, Queue, QueueEntry, WorkerInfo
from taskloom.domain.task import Task
from taskloom.wire.messages.base import Answer, Request
from taskloom.wire.records import EndStatus


class QueueCreate(Request, frozen=True, kw_only=True):
    name: str
    description: str = ""
    tags: tuple[str, ...] = ()
    on_lost: OnLost = "requeue"
    max_attempts: int = 3
    max_running: int = 0
    max_running_per_user: int = 0
    max_waiting_per_user: int = 0
    hold_after: float = 300.0


class QueueEdit(Request, frozen=True, kw_only=True):
    name: str | None = None
    description: str | None = None
    tags: tuple[str, ...] | None = None
    paused: bool | None = None
    on_lost: OnLost | None = None
    max_attempts: int | None = None
    max_running: int | None = None
    max_running_per_user: int | None = None
    max_waiting_per_user: int | None = None
    hold_after: float | None = None


class QueueList(Answer, frozen=True, kw_only=True):
    queues: list[Queue]


class QueuePage(Request, frozen=True, kw_only=True):
    """Query string. Entries from `offset` on, up to `limit` (at most 1000)."""

    limit: int = 1000
    offset: int = 0


class QueueEntries(Answer, frozen=True, kw_only=True):
    """A page of what waits, in the order in which it would start; how many wait stands in `queue.waiting`."""

    queue: Queue
    entries: list[QueueEntry]


class EntryMove(Request, frozen=True, kw_only=True):
    """Where a waiting task goes inside its queue: 1 is the front; -1 the back."""

    task: str
    position: int


class Enqueue(Request, frozen=True, kw_only=True):
    """By name or id of the queue; both empty: `default`. A queue that is not there is made when `create`.

    priority: None: the execution's own.
    """

    queue: str = ""
    create: bool = False
    priority: int | None = None


class WorkerRegister(Request, frozen=True, kw_only=True):
    id: str
    name: str
    queues: tuple[str, ...]
    slots: int
    machine: Machine
    version: str
    create_queues: bool = False


class WorkerList(Answer, frozen=True, kw_only=True):
    workers: list[WorkerInfo]


class Claim(Request, frozen=True, kw_only=True):
    """Ask for one task. `wait`: seconds (at most 30) that the server may keep the question open."""

    worker: str
    queues: tuple[str, ...]
    lease: float = 30.0  # seconds between 2 and 3600
    wait: float = 20.0
    machine: Machine | None = None


class Credential(Answer, frozen=True, kw_only=True):
    """What git answers when a server whose address begins with `url` asks who it is. Never told to the task."""

    url: str
    username: str
    password: str


class Lease(Answer, frozen=True, kw_only=True):
    """gpus: which of the worker's GPUs are the attempt's, by their place in `Machine.gpus`; None: no word about them.

    secrets: values of those that the execution names. credentials: for its repositories.
    """

    token: str
    expires: float  # server's clock
    seconds: float
    attempt: int
    queue: str
    task: Task
    user: str
    key: str  # an API key for the child, valid only while the lease is
    gpus: tuple[int, ...] | None = None
    secrets: dict[str, str] = {}
    credentials: tuple[Credential, ...] = ()


class Claimed(Answer, frozen=True, kw_only=True):
    lease: Lease | None = None


class Renew(Request, frozen=True, kw_only=True):
    """`phase` is shown to people: preparing, setup, running, uploading.

    keep: seconds from now that the lease lives, when the worker is about to be away for longer than its period (a
    restart); 0: one period. At most 3600.
    """

    phase: str = ""
    keep: float = 0.0
    machine: Machine | None = None


class Renewed(Answer, frozen=True, kw_only=True):
    """`stop`: somebody aborted the task; end it and call finish with `aborted`.

    `give_back`, with `stop`: its place is needed by a task of higher priority; end it with `requeue`.
    """

    expires: float
    stop: bool = False
    give_back: bool = False
    reason: str = ""


class Finish(Request, frozen=True, kw_only=True):
    """`requeue` (of a lease only): the worker gives the task back unfinished; it waits again when its queue's
    policy and the attempts allow it, else it ends with `outcome`.
    """

    outcome: EndStatus
    exit_code: int | None = None
    reason: str = ""
    message: str = ""
    requeue: bool = False


class WorkerDrain(Request, frozen=True, kw_only=True):
    drain: bool = True
