"""ClearML's queues are ours: the same names, ids and order; `queues.get_next_task` is an agent's pull.

A task that stands in a queue is pending, and nothing else is: adding and removing entries moves the task, too.
System tags and metadata of queues are not kept; the queue that takes tasks without a queue has the tag `default`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from taskloom.domain.errors import Conflict, NotFound
from taskloom.domain.queue import Queue
from taskloom.domain.status import Status
from taskloom.server.compat.clearml.call import (
    ClearMLCall,
    Data,
    Endpoint,
    Endpoints,
    Rooms,
    flag,
    needed,
    number,
    reads,
    text,
    texts,
)
from taskloom.server.compat.clearml.documents import Document, moment
from taskloom.server.compat.clearml.errors import (
    ALREADY_QUEUED,
    INVALID_QUEUE,
    NAME_EXISTS,
    NOT_EMPTY,
    NOT_IN_QUEUE,
    Refusal,
)
from taskloom.server.compat.clearml.people import people_of
from taskloom.server.compat.clearml.projecting import only, paging, roots
from taskloom.server.compat.clearml.tokens import COMPANY
from taskloom.server.patterns import matches_text
from taskloom.server.queues.queue_rules import DEFAULT_QUEUE
from taskloom.wire.messages import Enqueue, MoveRequest, QueueCreate, QueueEdit

DEFAULT_TAG = "default"
FARTHEST = 2**31
_SORTED = frozenset({"id", "name", "created"})


def endpoints(rooms: Rooms) -> Endpoints:
    queues = rooms.queues

    async def by_id(key: str) -> Queue:
        """Only by its id: clients ask for a name in other ways, and take an answer for a sign that it is an id."""
        found = [queue for queue in await queues.list_queues() if queue.id == key]
        if not found:
            raise Refusal(f"no queue with the id {key[:80]!r}", 400, INVALID_QUEUE)
        return found[0]

    async def get_all(call: ClearMLCall) -> Data:
        body = call.body
        fields = texts(body, "only_fields")
        page = paging(body)
        found = _ordered([q for q in await queues.list_queues() if _wanted(q, body)], texts(body, "order_by"))
        chosen = found[page.offset : page.offset + page.limit]
        documents = [only(document, fields) for document in await described(chosen, body, fields)]
        answer: dict[str, Any] = {"queues": documents}
        if page.scrolls:
            answer["scroll_id"] = page.next([queue.id for queue in chosen])
        return answer

    async def described(chosen: Sequence[Queue], body: Data, fields: Sequence[str]) -> list[Document]:
        waiting: Mapping[str, Sequence[tuple[str, str, float]]] = {}
        if not fields or "entries" in roots(fields):
            waiting = await queues.waiting_tasks([queue.id for queue in chosen])
        most = number(body, "max_task_entries", FARTHEST, 0, FARTHEST)
        return [queue_document(queue, waiting.get(queue.id, ())[:most]) for queue in chosen]

    async def get_all_ex(call: ClearMLCall) -> Data:
        """Also the names of what waits, and who serves the queue."""
        answer = await get_all(call)
        fields = texts(call.body, "only_fields")
        ids = [document["id"] for document in answer["queues"]]
        waiting = await queues.waiting_tasks(ids)
        workers = await queues.list_workers() if not fields or "workers" in roots(fields) else []
        for document in answer["queues"]:
            if "entries" in document:
                named = {task: name for task, name, _ in waiting[document["id"]]}
                document["entries"] = [
                    {**entry, "task": {"id": entry["task"], "name": named.get(entry["task"], "")}}
                    for entry in document["entries"]
                ]
            document["workers"] = [
                {"key": worker.id, "name": worker.name, "task": worker.tasks[0] if worker.tasks else None}
                for worker in workers
                if worker.alive and document["id"] in worker.queues
            ]
        return answer

    async def get_by_id(call: ClearMLCall) -> Data:
        found = await by_id(needed(call.body, "queue"))
        return {"queue": (await described([found], call.body, ()))[0]}

    async def get_default(call: ClearMLCall) -> Data:
        found = await queues.find_queue(DEFAULT_QUEUE)
        return {"id": found.id, "name": found.name}

    async def create(call: ClearMLCall) -> Data:
        wanted = QueueCreate(name=needed(call.body, "name"), tags=tuple(texts(call.body, "tags")))
        try:
            made = await queues.create_queue(wanted)
        except Conflict as error:
            raise Refusal(error.message, 400, NAME_EXISTS) from None
        return {"id": made.id}

    async def update(call: ClearMLCall) -> Data:
        found = await by_id(needed(call.body, "queue"))
        name = text(call.body, "name") or None
        tags = tuple(texts(call.body, "tags")) if call.body.get("tags") is not None else None
        try:
            edited = await queues.edit_queue(found.id, QueueEdit(name=name, tags=tags))
        except Conflict as error:
            raise Refusal(error.message, 400, NAME_EXISTS) from None
        told = {"name": edited.name, "tags": list(edited.tags)}
        fields = {field: value for field, value in told.items() if call.body.get(field) is not None}
        return {"updated": int(edited != found), "fields": fields}

    async def delete(call: ClearMLCall) -> Data:
        found = await by_id(needed(call.body, "queue"))
        try:
            await queues.delete_queue(found.id, force=flag(call.body, "force"))
        except Conflict as error:
            raise Refusal(error.message, 400, NOT_EMPTY) from None
        return {"deleted": 1}

    # --- what waits -------------------------------------------------------------------------------------

    async def get_next_task(call: ClearMLCall) -> Data:
        found = await by_id(needed(call.body, "queue"))
        pulled = await queues.agents.pull(call.caller, call.worker, found.id)
        if pulled is None:
            return {}
        entry = {"task": pulled.task.id, "added": moment(pulled.enqueued)}
        if not flag(call.body, "get_task_info"):
            return {"entry": entry}
        people = await people_of(rooms)
        return {"entry": entry, "task_info": {"user": people.id_of(pulled.task.user), "company": COMPANY}}

    async def peek_task(call: ClearMLCall) -> Data:
        found = await by_id(needed(call.body, "queue"))
        waiting = (await queues.waiting_tasks([found.id]))[found.id]
        return {"task": waiting[0][0]} if waiting else {}

    async def get_num_entries(call: ClearMLCall) -> Data:
        return {"num": (await by_id(needed(call.body, "queue"))).waiting}

    async def add_task(call: ClearMLCall) -> Data:
        found = await by_id(needed(call.body, "queue"))
        task = await rooms.tasks.get_task(needed(call.body, "task"))
        if task.status is Status.PENDING:
            raise Refusal(f"task {task.id} waits in a queue already", 400, ALREADY_QUEUED)
        await queues.enqueue(call.caller, task.id, Enqueue(queue=found.id))
        return {"added": 1}

    async def remove_task(call: ClearMLCall) -> Data:
        found = await by_id(needed(call.body, "queue"))
        await must_wait(found, needed(call.body, "task"))
        await queues.dequeue(needed(call.body, "task"), MoveRequest())
        return {"removed": 1}

    async def clear_queue(call: ClearMLCall) -> Data:
        found = await by_id(needed(call.body, "queue"))
        waiting = [task for task, _, _ in (await queues.waiting_tasks([found.id]))[found.id]]
        for task in waiting:
            await queues.dequeue(task, MoveRequest())
        return {"removed_tasks": waiting}

    async def must_wait(queue: Queue, task: str) -> None:
        waiting = (await queues.waiting_tasks([queue.id]))[queue.id]
        if task not in {entry for entry, _, _ in waiting}:
            raise Refusal(f"task {task[:80]!r} does not wait in queue {queue.name!r}", 400, NOT_IN_QUEUE)

    async def move_to(call: ClearMLCall, position: int) -> Data:
        return await moved(call, position=position)

    async def moved(call: ClearMLCall, *, position: int = 0, steps: int = 0) -> Data:
        """The new place of the entry, counted from 0."""
        found, task = await by_id(needed(call.body, "queue")), needed(call.body, "task")
        try:
            if position:
                placed = await queues.place_entry(found.id, task, position)
            else:
                placed = await queues.shift_entry(found.id, task, steps)
        except NotFound as error:
            raise Refusal(error.message, 400, NOT_IN_QUEUE) from None
        return {"position": placed - 1}

    async def move_to_front(call: ClearMLCall) -> Data:
        return await move_to(call, 1)

    async def move_to_back(call: ClearMLCall) -> Data:
        return await move_to(call, -1)

    async def move_forward(call: ClearMLCall) -> Data:
        return await moved(call, steps=-_count(call.body))

    async def move_backward(call: ClearMLCall) -> Data:
        return await moved(call, steps=_count(call.body))

    async def get_queue_metrics(call: ClearMLCall) -> Data:
        """Only how it is at this moment: how long queues were earlier is not kept."""
        wanted, now = set(texts(call.body, "queue_ids")), rooms.clock()
        chosen = [queue for queue in await queues.list_queues() if not wanted or queue.id in wanted]
        waiting = await queues.waiting_tasks([queue.id for queue in chosen])
        told: list[Document] = []
        for queue in chosen:
            waits = [now - since for _, _, since in waiting[queue.id]]
            average = sum(waits) / len(waits) if waits else 0.0
            point = {"dates": [int(now)], "queue_lengths": [len(waits)], "avg_waiting_times": [average]}
            told.append({"queue": queue.id, **point})
        return {"queues": told}

    return {
        "queues.get_all": reads(get_all),
        "queues.get_all_ex": reads(get_all_ex),
        "queues.get_by_id": reads(get_by_id),
        "queues.get_default": reads(get_default),
        "queues.create": Endpoint(create),
        "queues.update": Endpoint(update),
        "queues.delete": Endpoint(delete),
        "queues.get_next_task": Endpoint(get_next_task),
        "queues.peek_task": reads(peek_task),
        "queues.get_num_entries": reads(get_num_entries),
        "queues.add_task": Endpoint(add_task),
        "queues.remove_task": Endpoint(remove_task),
        "queues.clear_queue": Endpoint(clear_queue),
        "queues.move_task_to_front": Endpoint(move_to_front),
        "queues.move_task_to_back": Endpoint(move_to_back),
        "queues.move_task_forward": Endpoint(move_forward),
        "queues.move_task_backward": Endpoint(move_backward),
        "queues.get_queue_metrics": reads(get_queue_metrics),
    }


def queue_document(queue: Queue, waiting: Sequence[tuple[str, str, float]]) -> Document:
    """ClearML's queue; `waiting` as `QueueService.waiting_tasks` gives it."""
    return {
        "id": queue.id,
        "name": queue.name,
        "display_name": queue.name,
        "company": COMPANY,
        "created": moment(queue.created),
        "last_update": moment(queue.created),
        "tags": list(queue.tags),
        "system_tags": _system_tags(queue),
        "metadata": {},
        "entries": [{"task": task, "added": moment(since)} for task, _, since in waiting],
    }


