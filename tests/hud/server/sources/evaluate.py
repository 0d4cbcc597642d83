"""Evaluate the taskset `sums` of the server: with LocalRuntime and an agent that says 3, or with the adder elsewhere."""

import asyncio
import json
import sys

from hud.agents import OpenAIChatAgent
from hud.agents.base import Agent
from hud.agents.types import AgentConfig, AgentStep

from hud import HostedRuntime, HUDRuntime, LocalRuntime, Taskset


class Three(Agent):
    config_cls = AgentConfig

    async def __call__(self, run):
        run.record(AgentStep(content="3"))
        run.trace.content = "3"


async def main(how):
    taskset = Taskset.from_api("sums")
    if how == "local":
        agent, runtime = Three(AgentConfig()), LocalRuntime("tasks.py")
    else:
        agent = OpenAIChatAgent.load({"model": "adder", "gateway": True})
        runtime = HUDRuntime() if how == "leased" else HostedRuntime(poll_interval=0.2)
    job = await taskset.run(agent, runtime=runtime, group=2)
    told = [
        {"slug": run.slug, "reward": run.reward, "status": run.trace.status, "trace": run.trace.trace_id}
        for run in job.runs
    ]
    errors = [step.error for run in job.runs for step in run.trace.steps if step.error]
    print(json.dumps({"job": job.id, "reward": job.reward, "runs": told, "errors": errors}))


asyncio.run(main(sys.argv[1]))
