"""ClearML's workers: its agents tell who they are and what they do, and find ours beside them.

An agent is a worker like ours, with its machine, queues and tasks, in the same list. What is not kept: the course
of its machine's numbers. `workers.get_stats` and `workers.get_activity_report` tell the last report and what
follows from when a worker came and was last heard of, not what was in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

from taskloom.domain.queue import Machine, Queue, WorkerInfo
from taskloom.domain.task import Task
from taskloom.server.compat.clearml.call import (
    ClearMLCall,
    Data,
    Endpoint,
    Endpoints,
    Rooms,
    needed,
    number,
    reads,
    table,
    tables,
    text,
    texts,
)
from taskloom.server.compat.clearml.documents import Document, moment
from taskloom.server.compat.clearml.errors import INVALID_TASK, Refusal
from taskloom.server.compat.clearml.people import People, people_of
from taskloom.server.compat.clearml.projecting import only
from taskloom.server.compat.clearml.tokens import COMPANY, COMPANY_NAME
from taskloom.server.queues.agents import Report
from taskloom.server.queues.worker_store import AgentNotes
from taskloom.wire.messages import TaskQuery

LAST_SEEN = 3600  # seconds of silence after which a worker is left out, unless a client says otherwise
MOST_POINTS = 2000
MANY = 1000  # tasks that are looked up for one list
MIB = 2**20
LARGEST = 1e12  # of a machine's numbers; what is above, or no number at all, says nothing
_AVERAGE: dict[str, Callable[[tuple[float, ...]], float]] = {
    "avg": lambda values: sum(values) / len(values),
    "min": min,
    "max": max,
}


def endpoints(rooms: Rooms) -> Endpoints:
    agents = rooms.queues.agents

    async def register(call: ClearMLCall) -> Data:
        body = call.body
        told = Report(
            worker=needed(body, "worker"),
            version=call.client,
            queues=tuple(texts(body, "queues")),
            tags=_optional(body, "tags"),
            system_tags=_optional(body, "system_tags"),
            timeout=number(body, "timeout", 600, 1, 7 * 86_400),
        )
        await agents.register(call.caller, told)
        return {}

    async def unregister(call: ClearMLCall) -> Data:
        await agents.unregister(needed(call.body, "worker"))
        return {}

    async def status_report(call: ClearMLCall) -> Data:
        body = call.body
        stats = _numbers(table(body, "machine_stats"))
        worker, task = needed(body, "worker"), text(body, "task")
        if task and len(task) > 64:
            raise Refusal(f"task {task[:80]!r} is no id", 400, INVALID_TASK)
        told = Report(
            worker=worker,
            version=call.client,
            task=task,
            queue=text(body, "queue"),
            queues=_optional(body, "queues"),
            machine=machine_of(worker, stats) if stats else None,
            stats=stats or None,
            tags=_optional(body, "tags"),
            system_tags=_optional(body, "system_tags"),
        )
        await agents.report(call.caller, told)
        return {}

    async def get_runtime_properties(call: ClearMLCall) -> Data:
        found = await agents.properties(needed(call.body, "worker"))
        told = [{"key": key, "value": value, "expiry": None} for key, value in found.items()]
        return {"runtime_properties": told}

    async def set_runtime_properties(call: ClearMLCall) -> Data:
        values: dict[str, str | None] = {}
        for item in tables(call.body, "runtime_properties"):
            values[needed(item, "key")] = None if item.get("value") is None else text(item, "value")
        await agents.set_properties(call.caller, needed(call.body, "worker"), values)
        return {"added": [name for name, value in values.items() if value is not None]}

    # --- who is there -----------------------------------------------------------------------------------

    async def get_all(call: ClearMLCall) -> Data:
        body = call.body
        known = await chosen(body)
        tasks = await tasks_of([task for worker in known for task in worker.tasks[:1]])
        queues = {queue.id: queue for queue in await rooms.queues.list_queues()}
        wanted = dict.fromkeys(queue for worker in known for queue in worker.info.queues)
        waiting = await rooms.queues.waiting_tasks(list(wanted))
        told = _Telling(await people_of(rooms), queues, waiting, tasks, rooms.clock())
        fields = texts(body, "only_fields")
        return {"workers": [only(told.document(worker), fields) for worker in known]}

    async def get_count(call: ClearMLCall) -> Data:
        return {"count": len(await chosen(call.body))}

    async def chosen(body: Data) -> list[_Known]:
        limit = number(body, "last_seen", LAST_SEEN, 0, 2**31)
        since = rooms.clock() - limit if limit else 0.0
        pattern, tags = text(body, "worker_pattern"), set(texts(body, "tags"))
        return [
            worker
            for worker in await everybody()
            if worker.info.last_seen >= since
            and (not pattern or fnmatchcase(worker.info.id, pattern))
            and (not tags or not tags.isdisjoint(worker.notes.tags))
        ]

    async def everybody() -> list[_Known]:
        notes = {row.id: row.notes for row in await agents.list()}
        found: list[_Known] = []
        for info in await rooms.queues.list_workers():
            mine = notes.get(info.id) or AgentNotes()
            tasks = info.tasks or ((mine.task,) if mine.task else ())
            found.append(_Known(info, mine, tasks))
        return found

    async def tasks_of(ids: list[str]) -> dict[str, Task]:
        if not ids:
            return {}
        fields = ["project_id", "started", "queue", "last_iteration"]
        found = await rooms.tasks.query_tasks(TaskQuery(ids=ids[:MANY], fields=fields, limit=MANY))
        return {task.id: task for task in found.tasks}

    # --- numbers ----------------------------------------------------------------------------------------

    async def get_metric_keys(call: ClearMLCall) -> Data:
        wanted = set(texts(call.body, "worker_ids"))
        names = {name for w in await everybody() if not wanted or w.info.id in wanted for name in _stats(w)}
        groups: dict[str, list[str]] = {}
        for name in sorted(names):
            groups.setdefault(name.partition("_")[0], []).append(name)
        return {"categories": [{"name": name, "metric_keys": keys} for name, keys in groups.items()]}

    async def get_stats(call: ClearMLCall) -> Data:
        body = call.body
        wanted, items = set(texts(body, "worker_ids")), tables(body, "items")
        begin, end, interval = _span(body, rooms.clock())
        told: list[Document] = []
        for worker in await everybody():
            if wanted and worker.info.id not in wanted:
                continue
            inside = begin <= worker.info.last_seen < end + interval
            metrics = [_statistic(worker, item) for item in items] if inside else []
            told.append({"worker": worker.info.id, "metrics": [metric for metric in metrics if metric]})
        return {"workers": told}

    async def get_activity_report(call: ClearMLCall) -> Data:
        begin, end, interval = _span(call.body, rooms.clock())
        dates = [int(begin + step * interval) for step in range(int((end - begin) // interval) + 1)]
        known = await everybody()

        def counts(there: list[_Known]) -> list[int]:
            return [
                sum(1 for w in there if w.info.registered < date + interval and w.info.last_seen >= date)
                for date in dates
            ]

        return {
            "total": {"dates": dates, "counts": counts(known)},
            "active": {"dates": dates, "counts": counts([worker for worker in known if worker.tasks])},
        }

    return {
        "workers.register": Endpoint(register),
        "workers.unregister": Endpoint(unregister),
        "workers.status_report": Endpoint(status_report),
        "workers.get_runtime_properties": reads(get_runtime_properties),
        "workers.set_runtime_properties": Endpoint(set_runtime_properties),
        "workers.get_all": reads(get_all),
        "workers.get_count": reads(get_count),
        "workers.get_metric_keys": reads(get_metric_keys),
        "workers.get_stats": reads(get_stats),
        "workers.get_activity_report": reads(get_activity_report),
    }


@dataclass(frozen=True)
class _Known:
    """A worker, what it told besides if it is an agent, and the ids of the tasks that it runs."""

    info: WorkerInfo
    notes: AgentNotes
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class _Telling:
    """What a worker's document is made of."""

    people: People
    queues: Mapping[str, Queue]
    waiting: Mapping[str, list[tuple[str, str, float]]]
    tasks: Mapping[str, Task]
    now: float

    def document(self, worker: _Known) -> Document:
        info, notes = worker.info, worker.notes
        task = self.tasks.get(worker.tasks[0]) if worker.tasks else None
        seen = moment(info.last_seen)
        return {
            "id": info.id,
            "key": info.id,
            "user": {"id": self.people.id_of(info.user), "name": info.user},
            "company": {"id": COMPANY, "name": COMPANY_NAME},
            "ip": "",
            "register_time": moment(info.registered),
            "register_timeout": int(notes.timeout),
            "last_activity_time": seen,
            "last_report_time": seen,
            "task": None if task is None else self._task(task),
            "project": None if task is None else {"id": task.project_id, "name": task.project},
            "queue": self._queue(notes.queue or self._queue_of(task)),
            "queues": [told for queue in info.queues if (told := self._queue(queue)) is not None],
            "tags": list(notes.tags),
            "system_tags": list(notes.system_tags),
        }

    def _task(self, task: Task) -> Document:
        running = int(max(self.now - task.started, 0) * 1000) if task.started else 0
        iteration = task.last_iteration or 0
        return {"id": task.id, "name": task.name, "running_time": running, "last_iteration": iteration}

    def _queue_of(self, task: Task | None) -> str:
        return next((q.id for q in self.queues.values() if task is not None and q.name == task.queue), "")

    def _queue(self, queue_id: str) -> Document | None:
        queue = self.queues.get(queue_id)
        if queue is None:
            return None
        waiting = self.waiting.get(queue_id, [])
        first = {"id": waiting[0][0], "name": waiting[0][1]} if waiting else None
        return {"id": queue.id, "name": queue.name, "num_tasks": queue.waiting, "next_task": first}


