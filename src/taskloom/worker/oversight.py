"""What cuts an attempt short, and what becomes of it then.

lease lost   the program is killed at once, nothing more is said
stop mark    it is stopped with some grace; the task is aborted, or given back when another one needs the place
stopping     the worker has to go: stopped with some grace, given back
leaving      the worker goes and means to be back: a program that runs goes on for as long as its lease is
             granted, what is still in preparation is given back
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Literal

from taskloom.wire.messages import Finish
from taskloom.worker.lease import LeaseKeeper
from taskloom.worker.places import Places
from taskloom.worker.running import Running
from taskloom.worker.steps import Report
from taskloom.worker.tools import Tools

GIVEN_BACK = "the worker was stopped"
PREEMPTED = "preempted"

Outcome = Finish | Literal["lost", "left"]


class Oversight:
    """Sees one attempt through. `running` is set once its program runs and can be found again."""

    def __init__(self, tools: Tools, keeper: LeaseKeeper, report: Report, places: Places) -> None:
        self._tools, self._keeper, self._report, self._places = tools, keeper, report, places
        self.running: Running | None = None

    async def see_through(self, work: Coroutine[Any, Any, Finish]) -> Outcome:
        """How the work ended; the places are given back, unless the program is left."""
        working = asyncio.create_task(work)
        events = (self._keeper.lost, self._keeper.stopped, self._tools.stopping, self._tools.leaving)
        signals = [asyncio.create_task(event.wait()) for event in events]
        left = False
        try:
            await asyncio.wait({working, *signals}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            left = await self._leave()
            return "left" if left else await self._cut_short()
        finally:
            for waiting in (working, *signals):
                waiting.cancel()
            await asyncio.gather(working, *signals, return_exceptions=True)
            if not left:
                await self._places.release()

    async def _leave(self) -> bool:
        """Whether the program was left to the next process of this worker."""
        keeper, tools = self._keeper, self._tools
        if keeper.lost.is_set() or keeper.stopped.is_set() or tools.stopping.is_set() or self.running is None:
            return False
        self._report.say("taskloom: the worker restarts; the task goes on")
        await keeper.leave(tools.leave)
        if keeper.lost.is_set() or keeper.stopped.is_set():
            return False
        await self.running.keep()
        return True

    async def _cut_short(self) -> Outcome:
        keeper = self._keeper
        if keeper.lost.is_set():
            await self._stop(0.0)
            return "lost"
        why = GIVEN_BACK
        if keeper.stopped.is_set():
            why = keeper.reason or (PREEMPTED if keeper.give_back else "aborted")
        self._report.say(f"taskloom: stopping: {why}")
        await self._stop(self._tools.grace)
        if keeper.lost.is_set():
            return "lost"
        if keeper.stopped.is_set() and not keeper.give_back:
            return Finish(outcome="aborted", reason=keeper.reason or "aborted")
        return Finish(outcome="aborted", reason=PREEMPTED if keeper.give_back else GIVEN_BACK, requeue=True)

    async def _stop(self, grace: float) -> None:
        """With grace; a lease that is lost meanwhile ends the grace."""
        stop = asyncio.create_task(self._places.interrupt(grace))
        lost = asyncio.create_task(self._keeper.lost.wait())
        await asyncio.wait({stop, lost}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.done():
            await self._places.interrupt(0)
        lost.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await lost
        await stop
