"""Keeping a lease: renewed at a third of its life, and the ear for what the server has to say about the task.

The server being away changes nothing: the attempt stays valid until the server says otherwise. Nothing here
touches a process; who holds a keeper listens to `stopped` and `lost`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable

from taskloom.domain.errors import Forbidden, LeaseLost, NotFound, TaskloomError, Unauthorized
from taskloom.domain.queue import Machine
from taskloom.wire.messages import Renew
from taskloom.wire.operations import RENEW_LEASE
from taskloom.wire.send import AsyncClient
from taskloom.wire.worker_protocol import renew_interval

log = logging.getLogger("taskloom.worker")
MACHINE_EVERY = 15.0  # seconds between two looks at the machine that are sent along
CALL_SECONDS = 10.0


class LeaseKeeper:
    """`stopped`: somebody aborted the task. `lost`: the attempt is void. `phase` is shown to people."""

    def __init__(self, client: AsyncClient, token: str, seconds: float, look: Callable[[], Machine]) -> None:
        self.stopped = asyncio.Event()
        self.lost = asyncio.Event()
        self.reason = ""
        self.phase = "preparing"
        self.when_back: Callable[[], None] = lambda: None
        self._client, self._token, self._seconds, self._look = client, token, seconds, look
        self._refused_since: float | None = None
        self._away = False
        self._looked = time.monotonic()

    @contextlib.asynccontextmanager
    async def keeping(self) -> AsyncGenerator[LeaseKeeper]:
        """Renews as long as the caller is inside."""
        renewing = asyncio.create_task(self._renew_for_ever())
        try:
            yield self
        finally:
            renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewing

    async def _renew_for_ever(self) -> None:
        while not self.lost.is_set():
            await asyncio.sleep(renew_interval(self._seconds))
            await self.renew()

    async def renew(self) -> None:
        """One renewal; sets the events."""
        try:
            async with asyncio.timeout(max(self._seconds, CALL_SECONDS)):
                renewed = await self._client.call(RENEW_LEASE, self._said(), token=self._token)
        except (LeaseLost, NotFound):
            self.lost.set()
        except (Unauthorized, Forbidden) as error:
            self._refused(error)
        except (TaskloomError, TimeoutError) as error:
            if not self._away:
                log.warning("the lease could not be renewed, going on: %s", error)
            self._away = True
        else:
            self._refused_since = None
            if self._away:
                self._away = False
                self.when_back()
            if renewed.stop:
                self.reason = renewed.reason
                self.stopped.set()

    def _said(self) -> Renew:
        machine = None
        if time.monotonic() - self._looked > MACHINE_EVERY:
            self._looked = time.monotonic()
            machine = self._look()
        return Renew(phase=self.phase, machine=machine)

    def _refused(self, error: TaskloomError) -> None:
        """The worker's key is not valid any more: by the time the lease would have run out it has."""
        now = time.monotonic()
        if self._refused_since is None:
            self._refused_since = now
            log.error("the server refuses the worker's key: %s", error.message)
        elif now - self._refused_since > self._seconds:
            self.lost.set()
