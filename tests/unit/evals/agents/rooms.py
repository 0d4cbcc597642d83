"""An environment that is served over a real control channel, and an agent's run in it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from taskloom.evals import Capability, Environment, Limits, Run, Runtime, Task
from taskloom.evals.channel.client import connect
from taskloom.evals.channel.server import ControlServer

PICTURE = "iVBORw0KGgo="  # what a test takes for an image


def make_environment(
    prompt: Any = "What is 40 + 2?", *capabilities: Capability, expects: str = "42"
) -> Environment:
    env = Environment("arithmetic", capabilities=list(capabilities))

    @env.template()
    async def ask():
        answer = yield prompt
        yield float(answer == expects)

    return env


@asynccontextmanager
async def a_run(
    environment: Environment,
    *,
    limits: Limits | None = None,
    agent_config: dict[str, Any] | None = None,
    slug: str | None = None,
    position: int = 0,
    try_number: int | None = None,
    args: dict[str, Any] | None = None,
) -> AsyncGenerator[Run]:
    """Begun; graded when it is left."""
    server = ControlServer(environment)
    port = await server.start()
    try:
        async with connect(Runtime(f"tcp://127.0.0.1:{port}")) as client:
            row = Task(env=environment.name, id="ask", args=args or {}, slug=slug, agent_config=agent_config)
            run = Run(client, "ask", task=row, limits=limits, position=position, try_number=try_number)
            async with run:
                yield run
    finally:
        await server.stop()


async def try_it(agent: Any, environment: Environment | None = None, **options: Any) -> Run:
    """A whole run."""
    async with a_run(environment or make_environment(), **options) as run:
        await agent(run)
    return run


def steps_of(run: Run, source: str) -> list[Any]:
    return [step for step in run.trace.steps if step.source == source]
