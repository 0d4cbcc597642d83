"""The slots of a worker: one loop asks for tasks while any of them is free, and each runs what it got to its end.

One question at a time is open, however many slots there are: an idle worker costs the server one waiting call.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from taskloom.domain.errors import NotFound, ServerAway, TaskloomError
from taskloom.wire.messages import Claim, Lease
from taskloom.wire.operations import CLAIM_TASK
from taskloom.worker.attempt import Attempt
from taskloom.worker.tools import Tools

log = logging.getLogger("taskloom.worker")
WAIT = 20.0
AGAIN_FIRST, AGAIN_LAST = 0.5, 15.0


@dataclass(frozen=True)
class Asking:
    """What is asked for, and how the worker makes itself known again when the server forgot it."""

    worker: str
    queues: tuple[str, ...]
    lease: float
    register: Callable[[], Awaitable[None]]


class Slots:
    """`draining`: ask for nothing more."""

    def __init__(self, tools: Tools, asking: Asking, draining: asyncio.Event, count: int) -> None:
        self._tools, self._asking, self._draining, self._count = tools, asking, draining, count
        self._pause = AGAIN_FIRST
        self._running: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()

    @property
    def busy(self) -> int:
        return len(self._running)

    def occupy(self, work: Coroutine[Any, Any, None], task: str) -> None:
        """A slot runs this to its end."""
        running = asyncio.create_task(self._guarded(work, task))
        self._running.add(running)
        running.add_done_callback(self._free)

    async def run(self) -> None:
        """Until the worker drains; what runs then goes on."""
        while not self._draining.is_set():
            if self.busy >= self._count:
                self._freed.clear()
                await self._or_draining(self._freed.wait())
                continue
            lease = await self._or_draining(self._claim())
            if lease is not None:
                log.info("task %s (%s): attempt %d", lease.task.id, lease.task.name, lease.attempt)
                self.occupy(Attempt(self._tools, lease).run(), lease.task.id)

    async def ended(self) -> None:
        """Returns when no slot runs anything."""
        while self._running:
            await asyncio.wait(self._running)

    async def _guarded(self, work: Coroutine[Any, Any, None], task: str) -> None:
        try:
            await work
        except Exception:  # the slot goes on; the lease of what was lost runs out and the policy decides
            log.exception("task %s: a fault in the slot", task)

    def _free(self, running: asyncio.Task[None]) -> None:
        self._running.discard(running)
        self._freed.set()

    async def _or_draining(self, asked: Coroutine[Any, Any, Any]) -> Any:
        """The answer, or None when the worker drains before it comes."""
        asking = asyncio.create_task(asked)
        draining = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait({asking, draining}, return_when=asyncio.FIRST_COMPLETED)
            return asking.result() if asking.done() else None
        finally:
            for waiting in (asking, draining):
                waiting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await waiting

    async def _claim(self) -> Lease | None:
        asking = self._asking
        claim = Claim(worker=asking.worker, queues=asking.queues, lease=asking.lease, wait=min(WAIT, asking.lease))
        try:
            lease = (await self._tools.client.call(CLAIM_TASK, claim)).lease
        except NotFound:
            await self._again_known()
            return None
        except TaskloomError as error:
            if self._pause == AGAIN_FIRST or not isinstance(error, ServerAway):
                log.warning("no task could be claimed: %s", error.message)
            await self._rest()
            return None
        self._pause = AGAIN_FIRST
        return lease

    async def _again_known(self) -> None:
        """The server does not know this worker (any more): register, then ask again."""
        try:
            await self._asking.register()
        except TaskloomError as error:
            log.warning("the worker could not be registered: %s", error.message)
            await self._rest()

    async def _rest(self) -> None:
        await asyncio.sleep(self._pause * random.uniform(0.7, 1.0))  # noqa: S311 - spreads the retries, no secret
        self._pause = min(self._pause * 2, AGAIN_LAST)
