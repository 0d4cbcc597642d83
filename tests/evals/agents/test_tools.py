"""Tools of a run's capabilities, against real MCP and SSH servers behind a real control channel."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.unit.evals.agents.mcp_server import ToolServer, serve_tools
from tests.unit.evals.agents.rooms import PICTURE, a_run, make_environment, steps_of, try_it
from tests.unit.evals.agents.shell_server import CONNECTIONS, keys, serve_shell

from taskloom.evals import Capability
from taskloom.evals.agents import ScriptedAgent
from taskloom.evals.agents.tools import open_tools
from taskloom.evals.agents.tools.tool import MAX_TEXT
from taskloom.evals.failures import AgentFailure, InfrastructureFailure

pytestmark = [
    pytest.mark.evals,
    pytest.mark.filterwarnings("ignore:The WebSocket server transport is deprecated"),
]


def text_of(result: Any) -> str:
    return "\n".join(block.get("text", "") for block in result.content)


@pytest.mark.parametrize("transport", ["streamable-http", "sse", "websocket"])
async def test_tools_of_an_mcp_server_are_listed_and_called(transport: Any) -> None:
    server = ToolServer()
    async with serve_tools(server, transport) as url:
        capability = Capability.mcp(url=url, transport=transport, auth_token="t0ken")
        async with a_run(make_environment("Add", capability)) as run, open_tools(run) as tools:
            forms = {form.name: form for form in tools.forms}
            assert {"add", "broken", "picture"} <= set(forms)
            assert forms["add"].description == "Add two numbers."
            assert set(forms["add"].schema["properties"]) == {"a", "b"}
            assert text_of(await tools.call("add", {"a": 40, "b": 2})) == "42"
            assert server.calls == [("add", run.trace_id)]
            assert server.headers["authorization"] == "Bearer t0ken"
            broken = await tools.call("broken", {})
            assert broken.is_error and "the disk is on fire" in text_of(broken)
            wrong = await tools.call("add", {"a": "x"})
            assert wrong.is_error
            picture = await tools.call("picture", {})
            assert picture.content[0]["data"] == PICTURE and picture.content[0]["mimeType"] == "image/png"
            flood = text_of(await tools.call("flood", {}))
            assert flood.startswith("aaa") and flood.endswith("zzz")
            assert f"[{200_000 - MAX_TEXT} characters were cut out here]" in flood


@pytest.mark.parametrize("transport", ["streamable-http", "sse", "websocket"])
@pytest.mark.parametrize("during", [True, False], ids=["during", "between"])
async def test_an_mcp_server_that_dies_is_the_infrastructures_failure(
    transport: Any, during: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskloom.evals.agents.tools.mcp.PING_EVERY", 0.1)
    server = ToolServer()
    serving = serve_tools(server, transport)
    url = await serving.__aenter__()
    async with a_run(make_environment("x", Capability.mcp(url=url, transport=transport))) as run:
        with pytest.raises(InfrastructureFailure, match="capability 'tools': the MCP server was lost"):
            async with open_tools(run) as tools:
                calling = asyncio.create_task(tools.call("forever", {})) if during else None
                if during:
                    await server.entered.wait()
                await serving.__aexit__(None, None, None)
                await (calling or tools.call("add", {"a": 1, "b": 1}))


async def test_a_server_that_is_not_there_is_the_infrastructures_failure() -> None:
    async with a_run(make_environment("x", Capability.mcp(url="http://127.0.0.1:9/mcp"))) as run:
        with pytest.raises(InfrastructureFailure, match="capability 'tools': the MCP server cannot be reached: "):
            async with open_tools(run):
                pass


async def test_a_call_that_takes_too_long_is_stopped_and_told() -> None:
    server = ToolServer()
    async with (
        serve_tools(server, "websocket") as url,
        a_run(make_environment("x", Capability.mcp(url=url))) as run,
        open_tools(run, timeout=0.05) as tools,
    ):
        result = await tools.call("forever", {})
        assert (text_of(result), result.is_error) == ("forever took longer than 0.05 s and was stopped", True)
        assert text_of(await tools.call("add", {"a": 1, "b": 1})) == "2"


async def test_a_run_that_is_cancelled_in_a_tool_closes_its_connections() -> None:
    server = ToolServer()
    async with serve_tools(server, "websocket") as url:
        agent = ScriptedAgent(steps=[{"tool": "forever"}])
        running = asyncio.create_task(try_it(agent, make_environment("x", Capability.mcp(url=url))))
        await server.entered.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("mcp ")] == []


async def test_a_shell_runs_commands_and_keeps_files(tmp_path: Path) -> None:
    async with (
        serve_shell(tmp_path) as shell,
        a_run(make_environment("x", shell)) as run,
        open_tools(run) as tools,
    ):
        assert [form.name for form in tools.forms] == ["shell", "read_file", "write_file", "list_files"]
        done = await tools.call("shell", {"command": "echo out; echo err >&2; exit 3"})
        assert (text_of(done), done.is_error) == ("out\n[stderr]\nerr\n[exit code 3]", True)
        told = await tools.call("write_file", {"path": "src/a.txt", "content": "grüße\n"})
        assert text_of(told) == "wrote 8 bytes to src/a.txt"
        await tools.call("write_file", {"path": "src/a.txt", "content": "more", "append": True})
        assert (tmp_path / "src/a.txt").read_text("utf-8") == "grüße\nmore"
        done = await tools.call("shell", {"command": "cat src/a.txt"})
        assert (text_of(done), done.is_error) == ("grüße\nmore\n[exit code 0]", False)
        assert text_of(await tools.call("read_file", {"path": "src/a.txt"})) == "grüße\nmore"
        part = await tools.call("read_file", {"path": "src/a.txt", "offset": 8, "limit": 2})
        assert text_of(part) == "mo\n[2 more bytes from offset 10 on]"
        assert text_of(await tools.call("list_files", {})) == "src/"
        assert text_of(await tools.call("list_files", {"path": "src"})) == "a.txt  12"


async def test_what_a_shells_tools_cannot_do_is_told_to_the_model(tmp_path: Path) -> None:
    async with (
        serve_shell(tmp_path) as shell,
        a_run(make_environment("x", shell)) as run,
        open_tools(run) as tools,
    ):
        for name, arguments, told in [
            ("read_file", {"path": "none.txt"}, "read_file: none.txt: "),
            ("read_file", {"path": "."}, "read_file: . is a folder"),
            ("read_file", {}, "read_file: path: expected a text, got None"),
            ("read_file", {"path": "x", "offset": -1}, "read_file: offset: expected a number from 0 on"),
            ("list_files", {"path": "none"}, "list_files: none: "),
            ("shell", {"command": " "}, "shell: command: expected something to run"),
            ("shell", {"command": 3}, "shell: command: expected a text, got 3"),
        ]:
            result = await tools.call(name, arguments)
            assert result.is_error and text_of(result).startswith(told), name


async def test_a_command_that_takes_too_long_is_stopped_with_what_it_said(tmp_path: Path) -> None:
    async with (
        serve_shell(tmp_path) as shell,
        a_run(make_environment("x", shell)) as run,
        open_tools(run) as tools,
    ):
        result = await tools.call("shell", {"command": "echo begun; exec sleep 60", "timeout_seconds": 1})
        assert (text_of(result), result.is_error) == ("begun\n[stopped after 1 s]", True)


async def test_a_shell_that_floods_is_cut_in_its_middle(tmp_path: Path) -> None:
    command = "printf start; head -c 1000000 /dev/zero | tr '\\0' x; printf end"
    async with (
        serve_shell(tmp_path) as shell,
        a_run(make_environment("x", shell)) as run,
        open_tools(run) as tools,
    ):
        text = text_of(await tools.call("shell", {"command": command}))
    assert text.startswith("startxxx") and text.endswith("xxxend\n[exit code 0]")
    assert "were cut out here]" in text
    assert len(text) < MAX_TEXT + 200


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("shell", {"command": "echo x"}),
        ("shell", {"command": "echo $$ > pid; exec sleep 60"}),
        ("read_file", {"path": "a.txt"}),
    ],
)
async def test_a_shell_that_is_lost_is_the_infrastructures_failure(
    tool: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    async with serve_shell(tmp_path) as shell, a_run(make_environment("x", shell)) as run:
        with pytest.raises(InfrastructureFailure, match=r"(shell|files) (is|are) gone: "):
            async with open_tools(run) as tools:
                calling = asyncio.create_task(tools.call(tool, arguments))
                while "sleep" in str(arguments) and not (tmp_path / "pid").exists():
                    await asyncio.sleep(0.01)
                CONNECTIONS[-1].abort()
                await calling


async def test_a_host_with_another_key_is_not_trusted(tmp_path: Path) -> None:
    stranger = keys()[2].export_public_key().decode()
    async with serve_shell(tmp_path, host_pubkey=stranger) as shell, a_run(make_environment("x", shell)) as run:
        with pytest.raises(
            InfrastructureFailure, match=r"capability 'shell': the SSH server cannot be used: .*ey"
        ):
            async with open_tools(run):
                pass
    async with serve_shell(tmp_path, host_pubkey="") as shell, a_run(make_environment("x", shell)) as run:
        with pytest.raises(InfrastructureFailure, match="no host_pubkey"):
            async with open_tools(run):
                pass


async def test_a_client_key_may_stand_in_a_file_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    keys()[1].write_private_key(path)
    files = {"client_key": None, "client_key_path": str(path)}
    async with (
        serve_shell(tmp_path, **files) as shell,
        a_run(make_environment("x", shell)) as run,
        open_tools(run) as tools,
    ):
        assert text_of(await tools.call("shell", {"command": "echo yes"})) == "yes\n[exit code 0]"
    wrong = keys()[2].export_private_key().decode()
    async with serve_shell(tmp_path, client_key=wrong) as shell, a_run(make_environment("x", shell)) as run:
        with pytest.raises(InfrastructureFailure, match="Permission denied"):
            async with open_tools(run):
                pass


async def test_tools_are_those_of_the_chosen_capabilities(tmp_path: Path) -> None:
    server = ToolServer()
    async with serve_tools(server, "streamable-http") as url, serve_shell(tmp_path) as shell:
        browser = Capability.cdp(url="ws://127.0.0.1:9222")
        environment = make_environment("x", Capability.mcp(url=url), shell, browser)
        async with a_run(environment) as run:
            for chosen, has_add, has_shell in [
                (None, True, True),
                ((), False, False),
                (["mcp"], True, False),
                (["shell"], False, True),
                (["ssh/2", "tools"], True, True),
            ]:
                async with open_tools(run, chosen) as tools:
                    names = {form.name for form in tools.forms}
                assert ("add" in names, "shell" in names) == (has_add, has_shell), chosen
            for word, told in [("browser", "gives no tools"), ("x", "not offered here; there are: tools, shell")]:
                with pytest.raises(AgentFailure, match=told):
                    async with open_tools(run, [word]):
                        pass


async def test_recorded_tool_steps_have_the_call_and_its_result(tmp_path: Path) -> None:
    async with serve_shell(tmp_path) as shell:
        steps = ["I look.", {"tool": "shell", "arguments": {"command": "echo 42"}}, {"answer": "42"}]
        run = await try_it(ScriptedAgent(steps=steps), make_environment("x", shell))
    assert run.reward == 1.0
    (step,) = steps_of(run, "tool")
    assert (step.call.name, text_of(step.result)) == ("shell", "42\n[exit code 0]")
    assert step.started <= step.ended
