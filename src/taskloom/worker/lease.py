"""Keeping a lease: renewed at a third of its life, and the ear for what the server has to say about the task.

The server being away changes nothing: the attempt stays valid until the server says otherwise. Nothing here
touches a process; who holds a keeper listens to `stopped` and `lost`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

from taskloom.domain.errors import Forbidden, LeaseLost, NotFound, TaskloomError, Unauthorized
from taskloom.domain.queue import Machine
from taskloom.wire.messages import Renew
from taskloom.wire.operations import RENEW_LEASE
from taskloom.wire.send import AsyncClient
from taskloom.wire.worker_protocol import renew_interval
from taskloom.worker.record import boot_time

log = logging.getLogger("taskloom.worker")
MACHINE_EVERY = 15.0  # seconds between two looks at the machine that are sent along
CALL_SECONDS = 10.0
LEAVE_SECONDS = 5.0  # that the last call may take
MARGIN = 0.5  # seconds by which a program without its worker ends before its lease does


async def _nothing() -> None:
    pass


class LeaseKeeper:
    """`stopped`: the task has to end, for another one's sake when `give_back`. `lost`: the attempt is void.

    granted: seconds that the lease is known to live from now on. `phase` is shown to people; `when_renewed` is awaited after every renewal, `when_back` called when the server
    answers again.
    """

    def __init__(
        self, client: AsyncClient, token: str, seconds: float, look: Callable[[], Machine], granted: float = 0.0
    ) -> None:
        self.stopped = asyncio.Event()
        self.lost = asyncio.Event()
        self.give_back = False
        self.reason = ""
        self.phase = "preparing"
        self.when_back: Callable[[], None] = lambda: None
        self.when_renewed: Callable[[], Awaitable[None]] = _nothing
        self._client, self._token, self._seconds, self._look = client, token, seconds, look
        self._refused_since: float | None = None
        self._away = False
        self._looked = time.monotonic()
        self._until = boot_time() + granted
        self._ahead: float | None = None  # how far the server's clock is ahead of ours, at most
        self._leaving = False
        self._one_call = asyncio.Lock()

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

    def left(self) -> float:
        """Seconds that the lease lives for sure; a program without its worker must not live longer."""
        return max(self._until - boot_time() - MARGIN, 0.0)

    async def leave(self, seconds: float) -> None:
        """The last renewal before this process goes: the lease is to live for so long. `left` knows what came of it."""
        async with self._one_call:
            self._leaving = True
            await self._renew(seconds)

    async def renew(self) -> None:
        """One renewal; sets the events."""
        async with self._one_call:
            if not self._leaving:
                await self._renew(0.0)

    async def _renew(self, keep: float) -> None:
        sent = boot_time()
        try:
            async with asyncio.timeout(LEAVE_SECONDS if keep else max(self._seconds, CALL_SECONDS)):
                renewed = await self._client.call(RENEW_LEASE, self._said(keep), token=self._token)
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
            self._lives(renewed.expires, sent, keep)
            await self.when_renewed()
            if self._away:
                self._away = False
                self.when_back()
            if renewed.stop:
                self.reason, self.give_back = renewed.reason, renewed.give_back
                self.stopped.set()

    def _lives(self, expires: float, sent: float, keep: float) -> None:
        """The server's clock is its own: what it grants is told from the last answer that granted one period."""
        if not keep or self._ahead is None:
            self._ahead = expires - self._seconds - sent
        self._until = expires - self._ahead

    def _said(self, keep: float) -> Renew:
        machine = None
        if time.monotonic() - self._looked > MACHINE_EVERY:
            self._looked = time.monotonic()
            machine = self._look()
        return Renew(phase=self.phase, keep=keep, machine=machine)

    def _refused(self, error: TaskloomError) -> None:
        """The worker's key is not valid any more: by the time the lease would have run out it has."""
        now = time.monotonic()
        if self._refused_since is None:
            self._refused_since = now
            log.error("the server refuses the worker's key: %s", error.message)
        elif now - self._refused_since > self._seconds:
            self.lost.set()
