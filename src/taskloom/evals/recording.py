"""How a job is recorded: a journal of its own, or that of the worker's task that this process is.

A job is a recorded task of type `testing`; its id is the job's. Everything is written to this disk first and shipped
by a companion process, so that a server that is away, slow or killed costs a run nothing. Steps of a run that come
close together travel in one record, and a run that is over by then is told once, as it ended. What a job means stands
in `job`; when things happen, in `engine`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from taskloom.domain.errors import TooLarge
from taskloom.domain.evaluation import EvalJob, EvalRun, Step
from taskloom.domain.parameters import encode
from taskloom.domain.task import TaskEdit, TaskType
from taskloom.evals.naming import project_name, task_name
from taskloom.evals.storing import check, reduced_run, reduced_step, storable_job
from taskloom.journal import layout
from taskloom.journal.writer import Writer
from taskloom.sdk.delivery import Delivery
from taskloom.sdk.ending import Ending, Outcome
from taskloom.sdk.identity import from_environment
from taskloom.sdk.notices import Notices
from taskloom.sdk.session import OFFLINE_FOLDER, current, is_offline
from taskloom.wire.configuration import data_folder, setting
from taskloom.wire.connection import find_address
from taskloom.wire.records import (
    Edited,
    Ended,
    EndStatus,
    JobStored,
    Opened,
    OpenMode,
    Record,
    RunStored,
    StepsTaken,
)
from taskloom.wire.worker_protocol import ENV_LEASE

if TYPE_CHECKING:
    from taskloom.evals.run import Run

GATHER = 0.25  # seconds in which steps of a run wait for one another
TELL_EVERY = 1.0  # seconds between two points of the reward, and two notes of the progress
SECTION = "Evaluation"  # of the job's parameters
LOOK_AT_CODE = 5.0  # seconds that closing waits for what is found out of code and packages
REWARD = ("reward", "mean")

# What writing a value raises that is too large, or that no wire has: an agent may leave anything in its trace.
_UNWRITABLE = (TooLarge, TypeError, ValueError, OverflowError, RecursionError)


@dataclass(slots=True)
class _Live:
    """A run that goes on, with what of it is not written yet."""

    run: Run
    told: bool = False
    start: int = 0
    steps: list[Step] = field(default_factory=list[Step])


class JobRecorder:
    """The journal of one job. Used from one event loop; `record` and `take_step` from any thread.

    task: id of the recorded task, which is the job's but in a hosted run. Nothing here raises for a disk that is full
    or a server that is away.
    """

    def __init__(self, writer: Writer, task: str, *, owner: bool, offline: bool, notices: Notices) -> None:
        self.writer, self.task, self.owner, self.offline = writer, task, owner, offline
        self.again = False  # whether runs may be there already, of an earlier attempt at this task
        self.first = 0 if owner else _taken.get(task, 0)  # place of its first run
        self.notices = notices
        self.delivery = Delivery(writer.task_folder)
        self.closed = False
        self._live: dict[str, _Live] = {}
        self._dirty: dict[str, _Live] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._tell_at = 0.0
        self._capture: threading.Thread | None = None

    @classmethod
    def open(
        cls,
        job: EvalJob,
        *,
        project: str,
        mode: OpenMode = "new",
        capture: bool = True,
        script: Path | None = None,
        notices: Notices | None = None,
    ) -> Self:
        """Begin the job's task, or go on with it (`resume`). Under a worker it is the worker's task.

        capture: tell the code and packages of the script, of a new job. script: by default the one that Python was
        started with.
        """
        hosted = cls.attach(notices)
        if hosted is not None:
            return hosted
        notices, offline = notices or Notices(), is_offline()
        data = data_folder()
        root = data / OFFLINE_FOLDER if offline else layout.journal_root(data)
        name, path = task_name(job.name), project_name(project)
        session = current.session
        parent = session.id if session is not None and not session.closed else ""
        try:
            writer = _create(root, job.id, name, path, offline, notices)
        except OSError as error:
            import tempfile

            place = Path(tempfile.mkdtemp(prefix="taskloom-"))
            notices.say(f"the journal cannot be written below {root}: {error.strerror}; it is in {place}")
            writer = _create(place, job.id, name, path, offline, notices)
        recorder = cls(writer, job.id, owner=True, offline=offline, notices=notices)
        python = ".".join(map(str, sys.version_info[:3]))
        recorder.record(
            Opened(
                mode=mode,
                name=name,
                project=path,
                type=TaskType.TESTING,
                time=time.time(),
                parent=parent,
                runtime={"host": writer.meta.host, "pid": os.getpid(), "python": python},
            )
        )
        _open.add(recorder)
        recorder._begin_shipping(capture=capture and mode == "new", script=script)
        return recorder

    @classmethod
    def attach(cls, notices: Notices | None = None) -> Self | None:
        """The journal of the task that a worker runs this process for; None when none does."""
        if not os.environ.get(ENV_LEASE, ""):
            return None
        identity = from_environment(os.environ, data_folder())
        if identity is None:
            return None
        notices = notices or Notices()
        writer = Writer.create(identity.root, identity.task, role="child", lease=identity.lease, tell=notices.say)
        recorder = cls(writer, identity.task, owner=False, offline=False, notices=notices)
        recorder.again = identity.claimed is not None and identity.claimed.attempt > 1
        return recorder

    # --- the job ------------------------------------------------------------------------------------------

    def record(self, record: Record) -> None:
        """Append to the journal; what no server would take is said once and left out."""
        try:
            self.writer.record(record)
        except _UNWRITABLE as error:
            kind = type(record).__name__
            self.notices.once(("record", kind), f"a {kind} of job {self.task} cannot be recorded: {error}")

    def store_job(self, job: EvalJob, parameters: dict[str, Any]) -> None:
        """The receipt, and what the job was given, as parameters of its task."""
        self.record(JobStored(job=storable_job(job)))
        given = {name: encode(value) for name, value in parameters.items() if value is not None}
        if given and self.owner:
            self.edit(TaskEdit(parameters={SECTION: dict(given)}))

    def take_places(self, count: int) -> None:
        """So many places of the task are taken. Jobs that a worker's process has one after the other share its task."""
        if not self.owner:
            _taken[self.task] = max(count, _taken.get(self.task, 0))

    def edit(self, edit: TaskEdit) -> None:
        self.record(Edited(edit=edit, time=time.time()))

    def tell(self, ended: int, expected: int, reward: float) -> None:
        """How far the job is; about once a second it is written down."""
        now = time.monotonic()
        if now < self._tell_at and ended != expected:
            return
        self._tell_at = now + TELL_EVERY
        number = self.writer.numbers.get(REWARD)
        if number is None:
            number = self.writer.name_series(*REWARD)
        self.writer.scalar(number, ended, reward, time.time())
        if expected:
            self.edit(TaskEdit(progress=min(100.0 * ended / expected, 100.0)))

    # --- its runs -----------------------------------------------------------------------------------------

    def begin_run(self, run: Run) -> None:
        """A run, or another attempt at it, begins. Told at once only where an earlier attempt has to go."""
        live = self._live[run.trace_id] = _Live(run)
        if self.again or run.attempt > 1:
            self._tell_begun(live)
        else:
            self._mark(live)

    def take_step(self, run: Run, number: int, step: Step) -> None:
        """The sink of a run."""
        live = self._live.get(run.trace_id)
        if live is None:
            return
        with self._lock:
            if not live.steps:
                live.start = number
            live.steps.append(step)
        self._mark(live)

    def end_run(self, run: Run) -> None:
        live = self._live.pop(run.trace_id, None)
        self._dirty.pop(run.trace_id, None)
        if live is not None and live.told:
            self._write_steps(live)
        self.store_run(run)
        if live is not None:
            self._write_steps(live)

    def _mark(self, live: _Live) -> None:
        self._dirty[live.run.trace_id] = live
        if self._timer is not None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # an agent records from a thread of its own
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._plan)
            return
        self._loop = loop
        self._plan()

    def _plan(self) -> None:
        if self._timer is None and self._loop is not None and not self.closed:
            self._timer = self._loop.call_later(GATHER, self._write_gathered)

    def flush(self) -> None:
        """Write down what waits for company."""
        if self._timer is not None:
            self._timer.cancel()
        self._write_gathered()

    def _write_gathered(self) -> None:
        self._timer = None
        dirty, self._dirty = self._dirty, {}
        for live in dirty.values():
            if not live.told:
                self._tell_begun(live)
            self._write_steps(live)

    def _tell_begun(self, live: _Live) -> None:
        live.told = True
        self.store_run(live.run)

    def store_run(self, run: Run) -> None:
        """As it stands now."""
        self.store_value(msgspec.structs.replace(run.value(), task=self.task))

    def store_value(self, value: EvalRun) -> None:
        """A run that is there as a value. What of it cannot be written is left out and said."""
        try:
            self.writer.record(check(RunStored(run=value)))
        except _UNWRITABLE as error:
            self._record_reduced(RunStored(run=reduced_run(value, error)))

    def _write_steps(self, live: _Live) -> None:
        with self._lock:
            steps, live.steps, start = live.steps, [], live.start
        self.store_steps(live.run.trace_id, live.run.job_id, start, steps)

    def store_steps(self, run: str, job: str, start: int, steps: Sequence[Step]) -> None:
        """Steps from number `start` on. Of one that cannot be written its place is kept, with the reason."""
        if not steps:
            return
        try:
            self.writer.record(check(StepsTaken(run=run, job=job, start=start, steps=tuple(steps))))
        except _UNWRITABLE as error:
            if len(steps) > 1:
                for number, step in enumerate(steps, start):
                    self.store_steps(run, job, number, (step,))
                return
            stub = reduced_step(steps[0], error)
            self._record_reduced(StepsTaken(run=run, job=job, start=start, steps=(stub,)))

    def _record_reduced(self, record: RunStored | StepsTaken) -> None:
        """What no server takes would hold up everything behind it."""
        try:
            self.record(check(record))
        except _UNWRITABLE as error:
            kind = type(record).__name__
            self.notices.once(("record", kind), f"a {kind} of job {self.task} cannot be recorded: {error}")

    # --- the end ------------------------------------------------------------------------------------------

    def end(self, status: EndStatus, reason: str = "", message: str = "") -> None:
        """Write the last words and release the journal; the companion goes on. Once."""
        if self.closed:
            return
        self.closed = True
        self.flush()
        _open.discard(self)
        if self._capture is not None and self._capture is not threading.current_thread():
            self._capture.join(LOOK_AT_CODE)
        if self.owner:
            self.record(Ended(status=status, time=time.time(), reason=reason, message=message))
        self.writer.close()

    def hand_over(self, timeout: float | None = None) -> None:
        """After the end: wait, bounded, until the server has everything; say what is not there yet. It blocks."""
        if not self.owner:
            return  # the worker ships it
        with self.notices.boundary("the journal could not be shipped"):
            if self.offline:
                from taskloom.sdk.offline import pack

                self.notices.say(f"the offline session is in {pack(self.writer.task_folder)}")
                return
            self.delivery.start()
            patience = setting("sdk.close_timeout_in_seconds") if timeout is None else timeout
            if find_address() is None:
                self.delivery.poke()
                where = f"the journal waits at {self.writer.task_folder}"
                self.notices.say(f"no server is configured: {where} for `taskloom up` or `taskloom journal ship`")
            elif not self.delivery.wait(self.writer, patience):
                self._tell_left()
            self.delivery.leave()

    def wait_shipped(self, timeout: float) -> bool:
        """Whether the server has what was recorded so far (call `flush` before). It blocks."""
        if not self.owner or self.offline or find_address() is None:
            return False
        self.delivery.start()
        return self.delivery.wait(self.writer, timeout)

    def _tell_left(self) -> None:
        refused = self.delivery.refused(self.writer)
        where = f"the journal stays at {self.writer.task_folder}"
        if refused:
            self.notices.say(f"the server refused the results of this job ({refused}); {where}")
            return
        note = self.delivery.last_note()
        reason = f" ({note})" if note else ""
        self.notices.say(f"results are still to be shipped{reason}; {where} and is sent in the background")

    # --- beside the runs ----------------------------------------------------------------------------------

    def _begin_shipping(self, *, capture: bool, script: Path | None) -> None:
        """The companion, and what code this is: in a thread, so that no run waits for it."""

        def work() -> None:
            if not self.offline:
                with self.notices.boundary("the shipper could not be started"):
                    self.delivery.start()
            if capture:
                with self.notices.boundary("the code could not be captured"):
                    self._capture_code(script)

        self._capture = threading.Thread(target=work, name="taskloom-job", daemon=True)
        self._capture.start()

    def _capture_code(self, script: Path | None) -> None:
        from taskloom.sdk.capture.git import capture_code
        from taskloom.sdk.capture.packages import capture_packages
        from taskloom.sdk.start import script_path

        script = script or script_path()
        code = capture_code(script, Path.cwd())
        self.edit(TaskEdit(execution={**code, "packages": capture_packages(script)}))


class _OpenJobs:
    """The jobs of this process that are open, which end with it; the hooks are in while there are some."""

    def __init__(self) -> None:
        self._jobs: set[JobRecorder] = set()
        self._ending: Ending | None = None
        self._lock = threading.RLock()

    def add(self, job: JobRecorder) -> None:
        with self._lock:
            self._jobs.add(job)
            if self._ending is None:
                self._ending = Ending(self._finish)
                self._ending.install()

    def discard(self, job: JobRecorder) -> None:
        with self._lock:
            self._jobs.discard(job)
            if not self._jobs and self._ending is not None:
                self._ending.undo()
                self._ending = None

    def _finish(self, outcome: Outcome) -> None:
        for job in list(self._jobs):
            with contextlib.suppress(Exception):  # the process ends; the shipper tells the end of what is left
                job.end(outcome.status, outcome.reason, outcome.message)
                job.hand_over()


_open = _OpenJobs()
_taken: dict[str, int] = {}  # places of the runs that this process has in a worker's task


def _create(root: Path, task: str, name: str, project: str, offline: bool, notices: Notices) -> Writer:
    return Writer.create(root, task, role="main", offline=offline, name=name, project=project, tell=notices.say)
