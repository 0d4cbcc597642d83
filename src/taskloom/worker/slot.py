"""One slot of a worker: asks for a task, runs it to its end, asks again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from taskloom.domain.errors import NotFound, ServerAway, TaskloomError
from taskloom.wire.messages import Claim, Lease
from taskloom.wire.operations import CLAIM_TASK
from taskloom.worker.attempt import Attempt, Tools

log = logging.getLogger("taskloom.worker")
WAIT = 20.0
AGAIN_FIRST, AGAIN_LAST = 0.5, 15.0


@dataclass(frozen=True)
class Asking:
    """What a slot asks for, and how it makes itself known again when the server forgot the worker."""

    worker: str
    queues: tuple[str, ...]
    lease: float
    register: Callable[[], Awaitable[None]]


class Slot:
    """`draining`: ask for nothing more. `busy` tells whether a task runs."""

    def __init__(self, tools: Tools, asking: Asking, draining: asyncio.Event, gpus: list[str] | None) -> None:
        self._tools, self._asking, self._draining, self._gpus = tools, asking, draining, gpus
        self._pause = AGAIN_FIRST
        self.busy = False

    async def run(self) -> None:
        """Until the worker drains."""
        while not self._draining.is_set():
            lease = await self._claim_or_drain()
            if lease is None:
                continue
            self.busy = True
            log.info("task %s (%s): attempt %d", lease.task.id, lease.task.name, lease.attempt)
            try:
                await Attempt(self._tools, lease, self._gpus).run()
            except Exception:  # the slot goes on; the lease of what was lost runs out and the policy decides
                log.exception("task %s: a fault in the slot", lease.task.id)
            finally:
                self.busy = False

    async def _claim_or_drain(self) -> Lease | None:
        claiming = asyncio.create_task(self._claim())
        draining = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait({claiming, draining}, return_when=asyncio.FIRST_COMPLETED)
            return claiming.result() if claiming.done() else None
        finally:
            for waiting in (claiming, draining):
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
