"""Evaluations of AI agents: environments, tasksets, graded runs.

    from taskloom.evals import Environment, Taskset

    env = Environment("arithmetic")

    @env.template()
    async def add(a: int, b: int):
        answer = yield f"What is {a} + {b}?"
        yield float(answer.strip() == str(a + b))

    job = await Taskset("sums", [add(1, 2), add(3, 4)]).run(agent)

Importing does nothing; the names below load their modules when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskloom.domain.evaluation import Grade, Step, Usage
    from taskloom.evals.capabilities import Capability
    from taskloom.evals.chat import Chat
    from taskloom.evals.environment.declaration import Environment
    from taskloom.evals.job import Job
    from taskloom.evals.limits import Limits
    from taskloom.evals.results import Answer, EvaluationResult, SubScore
    from taskloom.evals.run import Run
    from taskloom.evals.runtimes.contract import Runtime
    from taskloom.evals.task import Task
    from taskloom.evals.taskset import Taskset
    from taskloom.evals.trace import Trace
    from taskloom.evals.workspace import Mount, Workspace

_PLACES = {
    "Answer": "taskloom.evals.results",
    "Capability": "taskloom.evals.capabilities",
    "Chat": "taskloom.evals.chat",
    "Environment": "taskloom.evals.environment.declaration",
    "EvaluationResult": "taskloom.evals.results",
    "Grade": "taskloom.domain.evaluation",
    "Job": "taskloom.evals.job",
    "Limits": "taskloom.evals.limits",
    "Mount": "taskloom.evals.workspace",
    "Run": "taskloom.evals.run",
    "Runtime": "taskloom.evals.runtimes.contract",
    "Step": "taskloom.domain.evaluation",
    "SubScore": "taskloom.evals.results",
    "Task": "taskloom.evals.task",
    "Taskset": "taskloom.evals.taskset",
    "Trace": "taskloom.evals.trace",
    "Usage": "taskloom.domain.evaluation",
    "Workspace": "taskloom.evals.workspace",
}

__all__ = [
    "Answer",
    "Capability",
    "Chat",
    "Environment",
    "EvaluationResult",
    "Grade",
    "Job",
    "Limits",
    "Mount",
    "Run",
    "Runtime",
    "Step",
    "SubScore",
    "Task",
    "Taskset",
    "Trace",
    "Usage",
    "Workspace",
]


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'taskloom.evals' has no attribute {name!r}")
    value = getattr(import_module(place), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
