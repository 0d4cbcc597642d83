"""Environments in processes of their own: how they announce themselves, end, and fail to begin."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.evals.served_sources import ADD, serving

from taskloom.evals import Run, Runtime
from taskloom.evals.channel.client import connect
from taskloom.evals.channel.contract import ChannelLost

pytestmark = pytest.mark.evals


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "sums.py"
    path.write_text(ADD)
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_announces_its_port_on_a_line_alone_serves_and_ends_in_order(source: Path, number: int) -> None:
    with serving(str(source), folder=source.parent) as process:
        assert process.said == f"HUD_SERVE_PORT={process.port}\n".encode()
        async with connect(Runtime(process.url)) as client:
            async with Run(client, "add", {"a": 1}) as run:
                run.trace.content = "3"
            assert (run.reward, client.env_version) == (1.0, "2")
            await client.start("add", {"a": 1})  # suspended when the end comes
            assert process.end(number) == 0
        told = process.errors.read_text()
    assert "half a line, without an end" in told and "started" in told
    assert told.count("closed") == 2 and told.rindex("closed") < told.rindex("shut down")
    assert "Traceback" not in told


async def test_one_that_is_killed_while_the_agent_acts_is_a_lost_channel(source: Path) -> None:
    with serving(str(source), folder=source.parent) as process:
        async with connect(Runtime(process.url)) as client:
            await client.start("add", {"a": 1})
            gone = asyncio.Event()
            client.on_lost(lambda _: gone.set())
            process.end(signal.SIGKILL)
            await gone.wait()
            with pytest.raises(ChannelLost, match="cannot be reached again: Connection refused"):
                await client.grade("3")


async def test_a_folder_and_a_name_choose_the_environment(tmp_path: Path) -> None:
    (tmp_path / "sums.py").write_text(ADD)
    (tmp_path / "words.py").write_text("WORD = 'late'")
    (tmp_path / "late.py").write_text(
        "from taskloom.evals import Environment\nenv = Environment('late')\n"
        "@env.template()\nasync def say():\n    from words import WORD\n    yield WORD\n"
    )
    with serving(str(tmp_path), "--env", "late", folder=tmp_path) as process:
        async with connect(Runtime(process.url)) as client:
            assert await client.start("say", {}) == {"prompt": "late"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("boom = 1 / 0", "sums.py line 1: ZeroDivisionError: division by zero"),
        ("x = 1", "no environment there"),
        (ADD + "other = Environment('other')", "choose one by its name: 'sums', 'other'"),
    ],
)
def test_a_source_that_cannot_be_served_is_one_line_and_an_exit_code(source: Path, text: str, words: str) -> None:
    source.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "taskloom.evals.serving", str(source)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr and "Traceback" not in done.stderr


def test_an_initializer_that_fails_is_told_with_where_it_failed(source: Path) -> None:
    source.write_text(ADD.replace('print("started", end="")', "raise RuntimeError('no daemon')"))
    done = subprocess.run(
        [sys.executable, "-m", "taskloom.evals.serving", str(source)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "'sums' cannot be served: RuntimeError: no daemon" in done.stderr
    assert "shut down" in done.stderr


def test_a_port_that_is_taken_is_told(source: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = [str(source), "--port", str(taken.getsockname()[1])]
        done = subprocess.run(
            [sys.executable, "-m", "taskloom.evals.serving", *words], capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot be served: " in done.stderr and "in use" in done.stderr


def test_beyond_this_machine_there_is_a_warning(source: Path) -> None:
    with serving(str(source), "--host", "0.0.0.0", folder=source.parent) as process:
        process.end(signal.SIGTERM)
        assert "the channel has no authentication" in process.errors.read_text()