def _system_tags(queue: Queue) -> list[str]:
    return [DEFAULT_TAG] if queue.name == DEFAULT_QUEUE else []


def _wanted(queue: Queue, body: Data) -> bool:
    ids, name = texts(body, "id"), text(body, "name")
    if ids and queue.id not in ids:
        return False
    if name and not matches_text(name, queue.name):
        return False
    both = (("tags", queue.tags), ("system_tags", _system_tags(queue)))
    return all(_tagged(texts(body, field), tags) for field, tags in both)


def _tagged(wanted: Sequence[str], tags: Sequence[str]) -> bool:
    """One of the tags, unless all are excluded by a dash."""
    good = [tag for tag in wanted if not tag.startswith(("-", "__$"))]
    bad = {tag[1:] for tag in wanted if tag.startswith("-")}
    return bad.isdisjoint(tags) and (not good or not set(good).isdisjoint(tags))


def _ordered(found: list[Queue], order: Sequence[str]) -> list[Queue]:
    """By what queues can be ordered by; other fields say nothing about ours."""
    for field in reversed(order):
        name = field.removeprefix("-")
        if name in _SORTED:
            found.sort(key=attrgetter(name), reverse=field.startswith("-"))
    return found


def _count(body: Data) -> int:
    return number(body, "count", 1, 1, FARTHEST)
