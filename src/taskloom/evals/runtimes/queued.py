"""What evaluations hand to a queue: folders packed once, a task made and enqueued, its end waited for, or its abortion.

However many tasks one process waits for, it asks the server once a moment for all of them. What they run is the
business of `leased` and `hosted`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from taskloom.domain.errors import NotFound, ServerAway, TaskloomError, Unavailable
from taskloom.domain.status import ENDED, Status
from taskloom.domain.task import HIDDEN_TAG, Task
from taskloom.evals.failures import InfrastructureFailure
from taskloom.evals.runtimes.kept import Kept
from taskloom.journal.uploading import upload
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.client import Address
from taskloom.wire.connection import find_address
from taskloom.wire.send import AsyncClient

IDLE_SECONDS = 5.0  # that connections to the server stay
PACKED_SECONDS = 10.0  # for which nobody looks at a packed folder again
FIRST_LOOK, LAST_LOOK = 0.2, 2.0  # seconds between two questions how tasks are
PAGE = 1000  # tasks of one question
AWAY_SECONDS = 300.0  # that the server may be away before those who wait are told
LEAVE_SECONDS = 60.0  # that a task may take to end once it was aborted
log = logging.getLogger("taskloom.evals")


class Post:
    """One server, as all runs of this process use it."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.client = AsyncClient(address)
        self._waited: dict[str, asyncio.Future[Task]] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._packed: dict[tuple[str, ...], tuple[float, asyncio.Task[str]]] = {}

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await self.client.close()

    # --- folders --------------------------------------------------------------------------------------------

    async def pack(self, folders: Sequence[tuple[str, Path]]) -> str:
        """The digest under which the server has these folders, each below its name, in one archive."""
        key = tuple(f"{name}={folder}" for name, folder in folders)
        packed = self._packed.get(key)
        if packed is None or time.monotonic() - packed[0] > PACKED_SECONDS:
            work = asyncio.create_task(asyncio.to_thread(self._pack, folders))
            packed = self._packed[key] = time.monotonic(), work
        try:
            return await asyncio.shield(packed[1])
        except TaskloomError as error:
            self._packed.pop(key, None)
            raise InfrastructureFailure(f"the source cannot be sent: {error.message}") from None

    def _pack(self, folders: Sequence[tuple[str, Path]]) -> str:
        from taskloom.wire.folders import choose  # not before: its patterns take a while to load

        members: list[tuple[str, Path]] = []
        total = 0
        for name, folder in folders:
            chosen = choose(folder)
            members += [(f"{name}/{member}", path) for member, path in chosen.members]
            total += chosen.bytes
        return upload(members, total, self.address).digest

    # --- tasks ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def enqueued(self, body: m.TaskCreate, queue: str) -> AsyncGenerator[asyncio.Future[Task]]:
        """A task in the queue, whose end is the future's result; at the end of the context it is over, too."""
        body = _hidden(body)
        end: asyncio.Future[Task] = asyncio.get_running_loop().create_future()
        try:
            await self._enqueue(body, queue)
            self._await_end(body.id, end)
            yield end
        finally:
            await asyncio.shield(asyncio.create_task(self._dismiss(body.id, end)))

    async def _enqueue(self, body: m.TaskCreate, queue: str) -> None:
        try:
            await self.client.call(op.CREATE_TASK, body)
            await self.client.call(op.ENQUEUE_TASK, m.Enqueue(queue=queue), task=body.id)
        except TaskloomError as error:
            raise InfrastructureFailure(f"{body.name} cannot be queued: {error.message}") from None

    async def _dismiss(self, task: str, end: asyncio.Future[Task]) -> None:
        """A draft that was never queued goes; what waits or runs is stopped, and waited for."""
        try:
            if not end.done():
                found = await self.client.call(op.GET_TASK, task=task)
                if found.status is Status.DRAFT:
                    await self.client.call(op.DELETE_TASK, query=m.TaskDelete(), task=task)
                elif found.status not in ENDED:
                    reason = m.MoveRequest(reason="its run is over here")
                    await self.client.call(op.ABORT_TASK, reason, task=task)
                    await asyncio.wait([end], timeout=LEAVE_SECONDS)
        except NotFound:
            pass  # never made
        except TaskloomError as error:
            log.warning("task %s could not be stopped: %s", task, error.message)
        finally:
            self._waited.pop(task, None)

    def _await_end(self, task: str, end: asyncio.Future[Task]) -> None:
        self._waited[task] = end
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """Asks for all who wait, less often while nothing changes."""
        pause, answered = FIRST_LOOK, time.monotonic()
        while self._waited:
            await asyncio.sleep(pause)
            try:
                changed = [await self._look(part) for part in _pages(list(self._waited))]
                pause = FIRST_LOOK if any(changed) else min(pause * 1.5, LAST_LOOK)
                answered = time.monotonic()
            except (ServerAway, Unavailable) as error:
                pause = LAST_LOOK
                if time.monotonic() - answered > AWAY_SECONDS:
                    self._give_up(InfrastructureFailure(f"the server is away: {error.message}"))
            except TaskloomError as error:
                self._give_up(InfrastructureFailure(f"the server does not tell of tasks: {error.message}"))

    async def _look(self, ids: list[str]) -> bool:
        query = m.TaskQuery(ids=ids, fields=["status_reason", "status_message"], limit=len(ids))
        told = {task.id: task for task in (await self.client.call(op.QUERY_TASKS, query)).tasks}
        ended = False
        for number in ids:
            end = self._waited.get(number)
            if end is None or end.done():
                continue
            if number not in told:
                end.set_exception(InfrastructureFailure(f"task {number} was deleted"))
                end.exception()
            elif told[number].status in ENDED:
                end.set_result(told[number])
            ended = ended or end.done()
        for number in [number for number in ids if (one := self._waited.get(number)) and one.done()]:
            del self._waited[number]
        return ended

    def _give_up(self, failure: InfrastructureFailure) -> None:
        for end in self._waited.values():
            if not end.done():
                end.set_exception(failure)
                end.exception()
        self._waited.clear()


@dataclass(frozen=True)
class _Key:
    url: str
    api_key: str


_posts = Kept[Post](IDLE_SECONDS)


@asynccontextmanager
async def server() -> AsyncGenerator[Post]:
    """The configured server; InfrastructureFailure when there is none."""
    try:
        address = find_address()
    except TaskloomError as error:
        raise InfrastructureFailure(error.message) from None
    if address is None:
        raise InfrastructureFailure("no server is configured: start one with `taskloom up`, or set TASKLOOM_URL")
    async with _posts.lease(_Key(address.url, address.api_key), lambda: _open(address)) as post:
        yield post


@asynccontextmanager
async def _open(address: Address) -> AsyncGenerator[Post]:
    post = Post(address)
    try:
        yield post
    finally:
        await post.close()


def describe_end(task: Task) -> str:
    """How a task ended, for people."""
    reason = task.status_reason or task.status_message
    return f"its task {task.id} is {task.status.value}{f': {reason}' if reason else ''}"


def _hidden(body: m.TaskCreate) -> m.TaskCreate:
    """Lists of tasks are for what people queue; of these there is one for every run."""
    import msgspec

    return msgspec.structs.replace(body, system_tags=(*body.system_tags, HIDDEN_TAG))


def _pages(ids: list[str]) -> list[list[str]]:
    return [ids[start : start + PAGE] for start in range(0, len(ids), PAGE)]
