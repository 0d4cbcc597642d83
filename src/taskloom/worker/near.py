"""The first seconds of an attempt's delivery, in the worker itself: a short task costs no companion.

Starting a process that ships one small journal costs more than most small tasks do. So what an attempt has to say is
sent from a thread of the worker at first, by the same `Shipping`, under the same lock; what is not over by then, and
whatever goes wrong, is handed to a companion, which knows how to wait and how to go on alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

from taskloom.domain.errors import TaskloomError
from taskloom.journal import layout
from taskloom.journal.post import Post
from taskloom.journal.shipping import Shipping
from taskloom.wire.client import Address

NEAR_SECONDS = 3.0
STEP_SECONDS = 1.0
LAST_STEPS = 3


class NearDelivery:
    """Sends one task's journals for a while. `over` once somebody else has to go on."""

    def __init__(self, journal: Path, address: Address) -> None:
        self._shipping = Shipping(journal, Post(address))
        self._lock = layout.try_lock(journal / layout.SHIP_LOCK_FILE)
        self._wake = asyncio.Event()
        self._closing = False
        self._failed = self._lock is None  # an earlier companion has it
        self._sending = asyncio.create_task(self._send())

    def poke(self) -> None:
        self._wake.set()

    async def wait(self) -> None:
        """Until its time is over, or something went wrong."""
        await asyncio.shield(self._sending)

    async def finish(self) -> bool:
        """Sends what is left after the last word; whether everything is delivered and gone."""
        await self._stop()
        try:
            for _ in range(0 if self._failed else LAST_STEPS):
                await asyncio.to_thread(self._shipping.step)
                if await asyncio.to_thread(self._shipping.clean):
                    return True
        except (TaskloomError, OSError):
            pass
        finally:
            self._release()
        return False

    async def hand_over(self) -> None:
        """Whoever comes next may begin."""
        await self._stop()
        self._release()

    async def _stop(self) -> None:
        self._closing = True
        self._wake.set()
        await self._sending

    def _release(self) -> None:
        self._shipping.post.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _send(self) -> None:
        until = time.monotonic() + NEAR_SECONDS
        while not (self._failed or self._closing) and (left := until - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), min(STEP_SECONDS, left))
            self._wake.clear()
            if self._closing:
                return
            try:
                await asyncio.to_thread(self._shipping.step, beside=True)
            except (TaskloomError, OSError):
                self._failed = True
