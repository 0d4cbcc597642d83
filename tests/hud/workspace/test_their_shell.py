"""hud's SSH client in a workspace that our environment offers, through the control port."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from taskloom.evals import Environment
from taskloom.evals.channel.server import ControlServer

SCRIPT = """
import asyncio, sys

from hud import Runtime, Task
from hud.agents.base import Agent
from hud.agents.types import AgentConfig
from hud.capabilities.ssh import SSHClient


class Writer(Agent):
    config_cls = AgentConfig

    async def __call__(self, run):
        shell = await SSHClient.connect(run.client.binding("ssh"))
        await shell.write_text("answer.txt", "blue\\n")
        assert await shell.read_text("answer.txt") == "blue\\n"
        assert await shell.listdir(".") == ["answer.txt"]
        done = await shell.run("echo $((6 * 7)); exit 3")
        assert (done.stdout, done.exit_status) == ("42\\n", 3), done
        await shell.close()
        run.trace.content = "done"


async def main():
    job = await Task(env="coding", id="fix").run(Writer(AgentConfig()), runtime=Runtime(sys.argv[1]))
    (run,) = job.runs
    print(run.reward, run.trace.status, [step.error for step in run.trace.steps if step.error])


asyncio.run(main())
"""


async def test_their_client_works_in_our_shell(hud_python: Path, tmp_path: Path) -> None:
    environment = Environment("coding")
    workspace = environment.workspace(tmp_path / "root", isolation="required")

    @environment.template()
    async def fix():
        yield "Write blue into answer.txt"
        yield float(workspace.read("answer.txt") == b"blue\n")

    await environment.start()
    server = ControlServer(environment)
    port = await server.start()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HUD_", "TASKLOOM_"))}
    off = {"HUD_TELEMETRY_ENABLED": "false", "HOME": str(tmp_path)}
    process = await asyncio.create_subprocess_exec(
        hud_python, "-c", SCRIPT, f"tcp://127.0.0.1:{port}",
        env={**kept, **off}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 240)
    await server.stop()
    await environment.stop()
    assert out.decode().strip() == "1.0 completed []", err.decode()
