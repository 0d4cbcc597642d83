"""Queues themselves: made, listed, edited and deleted, and the hands that move what waits in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from taskloom.domain.errors import BadInput, Conflict, NotFound
from taskloom.domain.queue import Queue
from taskloom.domain.status import Move
from taskloom.server.db import Database
from taskloom.server.queues import entry_store, order, position_store, store
from taskloom.server.queues.attempts import Changed
from taskloom.server.queues.queue_rules import DEFAULT_QUEUE, MAX_PAGE, check_page, checked_edit, new_queue
from taskloom.server.settings import Clock
from taskloom.server.tasks import moves
from taskloom.server.tasks.service import TaskService
from taskloom.wire.messages import QueueCreate, QueueEdit, QueueEntries, QueuePage


class QueueDesk:
    """`wake` is called with the id of a queue in which something changed, `tell` with every task that did."""

    def __init__(
        self,
        main: Database,
        clock: Clock,
        tasks: TaskService,
        wake: Callable[[str], None],
        tell: Callable[[Changed], Changed],
    ) -> None:
        self._db, self._clock, self._tasks, self._wake, self._tell = main, clock, tasks, wake, tell

    async def list_queues(self) -> list[Queue]:
        return await self._db.read(store.list_queues)

    async def get_queue(self, key: str, page: QueuePage) -> QueueEntries:
        check_page(page)

        def work(tx: Connection) -> QueueEntries:
            queue = known_queue(tx, key)
            return QueueEntries(queue=queue, entries=position_store.page(tx, queue.id, page.limit, page.offset))

        return await self._db.read(work)

    async def find_queue(self, key: str) -> Queue:
        """By id, else by name, without its entries."""
        return await self._db.read(lambda tx: known_queue(tx, key))

    async def waiting_tasks(self, queue_ids: Sequence[str]) -> dict[str, list[tuple[str, str, float]]]:
        """By queue: id, name and time of what waits there, the next one first."""
        return await self._db.read(lambda tx: entry_store.waiting_tasks(tx, queue_ids))

    async def create_queue(self, wanted: QueueCreate) -> Queue:
        queue = new_queue(wanted, self._clock())

        def work(tx: Connection) -> Queue:
            if store.find_queue(tx, queue.name) is not None or not store.add_queue(tx, queue):
                raise Conflict(f"there is a queue {queue.name!r} already", queue=queue.name)
            return queue

        await self._db.write(work)
        self._wake(queue.id)
        return queue

    async def edit_queue(self, key: str, edit: QueueEdit) -> Queue:
        columns = checked_edit(edit)

        def work(tx: Connection) -> Queue:
            queue = known_queue(tx, key)
            if queue.name == DEFAULT_QUEUE and columns.get("name", DEFAULT_QUEUE) != DEFAULT_QUEUE:
                raise Conflict(f"the queue {DEFAULT_QUEUE!r} keeps its name: tasks without a queue go there")
            if "name" in columns and store.name_taken(tx, str(columns["name"]), queue.id):
                raise Conflict(f"there is a queue {columns['name']!r} already", queue=columns["name"])
            if columns:
                store.edit_queue(tx, queue.id, **columns)
            return known_queue(tx, queue.id)

        queue = await self._db.write(work)
        self._wake(queue.id)
        return queue

    async def delete_queue(self, key: str, *, force: bool = False) -> None:
        """By force also one that is in use: what waits there becomes a draft again, what runs goes on."""
        now = self._clock()

        def work(tx: Connection) -> tuple[str, list[Changed]]:
            queue = known_queue(tx, key)
            if queue.name == DEFAULT_QUEUE:
                raise Conflict(f"the queue {DEFAULT_QUEUE!r} cannot be deleted: tasks without a queue go there")
            if (queue.waiting or queue.running) and not force:
                raise Conflict(
                    f"queue {queue.name!r} has {queue.waiting} waiting and {queue.running} running tasks",
                    waiting=queue.waiting,
                    running=queue.running,
                )
            freed: list[Changed] = []
            for task_id in entry_store.order(tx, queue.id):
                entry_store.remove_entry(tx, task_id)
                moves.move(tx, task_id, Move.DEQUEUE, now=now, reason=f"queue {queue.name} was deleted")
                freed.append(Changed(self._tasks.load(tx, task_id)))
            store.delete_queue(tx, queue.id)
            return queue.id, freed

        queue_id, freed = await self._db.write(work)
        for changed in freed:
            self._tell(changed)
        self._wake(queue_id)

    async def move_entry(self, key: str, task_id: str, position: int) -> QueueEntries:
        """Position 1 is the front, -1 the back, -2 one before it. The page of entries where it stands now."""
        place = await self.place_entry(key, task_id, position)
        return await self.get_queue(key, QueuePage(offset=(place - 1) // MAX_PAGE * MAX_PAGE))

    async def place_entry(self, key: str, task_id: str, position: int) -> int:
        """The same; the place that it has got, counted from 1."""
        if position == 0:
            raise BadInput("position 0: expected 1 for the front, or -1 for the back")
        return await self._moved(key, lambda tx, queue: order.place(tx, queue, task_id, position))

    async def shift_entry(self, key: str, task_id: str, steps: int) -> int:
        """So many places nearer to the back; a negative number of them nearer to the front. Its new place."""
        return await self._moved(key, lambda tx, queue: order.shift(tx, queue, task_id, steps))

    async def _moved(self, key: str, step: Callable[[Connection, Queue], int]) -> int:
        def work(tx: Connection) -> tuple[str, int]:
            queue = known_queue(tx, key)
            return queue.id, step(tx, queue)

        queue_id, place = await self._db.write(work)
        self._wake(queue_id)
        return place


def known_queue(tx: Connection, key: str) -> Queue:
    found = store.find_queue(tx, key)
    if found is None:
        raise NotFound(f"no queue {key[:80]!r}", queue=key[:80])
    return found


def queue_or_new(tx: Connection, key: str, now: float, *, create: bool) -> Queue:
    """Without its counts."""
    found = store.queue_policies(tx, [key])
    if not found and create:
        made = new_queue(QueueCreate(name=key), now)
        return made if store.add_queue(tx, made) else known_queue(tx, key)
    return found[0] if found else known_queue(tx, key)
