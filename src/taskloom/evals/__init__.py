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
    from taskloom.domain.evaluation import Grade, Step, TokenSample, Usage
    from taskloom.evals.agents.anthropic import AnthropicAgent
    from taskloom.evals.agents.cache import ModelCache
    from taskloom.evals.agents.contract import Agent
    from taskloom.evals.agents.gemini import GeminiAgent
    from taskloom.evals.agents.openai_chat import OpenAIAgent
    from taskloom.evals.agents.openai_responses import OpenAIResponsesAgent
    from taskloom.evals.agents.prices import Prices
    from taskloom.evals.agents.replay import ReplayAgent
    from taskloom.evals.agents.scripted import ScriptedAgent
    from taskloom.evals.capabilities import Capability
    from taskloom.evals.channel.client import connect
    from taskloom.evals.chat import Chat
    from taskloom.evals.environment.declaration import Environment
    from taskloom.evals.job import Job
    from taskloom.evals.limits import Limits
    from taskloom.evals.results import Answer, EvaluationResult, SubScore
    from taskloom.evals.run import Run
    from taskloom.evals.runtimes.container import DockerRuntime
    from taskloom.evals.runtimes.contract import Runtime
    from taskloom.evals.runtimes.hosted import HostedRuntime
    from taskloom.evals.runtimes.inprocess import InProcessRuntime
    from taskloom.evals.runtimes.leased import HUDRuntime, LeasedRuntime
    from taskloom.evals.runtimes.local import LocalRuntime
    from taskloom.evals.runtimes.shared import Shared
    from taskloom.evals.task import Task
    from taskloom.evals.taskset import Taskset
    from taskloom.evals.trace import Trace
    from taskloom.evals.workspace import Mount, Workspace

_PLACES = {
    "Agent": "taskloom.evals.agents.contract",
    "Answer": "taskloom.evals.results",
    "AnthropicAgent": "taskloom.evals.agents.anthropic",
    "Capability": "taskloom.evals.capabilities",
    "Chat": "taskloom.evals.chat",
    "DockerRuntime": "taskloom.evals.runtimes.container",
    "Environment": "taskloom.evals.environment.declaration",
    "EvaluationResult": "taskloom.evals.results",
    "GeminiAgent": "taskloom.evals.agents.gemini",
    "Grade": "taskloom.domain.evaluation",
    "HUDRuntime": "taskloom.evals.runtimes.leased",
    "HostedRuntime": "taskloom.evals.runtimes.hosted",
    "InProcessRuntime": "taskloom.evals.runtimes.inprocess",
    "Job": "taskloom.evals.job",
    "LeasedRuntime": "taskloom.evals.runtimes.leased",
    "Limits": "taskloom.evals.limits",
    "LocalRuntime": "taskloom.evals.runtimes.local",
    "ModelCache": "taskloom.evals.agents.cache",
    "Mount": "taskloom.evals.workspace",
    "OpenAIAgent": "taskloom.evals.agents.openai_chat",
    "OpenAIResponsesAgent": "taskloom.evals.agents.openai_responses",
    "Prices": "taskloom.evals.agents.prices",
    "ReplayAgent": "taskloom.evals.agents.replay",
    "Run": "taskloom.evals.run",
    "Runtime": "taskloom.evals.runtimes.contract",
    "ScriptedAgent": "taskloom.evals.agents.scripted",
    "Shared": "taskloom.evals.runtimes.shared",
    "Step": "taskloom.domain.evaluation",
    "SubScore": "taskloom.evals.results",
    "Task": "taskloom.evals.task",
    "Taskset": "taskloom.evals.taskset",
    "TokenSample": "taskloom.domain.evaluation",
    "Trace": "taskloom.evals.trace",
    "Usage": "taskloom.domain.evaluation",
    "Workspace": "taskloom.evals.workspace",
    "connect": "taskloom.evals.channel.client",
}

__all__ = [
    "Agent",
    "Answer",
    "AnthropicAgent",
    "Capability",
    "Chat",
    "DockerRuntime",
    "Environment",
    "EvaluationResult",
    "GeminiAgent",
    "Grade",
    "HUDRuntime",
    "HostedRuntime",
    "InProcessRuntime",
    "Job",
    "LeasedRuntime",
    "Limits",
    "LocalRuntime",
    "ModelCache",
    "Mount",
    "OpenAIAgent",
    "OpenAIResponsesAgent",
    "Prices",
    "ReplayAgent",
    "Run",
    "Runtime",
    "ScriptedAgent",
    "Shared",
    "Step",
    "SubScore",
    "Task",
    "Taskset",
    "TokenSample",
    "Trace",
    "Usage",
    "Workspace",
    "connect",
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
