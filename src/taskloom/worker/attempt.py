"""One attempt: from the claimed lease to the acknowledged end.

prepare -> run -> drain the journals -> FINISH, with the lease renewed all the while. Three things cut it short:
an abort (the child is stopped with some grace, the task ends aborted), a lost lease (the child is killed at
once, nothing more is said, the journals are kept aside), and the worker's own stop (the child is stopped, the
task is given back). What is to be told is on the disk before it is told; see `record`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from taskloom.domain.errors import BadInput, IllegalMove, LeaseLost, NotFound, TaskloomError
from taskloom.domain.queue import Machine
from taskloom.domain.task import Task, TaskEdit
from taskloom.journal.masking import write_masks
from taskloom.providers.contract import Exit, Launch, NoPlace, NotStarted, Place, Program, Provider
from taskloom.wire.configuration import FOR_CHILDREN
from taskloom.wire.messages import Finish, Lease
from taskloom.wire.operations import FINISH_LEASE
from taskloom.wire.send import AsyncClient
from taskloom.wire.worker_protocol import (
    ENV_API_KEY,
    ENV_DATA,
    ENV_JOURNAL,
    ENV_LEASE,
    ENV_TASK_FILE,
    ENV_TASK_ID,
    ENV_URL,
    WORKER_LOST,
)
from taskloom.worker import clearml
from taskloom.worker.console import Console
from taskloom.worker.lastwords import LastWords, outcome
from taskloom.worker.lease import LeaseKeeper
from taskloom.worker.leftovers import kill_leftovers
from taskloom.worker.record import AttemptFolder
from taskloom.worker.steps import PrepareFailed, Steps, describe, redact
from taskloom.worker.values import hidden_values
from taskloom.worker.workspace import Workspaces

log = logging.getLogger("taskloom.worker")
LOOK_SECONDS = 0.5
AGAIN_FIRST, AGAIN_LAST = 0.5, 15.0
GIVEN_BACK = "the worker was stopped"


@dataclass(frozen=True)
class Tools:
    """What every attempt of a worker shares. `stopping` is set when the worker has to go now."""

    client: AsyncClient
    provider: Provider
    workspaces: Workspaces
    data: Path
    folder: Path  # the worker's own
    ship_environ: Mapping[str, str]
    look: Callable[[], Machine]
    grace: float
    stopping: asyncio.Event


class Interrupted(Exception):
    """A step was to begin after the attempt was cut short."""


class WatchedPlace:
    """A place whose running program, whichever it is, can be stopped from outside."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._program: Program | None = None
        self._closed = False

    async def start(self, launch: Launch) -> Program:
        if self._closed:
            raise Interrupted
        self._program = await self._place.start(launch)
        return self._program

    async def interrupt(self, grace: float) -> None:
        """Stops what runs; nothing is started any more."""
        self._closed = True
        if self._program is not None:
            await self._program.stop(grace)

    async def release(self) -> None:
        self._closed = True
        await self._place.release()


