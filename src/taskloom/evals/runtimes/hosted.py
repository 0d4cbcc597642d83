"""The runtime that takes the whole run along: a worker runs agent and environment side by side, this process follows.

    await taskset.run(agent, runtime=HostedRuntime(queue="evals", secrets=["OPENAI_API_KEY"]))

Every run is a task of type `testing` below its job; what it does stands in `within`. It records itself, through its own
task's journal, so that nothing of it passes through here and it goes on when this process does not. At its end it
is read back from the server.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
import sysconfig
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from taskloom.domain.errors import NotFound, TaskloomError
from taskloom.domain.evaluation import EvalRun, Step
from taskloom.domain.execution import Resources, Retries
from taskloom.domain.task import ConfigurationObject, TaskType
from taskloom.evals.failures import AgentFailure, InfrastructureFailure
from taskloom.evals.naming import default_project, task_name
from taskloom.evals.runtimes.leased import Wish, folder_of, source_of
from taskloom.evals.runtimes.order import AGENT, CONFIGURATION, SOURCE, Order
from taskloom.evals.runtimes.queued import Post, describe_end, server
from taskloom.evals.task import Task
from taskloom.wire import messages as m
from taskloom.wire import operations as op

if TYPE_CHECKING:
    from taskloom.evals.job import Job
    from taskloom.evals.run import Run

PAGE = 200  # steps of a trace that are asked for at once
NAMELESS = ("<locals>", "<lambda>")  # in the name of what another process cannot find


class HostedRuntime:
    """A task in a queue for each whole run.

    queue      where they wait
    source     Python file or folder of the environment; by default the one that each row came from
    secrets    names of secrets (see docs/secrets.md); agent and environment find each as a variable of that name
    setup      shell lines that the worker runs before, to install what agent and environment import
    image      container image to run in, with Python 3.11 or later
    retries    further attempts of the queue at a run that the infrastructure failed
    project    of the tasks; by default their job's

    An agent in Python travels with the folder of its file; it has to have a name there.
    """

    runs_whole = True

    def __init__(
        self,
        queue: str = "default",
        *,
        source: str | Path | None = None,
        secrets: Sequence[str] = (),
        setup: str = "",
        image: str = "",
        resources: Resources | None = None,
        retries: int = 0,
        project: str = "",
    ) -> None:
        self.queue, self.project, self._retries = queue, project, retries
        self.path = None if source is None else Path(source).expanduser().resolve()
        if self.path is not None and not self.path.exists():
            raise ValueError(f"HostedRuntime(source={str(source)!r}): there is no such file or folder")
        variables = tuple((name, f"{{{{secret.{name}}}}}") for name in secrets)
        self._wish = Wish(setup, image, resources or Resources(), (), variables)

    def __repr__(self) -> str:
        return f"HostedRuntime({self.queue!r})"

    async def run_whole(self, task: Task, agent: Any, run: Run, job: Job) -> None:
        """Have it done; `run` is then as the server has it. InfrastructureFailure when it never came to its end."""
        path = source_of(task, self.path)
        spec, folder = _travelling(agent, folder_of(path))
        order = Order(
            job=job.id,
            run=run.trace_id,
            position=run.position,
            row=task.model_dump(),
            source=f"{SOURCE}/{path.name}" if path.is_file() else SOURCE,
            agent=spec,
            agent_name=run.agent,
            model=run.model,
            group=run.group_id,
            try_number=run.try_number,
            attempt=run.attempt,
            limits=asdict(run.limits),
        )
        async with server() as post:
            folders = [(SOURCE, folder_of(path)), *([(AGENT, folder)] if folder else [])]
            body = self._body(order, job, await post.pack(folders))
            async with post.enqueued(body, self.queue) as end:
                ended = await asyncio.shield(end)
            value = await _read_run(post, run.trace_id)
            if value is None or value.status == "running" or value.task != body.id:
                raise InfrastructureFailure(f"it never came to its end: {describe_end(ended)}")
            await _fill(post, run, value)

    def _body(self, order: Order, job: Job, files: str) -> m.TaskCreate:
        execution = self._wish.execution(
            shlex.join(["exec", "python", "-m", "taskloom.evals.runtimes.within"]), files
        )
        execution = msgspec.structs.replace(execution, retries=Retries(failed=self._retries))
        text = msgspec.json.encode(order, enc_hook=str).decode()
        slug = str(order.row.get("slug", ""))
        return m.TaskCreate(
            id=uuid.uuid4().hex,
            name=task_name(f"run {order.position} {slug}"),
            project=self.project
            or job.recorder.writer.meta.project
            or default_project(job.value.taskset or job.name),
            type=TaskType.TESTING,
            parent=job.id,
            execution=execution,
            configuration={CONFIGURATION: ConfigurationObject(value=text, type="json")},
        )


def _travelling(agent: Any, source: Path) -> tuple[dict[str, Any], Path | None]:
    """The agent's spec as another machine reads it, and the folder that has to come along besides the source's."""
    from taskloom.evals.agents import spec_of

    spec = spec_of(agent)
    if spec.get("type") != "python":
        return spec, None
    config = cast("dict[str, Any]", spec.get("config") or {})
    attribute, told = str(config.get("attribute", "")), str(config.get("path", ""))
    if any(mark in attribute for mark in NAMELESS):
        raise AgentFailure(
            f"agent {attribute} has no name that another process finds: make it a function of its file"
        )
    path = Path(told)
    if path.suffix != ".py":
        return spec, _root_of(told)
    path = path.resolve()
    if path.is_relative_to(source):
        return {**spec, "config": {**config, "path": f"{SOURCE}/{path.relative_to(source).as_posix()}"}}, None
    return {**spec, "config": {**config, "path": f"{AGENT}/{path.name}"}}, path.parent


def _root_of(module: str) -> Path | None:
    """The folder from which a module is imported; None for one that is installed, here and, one hopes, there."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if not isinstance(file, str):
        return None
    path = Path(file).resolve()
    if any(path.is_relative_to(Path(place).resolve()) for place in sysconfig.get_paths().values()):
        return None
    inner = path.parent if path.stem == "__init__" else path
    return inner.parents[module.count(".")]


async def _read_run(post: Post, run: str) -> EvalRun | None:
    try:
        return await post.client.call(op.GET_RUN, run=run)
    except NotFound:
        return None
    except TaskloomError as error:
        raise InfrastructureFailure(f"the run cannot be read from the server: {error.message}") from None


async def _fill(post: Post, run: Run, value: EvalRun) -> None:
    """The run as it was there, with its steps."""
    from taskloom.evals.resume import restore

    restore(run, value)
    steps: list[Step] = []
    while True:
        try:
            query = m.StepsQuery(start=len(steps), limit=PAGE)
            page = await post.client.call(op.GET_STEPS, query=query, run=run.trace_id)
        except TaskloomError as error:
            raise InfrastructureFailure(f"the trace cannot be read from the server: {error.message}") from None
        steps += page.steps
        if not page.steps or len(steps) >= page.total:
            break
    run.trace.steps[:] = steps
    run.trace.agent_steps = sum(step.source == "agent" for step in steps)
    run.prompt = _prompt(steps)


def _prompt(steps: Sequence[Step]) -> Any:
    """As the environment gave it: a text alone is one of the user's."""
    messages = next((list(step.messages) for step in steps if step.source == "user"), None)
    if messages and len(messages) == 1 and messages[0].get("role") == "user":
        content = messages[0].get("content")
        return content if isinstance(content, str) else messages
    return messages