def machine_of(worker: str, stats: Mapping[str, tuple[float, ...]]) -> Machine:
    """Our words for an agent's numbers: memory comes in MiB, use in percent, a list has an entry a device."""

    def first(name: str) -> float:
        return stats[name][0] if stats.get(name) else 0.0

    used, free = first("memory_used"), first("memory_free")
    whole = used + free
    cpu = stats.get("cpu_usage") or (0.0,)
    pairs = zip(stats.get("gpu_memory_used", ()), stats.get("gpu_memory_free", ()), strict=False)
    gpus = [f"GPU of {(taken + left) / 1024:.0f} GiB" for taken, left in pairs]
    return Machine(
        host=worker.partition(":")[0],
        cpus=len(cpu) if len(cpu) > 1 else 0,  # one number is the average of all
        memory=int(whole * MIB),
        gpus=tuple(gpus),
        cpu_use=sum(cpu) / len(cpu),
        memory_use=100 * used / whole if whole else 0.0,
    )


def _numbers(stats: Data) -> dict[str, tuple[float, ...]]:
    """The finite numbers, each name's as a tuple; whatever else stands there is left out."""
    found: dict[str, tuple[float, ...]] = {}
    for name, value in list(stats.items())[:64]:
        values = cast("list[Any]", value) if isinstance(value, list) else [value]
        good = tuple(float(v) for v in values[:256] if _is_number(v))
        if good and len(name) <= 64:
            found[name] = good
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _stats(worker: _Known) -> Mapping[str, tuple[float, ...]]:
    """The numbers of the last report; of a worker of ours those that we know."""
    machine = worker.info.machine
    if worker.notes.stats or not machine.memory:
        return worker.notes.stats
    used = machine.memory * machine.memory_use / 100
    return {
        "cpu_usage": (machine.cpu_use,),
        "memory_used": (used / MIB,),
        "memory_free": ((machine.memory - used) / MIB,),
    }


def _statistic(worker: _Known, item: Data) -> Document | None:
    """One number of the last report, as a series of one point."""
    name, kind = text(item, "key"), text(item, "category") or "avg"
    values = _stats(worker).get(name)
    if not values or kind not in _AVERAGE:
        return None
    stats = [{"aggregation": kind, "values": [_AVERAGE[kind](values)]}]
    return {"metric": name, "variant": None, "dates": [int(worker.info.last_seen)], "stats": stats}


def _span(body: Data, now: float) -> tuple[float, float, int]:
    """Begin, end and interval; the interval grows until there are not too many points."""
    end = min(float(number(body, "to_date", int(now), 0, 2**40)), now)
    begin = float(number(body, "from_date", int(end) - 86_400, 0, 2**40))
    begin = min(begin, end)
    shortest = math.ceil((end - begin) / MOST_POINTS)
    return begin, end, max(number(body, "interval", 3600, 1, 2**31), shortest, 1)


def _optional(body: Data, name: str) -> tuple[str, ...] | None:
    """None when the field is missing: what was told before stays."""
    return None if body.get(name) is None else tuple(texts(body, name))
