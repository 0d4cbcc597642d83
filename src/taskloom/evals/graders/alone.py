"""A run without an environment, so that an agent can be asked something beside an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskloom.domain.evaluation import Step
from taskloom.evals.agents.contract import Agent
from taskloom.evals.capabilities import Capability
from taskloom.evals.failures import EnvironmentFailure
from taskloom.evals.run import Run


async def run_alone(agent: Agent, prompt: str) -> Any:
    """What the agent answers. Nothing is recorded elsewhere; its exceptions go on."""
    run = Run(_Nothing(), "ask")
    run.prompt = prompt
    run.record(Step(source="user", messages=tuple(run.prompt_messages)))
    await agent(run)
    return run.trace.content


class _Nothing:
    """A control session that offers nothing."""

    session_id = ""
    env_name = "nothing"
    env_version = ""
    bindings: Sequence[Capability] = ()

    async def binding(self, reference: str) -> Capability:
        raise ValueError(f"no capability {reference!r}: this run has no environment")

    async def list_tasks(self) -> list[dict[str, Any]]:
        return []

    async def start(self, template: str, args: dict[str, Any]) -> dict[str, Any]:
        raise EnvironmentFailure("this run has no environment")

    async def grade(self, answer: Any) -> dict[str, Any]:
        raise EnvironmentFailure("this run has no environment")

    async def cancel(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def abort(self) -> None:
        pass
