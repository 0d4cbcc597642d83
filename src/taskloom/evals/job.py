"""A job: the receipt of many runs, and a recorded task of type `testing` that has its id. Source: seed 002.

    async with await Job.start("training", group=8) as job:
        await taskset.run(agent, job=job)
    job.reward

It holds the runs that ended, in the order of their rows, whatever finished first. How it is written down stands in
`recording`, what may be continued in `resume`.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from taskloom.domain.evaluation import EvalJob
from taskloom.evals.naming import default_project, new_job_id
from taskloom.evals.recording import JobRecorder

if TYPE_CHECKING:
    from types import TracebackType

    from taskloom.domain.evaluation import Figures
    from taskloom.evals.resume import Earlier
    from taskloom.evals.run import Run
    from taskloom.wire.records import EndStatus


class Job:
    """Made by `Job.start`, by `Job.resume` or by a call of `run`.

    group          tries of each row, where a call does not say
    reward         mean over all runs that ended, failures as 0; 0.0 without any
    graded_reward  mean over the graded ones; None without any
    errors         the runs that failed, with their `error` and `boundary`
    results        the runs by the slugs of their rows
    """

    def __init__(self, value: EvalJob, recorder: JobRecorder | None, *, earlier: Earlier | None = None) -> None:
        self.value = value
        self._recorder = recorder
        self._earlier = earlier
        self.closed = False
        self.resumed = earlier is not None
        self._runs: dict[int, Run] = {}
        self._places = 0 if recorder is None else recorder.first
        self._sum = 0.0
        self._attempts = {run.position: run.attempt for run in earlier.runs} if earlier else {}
        for position, run in sorted(earlier.done().items()) if earlier else ():
            self.add(position, run, tell=False)

    @classmethod
    async def start(
        cls,
        name: str,
        group: int = 1,
        *,
        project: str = "",
        taskset: str = "",
        trained_by: str = "",
        script: Path | None = None,
    ) -> Self:
        """Open a job that spans several calls; close it, or leave a `with` block, when they are over.

        project: where it stands; by default the setting `evals.project`, else one that is called like `taskset` or
        `name`. trained_by: id of the task that made the evaluated model. script: the file that is told as its code, by
        default the one that Python was started with. ValueError for a name or project that cannot be one, or a `group`
        below 1.
        """
        if not name:
            raise ValueError("a job needs a name")
        value = EvalJob(
            id=new_job_id(),
            name=name,
            taskset=taskset,
            group=checked_group(group),
            trained_by=trained_by,
            created=time.time(),
        )
        recorder = JobRecorder.open(value, project=project or default_project(taskset or name), script=script)
        value = msgspec.structs.replace(value, expected=recorder.first)
        recorder.store_job(value, {})
        return cls(value, recorder)

    @classmethod
    async def resume(cls, id: str, *, retry_failed: bool = False) -> Self:
        """Go on with a job of the server: passed to `run`, it has what is missing or failed run, and nothing else.

        retry_failed: also runs that the agent failed and that were graded. Errors of `domain.errors` for a job that
        is not there, still runs, or lies in a journal that cannot be sent.
        """
        from taskloom.evals.resume import read_job

        earlier = await asyncio.to_thread(read_job, id, retry_failed)
        return cls(earlier.job, None, earlier=earlier)

    # --- what it is ---------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return self.value.id

    @property
    def name(self) -> str:
        return self.value.name

    @property
    def group(self) -> int:
        return self.value.group

    @property
    def runs(self) -> list[Run]:
        """Those that ended, in the order of the rows, then of the tries."""
        return [self._runs[position] for position in sorted(self._runs)]

    @property
    def reward(self) -> float:
        return self._sum / len(self._runs) if self._runs else 0.0

    @property
    def graded_reward(self) -> float | None:
        graded = [run.reward for run in self._runs.values() if run.graded]
        return sum(graded) / len(graded) if graded else None

    @property
    def errors(self) -> list[Run]:
        return [run for run in self.runs if run.status == "error"]

    @property
    def results(self) -> dict[str, list[Run]]:
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.slug, []).append(run)
        return found

    def __repr__(self) -> str:
        return f"Job({self.name!r}, {len(self._runs)} runs, reward {self.reward:.4g}, id {self.id})"

    def report(self, *, threshold: float = 1.0, level: float = 0.95) -> Figures:
        """What the runs come to, with intervals; failures of the infrastructure apart. See `domain.statistics`."""
        from taskloom.domain.statistics import summarise

        return summarise([run.value() for run in self.runs], threshold=threshold, level=level)

    def to_dataset(self, *, graded_only: bool = True) -> list[dict[str, Any]]:
        """The runs with their rewards and token samples as rows for a trainer; see `evals.formats`."""
        from taskloom.evals.formats import to_dataset

        return to_dataset(self.runs, graded_only=graded_only)

    # --- for the engine -----------------------------------------------------------------------------------

    @property
    def recorder(self) -> JobRecorder:
        """Of a resumed job from its first call on: what is refused before leaves its task as it was."""
        if self._recorder is None:
            assert self._earlier is not None, "a new job has its recorder"
            self._recorder = JobRecorder.open(self._earlier.job, project=self._earlier.project, mode="resume")
        return self._recorder

    def change(self, **changes: Any) -> None:
        """Of its receipt."""
        self.value = msgspec.structs.replace(self.value, **changes)

    def reserve(self, count: int) -> int:
        """Places for so many runs; the first one's number. A resumed job gives its first places again."""
        if self.resumed:
            self.resumed = False
            self._places = max(self._places, count)
            return 0
        first, self._places = self._places, self._places + count
        self.recorder.take_places(self._places)
        return first

    def has(self, position: int) -> bool:
        return position in self._runs

    def next_attempt(self, position: int) -> int:
        """1, or one more than what was tried before the job was resumed."""
        return self._attempts.get(position, 0) + 1

    def add(self, position: int, run: Run, *, tell: bool = True) -> None:
        """A run, or another attempt at it, ended."""
        before = self._runs.get(position)
        if before is not None:
            self._sum -= before.reward
        self._runs[position] = run
        self._places = max(self._places, position + 1)
        self._sum += run.reward
        if tell:
            self.recorder.tell(len(self._runs), self.value.expected, self.reward)

    async def recorded(self, timeout: float) -> bool:
        """Wait until the server has what was recorded so far; False when it does not in that time."""
        self.recorder.flush()
        return await asyncio.to_thread(self.recorder.wait_shipped, timeout)

    # --- the end ------------------------------------------------------------------------------------------

    async def close(
        self, status: EndStatus = "completed", *, reason: str = "", timeout: float | None = None
    ) -> None:
        """End its task, and wait, bounded, until the server has everything. Twice is once.

        timeout: seconds of that waiting, by default the setting `sdk.close_timeout_in_seconds`. What is not there by
        then is sent in the background.
        """
        if self.closed:
            return
        self.closed = True
        recorder = self._recorder
        if recorder is None:
            return  # nothing was run
        recorder.flush()

        def finish() -> None:
            recorder.end(status, reason)
            recorder.hand_over(timeout)

        await asyncio.to_thread(finish)  # it waits for what is found out of the code, and for the server

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        elif issubclass(kind, asyncio.CancelledError | KeyboardInterrupt):
            await self.close("aborted", reason="interrupted")
        else:
            await self.close("failed", reason=f"{kind.__name__}: {error}")


def checked_group(group: int) -> int:
    if isinstance(group, bool) or not isinstance(group, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"group {group!r}: expected a whole number")
    if group < 1:
        raise ValueError(f"group {group}: expected 1 or more tries of each row")
    return group
