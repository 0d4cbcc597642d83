"""The end of an attempt, told once: its checkpoints and journals first, then FINISH, then its folder goes.

What is to be told is on the disk before it is told (see `record`), so that the next process of this worker tells it
when this one does not come to it.
"""

from __future__ import annotations

import asyncio
import logging
import random

from taskloom.domain.errors import BadInput, IllegalMove, LeaseLost, NotFound, TaskloomError
from taskloom.wire.messages import Finish
from taskloom.wire.operations import FINISH_LEASE
from taskloom.wire.send import AsyncClient
from taskloom.worker import checkpoints
from taskloom.worker.console import Console
from taskloom.worker.lease import LeaseKeeper
from taskloom.worker.oversight import Outcome
from taskloom.worker.record import AttemptFolder
from taskloom.worker.tools import Tools

log = logging.getLogger("taskloom.worker")
AGAIN_FIRST, AGAIN_LAST = 0.5, 15.0


async def settle(
    tools: Tools, folder: AttemptFolder, console: Console, keeper: LeaseKeeper, outcome: Outcome
) -> None:
    """What becomes of an attempt that is over for this process."""
    if outcome == "left":
        log.info("task %s: goes on without this process for up to %g s", folder.record.task, keeper.left())
        await console.leave()
        return
    if isinstance(outcome, Finish):
        await asyncio.to_thread(folder.free)
        if outcome.outcome != "completed":
            await checkpoints.store(folder.checkpoints, console.writer, console.report)
        await deliver(tools, folder, console, keeper, outcome)
        return
    await keep_aside(tools, folder, console)


async def deliver(tools: Tools, folder: AttemptFolder, console: Console, keeper: LeaseKeeper, end: Finish) -> None:
    """Until it is acknowledged, refused, or this process has to go."""
    try:
        folder.ends(end)
    except OSError as error:
        log.error("task %s: its end cannot be written down: %s", folder.record.task, error)
    keeper.phase = "uploading"
    telling = asyncio.create_task(_drain_and_tell(tools.client, folder, console, end))
    others = [asyncio.create_task(keeper.lost.wait()), asyncio.create_task(_gone(tools))]
    await asyncio.wait({telling, *others}, return_when=asyncio.FIRST_COMPLETED)
    for waiting in (telling, *others):
        waiting.cancel()
    await asyncio.gather(telling, *others, return_exceptions=True)
    if telling.done() and not telling.cancelled() and telling.exception() is None and telling.result():
        await console.end()
        folder.remove()
        log.info("task %s: %s%s", folder.record.task, end.outcome, f", {end.reason}" if end.reason else "")
        return
    if not telling.cancelled() and (fault := telling.exception()) is not None:
        log.error("task %s: %s: %s", folder.record.task, type(fault).__name__, fault)
    elif not keeper.lost.is_set() and telling.cancelled():
        log.warning("task %s: its end could not be told yet; kept for the next start", folder.record.task)
        await console.leave()
        return
    await keep_aside(tools, folder, console)


async def keep_aside(tools: Tools, folder: AttemptFolder, console: Console) -> None:
    """The attempt is void: nothing of it is told any more."""
    await console.end()
    kept = folder.keep_aside(tools.folder / "refused")
    log.warning("task %s: the lease is lost%s", folder.record.task, f"; journals kept in {kept}" if kept else "")


async def _drain_and_tell(client: AsyncClient, folder: AttemptFolder, console: Console, end: Finish) -> bool:
    """True when the end is acknowledged; False when the server does not know the lease any more."""
    delivered = await console.drain()
    pause = AGAIN_FIRST
    while True:
        try:
            await client.call(FINISH_LEASE, end, token=folder.record.token)
        except (LeaseLost, NotFound, IllegalMove, BadInput):
            return False
        except TaskloomError as error:
            log.warning("task %s: the end could not be told, trying again: %s", folder.record.task, error.message)
        else:
            return delivered or not folder.journal.exists()
        await asyncio.sleep(pause * random.uniform(0.7, 1.0))  # noqa: S311 - spreads the retries, no secret
        pause = min(pause * 2, AGAIN_LAST)


async def _gone(tools: Tools) -> None:
    """The worker has to go, and the server had its time to answer."""
    events = [asyncio.create_task(event.wait()) for event in (tools.stopping, tools.leaving)]
    try:
        await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(AGAIN_LAST)
    finally:
        for event in events:
            event.cancel()
