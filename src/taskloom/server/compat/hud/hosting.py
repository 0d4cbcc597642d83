"""Environments that the server has the source of, by their names, and what workers do with them for HUD's clients.

The server has no register of environments: the newest task called `environment NAME`, as a leased runtime makes one, is
the pattern. A lease runs the same task again; a hosted run runs its code, setup, image and variables with another
command. Both belong to whoever asked, who needs its secrets.
"""

from __future__ import annotations

import shlex
import uuid
from dataclasses import dataclass

import msgspec

from taskloom.domain.errors import NotFound
from taskloom.domain.execution import Execution
from taskloom.domain.task import HIDDEN_TAG, ConfigurationObject, Task, TaskType
from taskloom.server.call import Caller
from taskloom.server.compat.hud.call import Rooms
from taskloom.wire.messages import Enqueue, TaskCreate, TaskQuery

LENDS = "taskloom.evals.runtimes.lent"  # what such a task runs, in the folder SOURCE
SOURCE = "source"
WITHIN = "taskloom.evals.runtimes.within"
CONFIGURATION = "evaluation run"  # the object that `within` reads
CANDIDATES = 20  # tasks of that name that are looked at
_GATEWAY = (
    'export OPENAI_BASE_URL="${OPENAI_BASE_URL:-$TASKLOOM_URL/hud/gateway}" '
    'OPENAI_API_KEY="${OPENAI_API_KEY:-$TASKLOOM_API_KEY}"; '
)


@dataclass(frozen=True)
class Pattern:
    """source: the file or folder of the environment, below the home of a task that runs."""

    task: Task
    source: str

    @property
    def execution(self) -> Execution:
        return self.task.execution


async def find_environment(rooms: Rooms, name: str) -> Pattern:
    query = TaskQuery(
        name=f"environment {name}",
        exact_name=True,
        type=[TaskType.SERVICE],
        hidden=True,
        order_by=["-created"],
        limit=CANDIDATES,
    )
    for task in (await rooms.tasks.query_tasks(query)).tasks:
        if task.execution.files and LENDS in task.execution.run:
            what = shlex.split(task.execution.run)[-1]
            return Pattern(task, SOURCE if what == "." else f"{SOURCE}/{what}")
    raise NotFound(
        f"this server has no source of environment {name[:80]!r}: lease it once with Taskloom's LeasedRuntime, "
        "see docs/hud.md"
    )


async def lease(rooms: Rooms, caller: Caller, name: str) -> str:
    """The id of a task that will serve the environment."""
    found = await find_environment(rooms, name)
    return await _enqueue(rooms, caller, found, f"environment {name}", TaskType.SERVICE, found.execution)


async def host(rooms: Rooms, caller: Caller, found: Pattern, order: bytes, name: str, job: str) -> str:
    """The id of a task that will do the run of the order."""
    gateway = _GATEWAY if rooms.settings.gateway_url else ""
    execution = msgspec.structs.replace(found.execution, run=f"{gateway}exec python -m {WITHIN}")
    configuration = {CONFIGURATION: ConfigurationObject(value=order.decode(), type="json")}
    return await _enqueue(rooms, caller, found, name, TaskType.TESTING, execution, job, configuration)


async def _enqueue(
    rooms: Rooms,
    caller: Caller,
    found: Pattern,
    name: str,
    kind: TaskType,
    execution: Execution,
    parent: str = "",
    configuration: dict[str, ConfigurationObject] | None = None,
) -> str:
    body = TaskCreate(
        id=uuid.uuid4().hex,
        name=name,
        project=found.task.project,
        type=kind,
        parent=parent,
        execution=execution,
        configuration=configuration or {},
        system_tags=(HIDDEN_TAG,),
    )
    made = await rooms.tasks.create_task(caller, body)
    await rooms.queues.enqueue(caller, made.id, Enqueue(queue=found.task.queue_name, create=True))
    return made.id
