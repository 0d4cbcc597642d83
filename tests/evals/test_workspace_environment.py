"""A workspace of a served environment: the agent works through the control port, the template grades the folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.evals.doors import opened

from taskloom.evals import Environment, Run, Runtime
from taskloom.evals.channel.client import connect
from taskloom.evals.channel.server import ControlServer

pytestmark = pytest.mark.evals


async def test_an_agent_works_in_the_shell_through_the_control_port(tmp_path: Path) -> None:
    environment = Environment("coding")
    workspace = environment.workspace(tmp_path / "root", isolation="required", guest_path="/srv/repo")

    @environment.template()
    async def fix(word: str):
        yield f"Write {word!r} into answer.txt"
        yield float(workspace.read("answer.txt").decode().strip() == word)

    await environment.start()
    server = ControlServer(environment)
    port = await server.start()
    async with connect(Runtime(f"tcp://127.0.0.1:{port}")) as client, Run(client, "fix", {"word": "blue"}) as run:
        shell = await client.binding("ssh")
        assert shell.params["cwd"] == "/srv/repo"
        async with opened(shell) as door:
            assert await door.say("pwd; echo blue > answer.txt") == "/srv/repo"
            async with door.connection.start_sftp_client() as sftp:
                assert await sftp.exists("answer.txt")
    assert run.reward == 1.0
    await server.stop()
    await environment.stop()
    with pytest.raises(RuntimeError, match="not started"):
        _ = workspace.isolation