class Attempt:
    """`gpus`: the ones of this slot, None to leave the child's view of them alone."""

    def __init__(self, tools: Tools, lease: Lease, gpus: list[str] | None) -> None:
        self._tools, self._lease, self._gpus = tools, lease, gpus
        self._task: Task = lease.task
        self._keeper = LeaseKeeper(tools.client, lease.token, lease.seconds, tools.look)

    async def run(self) -> None:
        """To the acknowledged end; or until the lease is lost, or the worker has to go without an answer."""
        try:
            folder = AttemptFolder.create(self._tools.folder / "attempts", self._lease)
        except OSError as error:
            log.error("task %s: no place on the disk: %s", self._task.id, error)
            await self._tell_only(Finish(outcome="failed", reason=f"the worker's disk: {error}", requeue=True))
            return
        console = Console(folder, self._tools.ship_environ)
        self._keeper.when_back = console.poke
        async with self._keeper.keeping():
            try:
                write_masks(folder.journal, hidden_values(self._lease))
                await console.open()
                end = await self._work(folder, console)
            except OSError as error:
                end = Finish(outcome="failed", reason=f"the worker cannot run it: {error}")
            except Exception as error:  # the worker's slot outlives any fault; the task gets it as its reason
                log.exception("task %s: a fault in the worker", self._task.id)
                end = Finish(outcome="failed", reason=f"a fault in the worker: {type(error).__name__}: {error}")
            await deliver(self._tools, folder, console, self._keeper, end)

    async def _tell_only(self, end: Finish) -> None:
        with contextlib.suppress(TaskloomError):
            await self._tools.client.call(FINISH_LEASE, end, token=self._lease.token)

    async def _work(self, folder: AttemptFolder, console: Console) -> Finish | None:
        """How it ended; None when the lease was lost."""
        report = console.report
        report.say(f"taskloom: attempt {self._lease.attempt} of task {self._task.id} ({self._task.name})")
        try:
            place = WatchedPlace(await self._tools.provider.acquire(self._task.execution.resources))
        except NoPlace as error:
            return Finish(outcome="failed", reason=str(error))
        working = asyncio.create_task(self._prepare_and_run(place, folder, console))
        keeper, stopping = self._keeper, self._tools.stopping
        signals = [asyncio.create_task(e.wait()) for e in (keeper.lost, keeper.stopped, stopping)]
        try:
            await asyncio.wait({working, *signals}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                return await self._cut_short(working, place, console)
            return working.result()
        except (PrepareFailed, NotStarted) as error:
            reason = redact(str(error))
            report.say(f"taskloom: {reason}")
            return Finish(outcome="failed", reason=reason)
        finally:
            for waiting in (working, *signals):
                waiting.cancel()
            await asyncio.gather(working, *signals, return_exceptions=True)
            await place.release()

    async def _cut_short(
        self, working: asyncio.Task[Finish], place: WatchedPlace, console: Console
    ) -> Finish | None:
        lost = self._keeper.lost.is_set()
        if not lost:
            why = self._keeper.reason or (GIVEN_BACK if self._tools.stopping.is_set() else "aborted")
            console.report.say(f"taskloom: stopping: {why}")
        await self._stop(place, 0.0 if lost else self._tools.grace)
        if self._keeper.lost.is_set():
            return None
        if self._keeper.stopped.is_set():
            return Finish(outcome="aborted", reason=self._keeper.reason or "aborted")
        return Finish(outcome="aborted", reason=GIVEN_BACK, requeue=True)

    async def _stop(self, place: WatchedPlace, grace: float) -> None:
        """With grace; a lease that is lost meanwhile ends the grace."""
        stop = asyncio.create_task(place.interrupt(grace))
        lost = asyncio.create_task(self._keeper.lost.wait())
        await asyncio.wait({stop, lost}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.done():
            await place.interrupt(0)
        lost.cancel()
        await stop

    async def _prepare_and_run(self, place: WatchedPlace, folder: AttemptFolder, console: Console) -> Finish:
        report = console.report
        steps = Steps(place, report, folder.path)
        given = self._given(folder)
        async with self._tools.workspaces.prepare(self._lease, folder.path, steps, given) as prepared:
            self._keeper.phase = "running"
            if prepared.commit:
                console.edit(TaskEdit(runtime={"commit": prepared.commit}))
            out, err = console.stream("stdout"), console.stream("stderr")
            report.say(f"taskloom: running {_shown(prepared.argv)}")
            console.poke()  # so that these lines stand before the script's own
            words = LastWords(folder.journal, console.stream("stdout").parent)
            try:
                program = await place.start(Launch(prepared.argv, prepared.cwd, prepared.env, out, err))
                end = await _watched(program, words)
                status, reason = outcome(end, words.ended())
                if end.code != 0 and prepared.phase is not None and not prepared.phase.exists():
                    raise PrepareFailed(f"the setup lines failed: {describe(end)}")
            finally:
                words.close()
            if end.lost:  # nobody watched over what it started
                await asyncio.to_thread(kill_leftovers, {self._lease.token})
        report.say(f"taskloom: ended, {describe(end)}")
        return Finish(outcome=status, exit_code=_code(end), reason=reason)

    def _given(self, folder: AttemptFolder) -> dict[str, str]:
        """The worker's variables for the child, in `wire.worker_protocol`'s words; never the worker's own key."""
        given = {
            ENV_TASK_ID: self._task.id,
            ENV_TASK_FILE: str(folder.task_file),
            ENV_LEASE: self._lease.token,
            ENV_JOURNAL: str(folder.journal),
            ENV_URL: self._tools.client.address.url,
            ENV_API_KEY: self._lease.key,
            ENV_DATA: str(self._tools.data),
            **clearml.variables(self._task.id, self._tools.client.address.url, self._lease.key),
        }
        given |= {name: value for name, value in self._tools.ship_environ.items() if name in FOR_CHILDREN}
        if self._gpus is not None:
            given["CUDA_VISIBLE_DEVICES"] = ",".join(self._gpus)
        return given


async def recover(tools: Tools, folder: AttemptFolder) -> None:
    """An attempt of an earlier process of this worker, whose child is dead: tell its end, or give it back."""
    record = folder.record
    log.info("task %s: an attempt that an earlier process of this worker left", record.task)
    keeper = LeaseKeeper(tools.client, record.token, record.seconds, tools.look)
    keeper.phase = "uploading"
    console = Console(folder, tools.ship_environ)
    async with keeper.keeping():
        await keeper.renew()
        lost = Finish(outcome="failed", reason=WORKER_LOST, message="the worker was restarted", requeue=True)
        await deliver(tools, folder, console, keeper, record.end or lost)


async def deliver(
    tools: Tools, folder: AttemptFolder, console: Console, keeper: LeaseKeeper, end: Finish | None
) -> None:
    """Journals first, then the end, once. `end` None: the lease is lost."""
    if end is not None:
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
            console.leave()
            return
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
    await tools.stopping.wait()
    await asyncio.sleep(AGAIN_LAST)


async def _watched(program: Program, words: LastWords) -> Exit:
    """Waits for the end, and looks for the script's own journal meanwhile."""
    waiting = asyncio.create_task(program.wait())
    while True:
        done, _ = await asyncio.wait({waiting}, timeout=LOOK_SECONDS)
        words.look()
        if done:
            return waiting.result()


def _shown(argv: tuple[str, ...]) -> str:
    text = redact(" ".join(argv))
    return text if len(text) <= 500 else f"{text[:500]}..."


def _code(end: Exit) -> int | None:
    return -end.signal if end.signal is not None else end.code
