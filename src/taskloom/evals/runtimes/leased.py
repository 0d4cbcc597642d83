"""The runtime that is leased: a worker brings the environment up, the agent stays here, the server is the tunnel.

    await taskset.run(agent, runtime=LeasedRuntime(queue="gpus"))

Every run is a task of type `service` in the queue, whose process serves the environment to this run alone (see `lent`).
Its control channel arrives here as a port on the loopback interface. `HUDRuntime` is another name for it.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from taskloom.domain.errors import TaskloomError
from taskloom.domain.execution import Execution, Resources, Retries
from taskloom.domain.task import Task as QueuedTask
from taskloom.domain.task import TaskType
from taskloom.evals.failures import EnvironmentFailure, InfrastructureFailure
from taskloom.evals.naming import default_project
from taskloom.evals.runtimes.contract import Runtime
from taskloom.evals.runtimes.queued import Post, describe_end, server
from taskloom.evals.runtimes.tunnel import borrowed, held
from taskloom.evals.task import Task
from taskloom.wire import messages as m
from taskloom.wire import operations as op

ASK_SECONDS = 10.0  # of one question whether the environment is there
START_SECONDS = 240.0  # from the task's start until it serves
SAY_EVERY = 30.0  # seconds between two words about why runs wait
LONGEST_LIFE = 24 * 3600.0  # seconds of a task, whatever becomes of its run
CANDIDATES = 20  # earlier tasks of an environment that are looked at
LENDS = "taskloom.evals.runtimes.lent"  # what such a task runs
SOURCE = "source"  # folder of the task's home
log = logging.getLogger("taskloom.evals")


@dataclass(frozen=True)
class Wish:
    """What a task in the queue needs besides its source. setup: shell lines before it, such as `pip install numpy`."""

    setup: str = ""
    image: str = ""
    resources: Resources = field(default_factory=Resources)
    secrets: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()

    def execution(self, run: str, files: str, lost: int | None = None) -> Execution:
        """lost: further attempts when a worker is lost; None: as the queue has it."""
        return Execution(
            run=run,
            files=files,
            setup=self.setup,
            image=self.image,
            resources=self.resources,
            secrets=self.secrets,
            variables=dict(self.variables),
            time_limit=LONGEST_LIFE,
            retries=Retries(lost=lost),
        )


class LeasedRuntime:
    """A worker's process for each run, reached through the server.

    queue      where its tasks wait; `wait`: seconds that they may wait there for a worker
    source     Python file or folder of the environment; by default the one that the row came from, else that of the
               newest task on the server that brought the row's environment up
    setup      shell lines that the worker runs before, to install what the environment imports
    image      container image to run it in, with Python 3.11 or later
    secrets    names of secrets that its templates find in the file that TASKLOOM_SECRETS names
    project    of its tasks; by default the setting `evals.project`, else one called like the environment

    ValueError for a source where nothing is.
    """

    def __init__(
        self,
        queue: str = "default",
        source: str | Path | None = None,
        *,
        setup: str = "",
        image: str = "",
        resources: Resources | None = None,
        secrets: Sequence[str] = (),
        project: str = "",
        wait: float = 3600.0,
    ) -> None:
        self.queue, self.project, self.wait = queue, project, wait
        self.path = None if source is None else Path(source).expanduser().resolve()
        if self.path is not None and not self.path.exists():
            raise ValueError(f"LeasedRuntime(source={str(source)!r}): there is no such file or folder")
        self._wish = Wish(setup, image, resources or Resources(), tuple(secrets))
        self._say_at = 0.0

    def __repr__(self) -> str:
        return f"LeasedRuntime({self.queue!r})"

    @asynccontextmanager
    async def __call__(self, task: Task, /) -> AsyncGenerator[Runtime]:
        """InfrastructureFailure when no worker comes; EnvironmentFailure when the task ends before it serves."""
        async with server() as post:
            body = m.TaskCreate(
                id=uuid.uuid4().hex,
                name=f"environment {task.env}",
                project=self.project or default_project(task.env),
                type=TaskType.SERVICE,
                execution=await self._execution(post, task),
            )
            async with post.enqueued(body, self.queue) as end:
                await self._until_served(post, body.id, end)
                async with held(post.address, body.id), borrowed(post.address, body.id) as port:
                    yield Runtime(f"tcp://127.0.0.1:{port}", origin=f"task {body.id} in queue {self.queue}")

    async def _execution(self, post: Post, task: Task) -> Execution:
        """Of the source that is known here, else as it was brought up before. The run is lost with its worker."""
        if self.path is not None or task.source is not None:
            path = source_of(task, self.path)
            files = await post.pack([(SOURCE, folder_of(path))])
            return self._wish.execution(_command(path, task.env), files, lost=0)
        try:
            found = newest_execution((await post.client.call(op.QUERY_TASKS, earlier_tasks(task.env))).tasks)
        except TaskloomError as error:
            raise InfrastructureFailure(
                f"the server does not tell of environment {task.env!r}: {error.message}"
            ) from None
        if found is None:
            raise InfrastructureFailure(
                f"row {task.slug!r} does not know the source of environment {task.env!r}, and no worker brought it "
                "up before: say source=PATH"
            )
        wish = self._wish
        return msgspec.structs.replace(
            found,
            setup=wish.setup or found.setup,
            image=wish.image or found.image,
            secrets=wish.secrets or found.secrets,
            retries=Retries(lost=0),
        )

    async def _until_served(self, post: Post, task: str, end: asyncio.Future[QueuedTask]) -> None:
        """Says once in a while, for all runs, why they wait."""
        clock = asyncio.get_running_loop().time
        deadline, running = clock() + self.wait, False
        while not await _is_served(post, task, end):
            if end.done():
                raise EnvironmentFailure(f"it ended before it served: {describe_end(end.result())}")
            waiting = await _why_waiting(post, task)
            if not waiting and not running:
                running, deadline = True, clock() + START_SECONDS
            if waiting and clock() >= self._say_at:
                self._say_at = clock() + SAY_EVERY
                log.warning("the environment waits in queue %s: %s", self.queue, waiting)
            if clock() > deadline:
                limit = START_SECONDS if running else self.wait
                raise InfrastructureFailure(
                    f"it did not serve within {limit:g} s{f': {waiting}' if waiting else ''} (task {task})"
                )


HUDRuntime = LeasedRuntime


def earlier_tasks(env: str) -> m.TaskQuery:
    """Which tasks brought an environment up, the newest first."""
    return m.TaskQuery(
        name=f"environment {env}",
        exact_name=True,
        type=[TaskType.SERVICE],
        hidden=True,
        order_by=["-created"],
        limit=CANDIDATES,
    )


def newest_execution(tasks: Sequence[QueuedTask]) -> Execution | None:
    """The first one that has a source with it and serves it."""
    fitting = (task.execution for task in tasks if task.execution.files and LENDS in task.execution.run)
    return next(fitting, None)


async def _is_served(post: Post, task: str, end: asyncio.Future[QueuedTask]) -> bool:
    """Whether somebody listens; returns early when the task has ended."""
    asking = asyncio.create_task(post.client.call(op.GET_TUNNEL, query=m.TunnelQuery(wait=ASK_SECONDS), task=task))
    try:
        await asyncio.wait([asking, end], return_when=asyncio.FIRST_COMPLETED)
        return asking.done() and asking.result().listening
    except TaskloomError as error:
        raise InfrastructureFailure(
            f"the server does not tell whether task {task} serves: {error.message}"
        ) from None
    finally:
        asking.cancel()


async def _why_waiting(post: Post, task: str) -> str:
    """Empty when it does not wait any more."""
    try:
        return (await post.client.call(op.WAITING, task=task)).reason
    except TaskloomError:
        return ""


def source_of(task: Task, pinned: Path | None) -> Path:
    """What serves the row's environment; InfrastructureFailure when nobody said."""
    if pinned is None and task.source is None:
        raise InfrastructureFailure(
            f"row {task.slug!r} does not know the source of environment {task.env!r}: say source=PATH"
        )
    path = pinned or Path(str(task.source)).resolve()
    if not path.exists():
        raise InfrastructureFailure(f"the source of environment {task.env!r} is gone: {path}")
    return path


def folder_of(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _command(path: Path, name: str) -> str:
    """Works in the source's folder, as everywhere."""
    what = "." if path.is_dir() else path.name
    words = ["python", "-m", LENDS, "--env", name, "--", what]
    return f"cd {SOURCE} && exec {shlex.join(words)}"
