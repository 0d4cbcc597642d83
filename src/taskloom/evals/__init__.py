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
    from taskloom.evals.formats import read_log, to_dataset, write_log
    from taskloom.evals.graders import (
        BashGrader,
        Grader,
        LLMJudgeGrader,
        ShellGrader,
        combine,
        combine_all,
        combine_any,
        grader,
    )
    from taskloom.evals.limits import Limits
    from taskloom.evals.results import Answer, EvaluationResult, SubScore
    from taskloom.evals.run import Run
    from taskloom.evals.runtimes.contract import Runtime
    from taskloom.evals.task import Task
    from taskloom.evals.trace import Trace

_PLACES = {
    "Answer": "taskloom.evals.results",
    "BashGrader": "taskloom.evals.graders",
    "Capability": "taskloom.evals.capabilities",
    "EvaluationResult": "taskloom.evals.results",
    "Grade": "taskloom.domain.evaluation",
    "Grader": "taskloom.evals.graders",
    "LLMJudgeGrader": "taskloom.evals.graders",
    "Limits": "taskloom.evals.limits",
    "Run": "taskloom.evals.run",
    "Runtime": "taskloom.evals.runtimes.contract",
    "ShellGrader": "taskloom.evals.graders",
    "Step": "taskloom.domain.evaluation",
    "SubScore": "taskloom.evals.results",
    "Task": "taskloom.evals.task",
    "Trace": "taskloom.evals.trace",
    "Usage": "taskloom.domain.evaluation",
    "combine": "taskloom.evals.graders",
    "combine_all": "taskloom.evals.graders",
    "combine_any": "taskloom.evals.graders",
    "grader": "taskloom.evals.graders",
    "read_log": "taskloom.evals.formats",
    "to_dataset": "taskloom.evals.formats",
    "write_log": "taskloom.evals.formats",
}

__all__ = [
    "Answer",
    "BashGrader",
    "Capability",
    "EvaluationResult",
    "Grade",
    "Grader",
    "LLMJudgeGrader",
    "Limits",
    "Run",
    "Runtime",
    "ShellGrader",
    "Step",
    "SubScore",
    "Task",
    "Trace",
    "Usage",
    "combine",
    "combine_all",
    "combine_any",
    "grader",
    "read_log",
    "to_dataset",
    "write_log",
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
