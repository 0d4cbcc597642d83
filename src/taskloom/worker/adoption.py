"""What an earlier process of this worker left: adopted while it runs, told when it ended, given back otherwise.

The lease is asked first: a void one means that another attempt may run already, so that this one's program is killed
before anything else. A server that is away says nothing against the lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

import psutil

from taskloom.providers.contract import NoPlace
from taskloom.wire.messages import Finish
from taskloom.wire.worker_protocol import WORKER_LOST
from taskloom.worker.attempt import followers, wind_up
from taskloom.worker.console import Console
from taskloom.worker.ending import deliver, settle
from taskloom.worker.lease import LeaseKeeper
from taskloom.worker.leftovers import kill_leftovers
from taskloom.worker.oversight import Outcome, Oversight
from taskloom.worker.places import Places
from taskloom.worker.record import AttemptFolder
from taskloom.worker.running import Running
from taskloom.worker.tools import Tools

log = logging.getLogger("taskloom.worker")
GIVEN_UP = Finish(outcome="failed", reason=WORKER_LOST, message="the worker was restarted", requeue=True)


async def recover(tools: Tools, folder: AttemptFolder) -> None:
    """Goes on with one attempt, to the acknowledged end."""
    record = folder.record
    keeper = LeaseKeeper(tools.client, record.token, record.seconds, tools.look)
    console = Console(folder, tools.ship_environ)
    keeper.when_back = console.poke
    await asyncio.to_thread(end_companion, folder)  # it may speak to an address where nobody is any more
    async with keeper.keeping():
        await keeper.renew()
        if record.end is not None and not keeper.lost.is_set():
            await deliver(tools, folder, console, keeper, record.end)
            return
        try:
            await console.open(again=True)
            end = await _go_on(tools, folder, console, keeper)
        except (OSError, NoPlace) as error:
            log.error("task %s: it cannot be gone on with: %s", record.task, error)
            await asyncio.to_thread(kill_leftovers, {record.token})
            end = GIVEN_UP
        await settle(tools, folder, console, keeper, end)


async def _go_on(tools: Tools, folder: AttemptFolder, console: Console, keeper: LeaseKeeper) -> Outcome:
    record, task = folder.record, folder.task()
    if record.end is not None or not record.handle:
        log.info("task %s: an earlier process of this worker did not come to run it", record.task)
        await asyncio.to_thread(kill_leftovers, {record.token})
        return "lost" if keeper.lost.is_set() else GIVEN_UP
    places = Places()
    program = await places.adopt(tools.provider_of(record.image), record.handle)
    log.info("task %s: adopted", record.task)
    console.report.say("taskloom: the worker was restarted and goes on with the task")
    limit = task.execution.time_limit if task is not None else 0.0
    running = Running(program, record, keeper, followers(folder, console), tools.grace, limit)
    oversight = Oversight(tools, keeper, console.report, places)
    oversight.running = running
    if keeper.left():  # else what the earlier process granted still counts
        await running.keep()
    return await oversight.see_through(_to_the_end(running, folder, console))


async def _to_the_end(running: Running, folder: AttemptFolder, console: Console) -> Finish:
    """What nobody saw the end of may have ended because this worker was away: it is given back."""
    end = await wind_up(running, folder, console, await running.ended())
    return GIVEN_UP if running.exit is not None and running.exit.lost else end


def end_companion(folder: AttemptFolder) -> None:
    """Ends the process that shipped this attempt's journals for the earlier worker; what it sent is written down."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.cmdline()[-1:] == [str(folder.journal)]:
                process.terminate()
                with contextlib.suppress(psutil.TimeoutExpired):
                    process.wait(1.0)
