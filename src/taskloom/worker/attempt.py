"""One attempt: from the claimed lease to the acknowledged end.

prepare -> run -> drain the journals -> FINISH, with the lease renewed all the while. What cuts it short stands in
`oversight`, how its end is told in `ending`, how a restarted worker goes on with it in `adoption`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from taskloom.domain.errors import TaskloomError
from taskloom.domain.execution import Execution
from taskloom.domain.task import TaskEdit
from taskloom.journal.masking import write_masks
from taskloom.providers.contract import Launch, NoPlace, NotStarted, Wanted
from taskloom.wire.configuration import FOR_CHILDREN
from taskloom.wire.messages import Finish, Lease
from taskloom.wire.operations import FINISH_LEASE
from taskloom.wire.worker_protocol import (
    ENV_API_KEY,
    ENV_CHECKPOINTS,
    ENV_DATA,
    ENV_JOURNAL,
    ENV_LEASE,
    ENV_TASK_FILE,
    ENV_TASK_ID,
    ENV_URL,
)
from taskloom.worker import checkpoints, clearml
from taskloom.worker.console import Console
from taskloom.worker.ending import settle
from taskloom.worker.followers import Follower
from taskloom.worker.lab import LabJob
from taskloom.worker.lastwords import LastWords
from taskloom.worker.lease import LeaseKeeper
from taskloom.worker.leftovers import kill_leftovers
from taskloom.worker.oversight import Outcome, Oversight
from taskloom.worker.places import Places
from taskloom.worker.record import AttemptFolder
from taskloom.worker.running import Running
from taskloom.worker.steps import PrepareFailed, Steps, describe, redact
from taskloom.worker.tools import Tools
from taskloom.worker.values import hidden_values

log = logging.getLogger("taskloom.worker")
ENV_GPUS = "CUDA_VISIBLE_DEVICES"


class Attempt:
    """A lease that this process claimed."""

    def __init__(self, tools: Tools, lease: Lease) -> None:
        self._tools, self._lease, self._task = tools, lease, lease.task
        self._keeper = LeaseKeeper(tools.client, lease.token, lease.seconds, tools.look, granted=lease.seconds)

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
                end: Outcome = await self._work(folder, console)
            except OSError as error:
                end = Finish(outcome="failed", reason=f"the worker cannot run it: {error}")
            except Exception as error:  # the worker's slot outlives any fault; the task gets it as its reason
                log.exception("task %s: a fault in the worker", self._task.id)
                end = Finish(outcome="failed", reason=f"a fault in the worker: {type(error).__name__}: {error}")
            await settle(self._tools, folder, console, self._keeper, end)

    async def _tell_only(self, end: Finish) -> None:
        with contextlib.suppress(TaskloomError):
            await self._tools.client.call(FINISH_LEASE, end, token=self._lease.token)

    async def _work(self, folder: AttemptFolder, console: Console) -> Outcome:
        report = console.report
        report.say(f"taskloom: attempt {self._lease.attempt} of task {self._task.id} ({self._task.name})")
        places = Places()
        oversight = Oversight(self._tools, self._keeper, report, places)
        try:
            return await oversight.see_through(self._prepare_and_run(places, folder, console, oversight))
        except (PrepareFailed, NotStarted, NoPlace) as error:
            reason = redact(str(error))
            report.say(f"taskloom: {reason}")
            return Finish(outcome="failed", reason=reason)

    async def _prepare_and_run(
        self, places: Places, folder: AttemptFolder, console: Console, oversight: Oversight
    ) -> Finish:
        tools, execution = self._tools, self._task.execution
        ground = folder.path / "place"
        gpus = None if self._lease.gpus is None else tuple(tools.gpus[n] for n in self._lease.gpus)
        wanted = Wanted(ground / "run", execution.resources, execution.image, execution.image_arguments,
                        execution.mounts, gpus, console.report.say)  # fmt: skip
        place = await places.acquire(tools.provider_of(execution.image), wanted)
        steps_place = place
        if execution.image:
            steps_place = await places.acquire(tools.provider, Wanted(ground / "steps"))
        await checkpoints.restore(tools.client, self._task, folder.checkpoints, console.report)
        steps = Steps(steps_place, console.report, folder.path)
        given = self._given(folder, gpus)
        if execution.run.strip():
            given = {
                **LabJob.prepare(folder.path, self._lease, console.writer, folder.checkpoints).variables,
                **given,
            }
        async with tools.workspaces.prepare(self._lease, folder.path, steps, given, place.image) as prepared:
            if prepared.commit:
                console.edit(TaskEdit(runtime={"commit": prepared.commit}))
            out, err = console.stream("stdout"), console.stream("stderr")
            console.report.say(f"taskloom: running {_shown(execution, prepared.argv)}")
            console.poke()  # so that these lines stand before the script's own
            launch = Launch(
                prepared.argv, prepared.cwd, prepared.env, out, err,
                shared=(folder.path, *prepared.mounts), readonly=prepared.readonly,
                held=(console.writer.lock, *prepared.held),
            )  # fmt: skip
            program = await place.start(launch)
            folder.starts(program.handle, execution.image, prepared.phase)
            oversight.running = Running(
                program, folder.record, self._keeper, followers(folder, console), tools.grace,
                execution.time_limit, (err, out), hidden_values(self._lease),
            )  # fmt: skip
            await oversight.running.keep()
            end = await oversight.running.ended()
        return await wind_up(oversight.running, folder, console, end)

    def _given(self, folder: AttemptFolder, gpus: tuple[str, ...] | None) -> dict[str, str]:
        """The worker's variables for the child, in `wire.worker_protocol`'s words; never the worker's own key."""
        given = {
            ENV_TASK_ID: self._task.id,
            ENV_TASK_FILE: str(folder.task_file),
            ENV_LEASE: self._lease.token,
            ENV_JOURNAL: str(folder.journal),
            ENV_CHECKPOINTS: str(folder.checkpoints),
            ENV_URL: self._tools.client.address.url,
            ENV_API_KEY: self._lease.key,
            ENV_DATA: str(self._tools.data),
            **clearml.variables(self._task.id, self._tools.client.address.url, self._lease.key),
        }
        given |= {name: value for name, value in self._tools.ship_environ.items() if name in FOR_CHILDREN}
        if gpus is not None and not self._task.execution.image:  # a container shows no others, numbered from 0
            given[ENV_GPUS] = ",".join(gpus)
        return given


def followers(folder: AttemptFolder, console: Console) -> list[Follower]:
    """Who looks at the program; the first that has a word about its end is believed."""
    lab = LabJob.adopt(folder.path, console.writer)
    words = LastWords(folder.journal)
    return [words] if lab is None else [lab, words]


async def wind_up(running: Running, folder: AttemptFolder, console: Console, end: Finish) -> Finish:
    """After the program: what it left, and what people are told."""
    if running.exit is not None and running.exit.lost:  # nobody watched over what it started
        await asyncio.to_thread(kill_leftovers, {folder.record.token})
    if running.exit is not None:
        console.report.say(f"taskloom: ended, {describe(running.exit)}")
    return end


def _shown(execution: Execution, argv: tuple[str, ...]) -> str:
    """What people know of the program: of shell text its first line, as it was written, without any values."""
    text = redact(execution.run.strip().partition("\n")[0] or " ".join(argv))
    first = "the setup lines, then " if execution.run and execution.setup.strip() else ""
    return f"{first}{text if len(text) <= 500 else f'{text[:500]}...'}"
