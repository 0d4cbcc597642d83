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
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from taskloom.domain.errors import TooLarge
from taskloom.domain.evaluation import EvalJob, Step
from taskloom.domain.parameters import encode
from taskloom.domain.project import MAX_NAME, MIN_NAME, check_project
from taskloom.domain.task import TaskEdit, TaskType
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


@dataclass(slots=True)
class _Live:
    """A run that goes on, with what of it is not written yet."""

    run: Run
    told: bool = False
    start: int = 0
    steps: list[Step] = field(default_factory=list[Step])


class JobRecorder:
    """The journal of one job. Used from one event loop; `record` from any thread.

    task: id of the recorded task, which is the job's but in a hosted run. Nothing here raises for a disk that is full
    or a server that is away.
    """

    def __init__(self, writer: Writer, task: str, *, owner: bool, offline: bool, notices: Notices) -> None:
        self.writer, self.task, self.owner, self.offline = writer, task, owner, offline
        self.again = False  # whether runs may be there already, of an earlier attempt at this task
        self.notices = notices
        self.delivery = Delivery(writer.task_folder)
        self.closed = False
        self._live: dict[str, _Live] = {}
        self._dirty: dict[str, _Live] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tell_at = 0.0
        self._capture: threading.Thread | None = None

    @classmethod
    def open(cls, job: EvalJob, *, project: str, mode: OpenMode = "new", notices: Notices | None = None) -> Self:
        """Begin the job's task, or go on with it (`resume`). Under a worker it is the worker's task."""
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
        recorder._begin_shipping(capture=mode == "new")
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
        except (TooLarge, TypeError, ValueError, OverflowError, RecursionError) as error:
            kind = type(record).__name__
            self.notices.once(("record", kind), f"a {kind} of job {self.task} cannot be recorded: {error}")

    def store_job(self, job: EvalJob, parameters: dict[str, Any]) -> None:
        """The receipt, and what the job was given, as parameters of its task."""
        self.record(JobStored(job=job))
        given = {name: encode(value) for name, value in parameters.items() if value is not None}
        if given and self.owner:
            self.edit(TaskEdit(parameters={SECTION: dict(given)}))

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
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER, self._write_gathered)

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
        value = msgspec.structs.replace(run.value(), task=self.task)
        try:
            self.writer.record(RunStored(run=value))
        except (TooLarge, TypeError, ValueError, OverflowError, RecursionError) as error:
            note = {"not recorded": f"args and answer: {error}"}
            self.record(RunStored(run=msgspec.structs.replace(value, args={}, answer=None, extra=note)))

    def _write_steps(self, live: _Live) -> None:
        steps, live.steps = live.steps, []
        if not steps:
            return
        run = live.run
        record = StepsTaken(run=run.trace_id, job=run.job_id, start=live.start, steps=tuple(steps))
        try:
            self.writer.record(record)
        except (TooLarge, TypeError, ValueError, OverflowError, RecursionError):
            for number, step in enumerate(steps, live.start):
                self._write_step(run, number, step)

    def _write_step(self, run: Run, number: int, step: Step) -> None:
        """One alone; of a step that cannot be written its place is kept, with the reason."""
        try:
            self.writer.record(StepsTaken(run=run.trace_id, job=run.job_id, start=number, steps=(step,)))
        except (TooLarge, TypeError, ValueError, OverflowError, RecursionError) as error:
            stub = Step(
                source=step.source,
                error=f"this step cannot be recorded: {error}",
                usage=step.usage,
                started=step.started,
                ended=step.ended,
            )
            self.record(StepsTaken(run=run.trace_id, job=run.job_id, start=number, steps=(stub,)))

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

    def _begin_shipping(self, *, capture: bool) -> None:
        """The companion, and what code this is: in a thread, so that no run waits for it."""

        def work() -> None:
            if not self.offline:
                with self.notices.boundary("the shipper could not be started"):
                    self.delivery.start()
            if capture:
                with self.notices.boundary("the code could not be captured"):
                    self._capture_code()

        self._capture = threading.Thread(target=work, name="taskloom-job", daemon=True)
        self._capture.start()

    def _capture_code(self) -> None:
        from taskloom.sdk.capture.git import capture_code
        from taskloom.sdk.capture.packages import capture_packages
        from taskloom.sdk.start import script_path

        script = script_path()
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


def _create(root: Path, task: str, name: str, project: str, offline: bool, notices: Notices) -> Writer:
    return Writer.create(root, task, role="main", offline=offline, name=name, project=project, tell=notices.say)


def new_job_id() -> str:
    """A new one; under a worker the id of its task, which the job then is."""
    if os.environ.get(ENV_LEASE, ""):
        identity = from_environment(os.environ, data_folder())
        if identity is not None:
            return identity.task
    return uuid.uuid4().hex


def task_name(name: str) -> str:
    """The job's name as one of tasks: printable, not too short and not too long."""
    text = "".join(c if c.isprintable() else " " for c in name).strip()
    if len(text) < MIN_NAME:
        text = f"{text} evaluation".strip()
    return text[:MAX_NAME].strip()


def default_project(taskset: str) -> str:
    """The project where nobody names one: the setting's, else one that is called like the taskset."""
    return setting("evals.project") or task_name(taskset.replace("/", "-"))


def project_name(project: str) -> str:
    """The project as a path; ValueError for what can be none."""
    from taskloom.domain.errors import BadInput

    try:
        return check_project(project)
    except BadInput as error:
        raise ValueError(error.message) from None
