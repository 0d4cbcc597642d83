"""The runtime of containers, in a real podman: a fresh one for every run, and none left."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.containers import image_for_tests, python_image_for_tests
from tests.evals.sources import write_source

import taskloom
from taskloom.evals.channel.client import connect
from taskloom.evals.channel.contract import ChannelLost
from taskloom.evals.failures import EnvironmentFailure, InfrastructureFailure
from taskloom.evals.run import Run
from taskloom.evals.runtimes import container, engines
from taskloom.evals.runtimes.container import DockerRuntime
from taskloom.evals.task import Task

pytestmark = [pytest.mark.containers, pytest.mark.evals]

ROW = Task(env="world", id="tell")
PATHS = [
    str(Path(taskloom.__file__).parents[1]),
    next(path for path in sys.path if path.endswith("site-packages")),
]


def libraries() -> list[str]:
    """What compiled modules need and an image that has Python may lack."""
    import msgspec
    import pydantic_core

    modules = [str(path) for one in (msgspec, pydantic_core) for path in Path(one.__file__).parent.glob("*.so")]
    told = subprocess.run(["ldd", *modules], capture_output=True, text=True, check=True).stdout
    return sorted(set(re.findall(r"=> (/\S+)", told)))


def podman(*words: str) -> str:
    return subprocess.run(["podman", *words], capture_output=True, text=True, check=True).stdout


def ours() -> list[str]:
    return podman("ps", "--all", "--quiet", f"--filter=label={engines.LABEL}").split()


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Callable[..., DockerRuntime]]:
    """Images by their commands; Taskloom and the source are seen inside at the places that they have here."""
    made: list[str] = []

    def make(*command: str, base: str = "", run_args: tuple[str, ...] = ()) -> DockerRuntime:
        name = f"localhost/taskloom-test/eval-{tmp_path.name.replace('_', '-').lower()[-40:]}-{len(made)}:1"
        holder = podman("create", base or python_image_for_tests(), "true").strip()
        words = ", ".join(f'"{word}"' for word in command)
        export = subprocess.Popen(["podman", "export", holder], stdout=subprocess.PIPE)
        subprocess.run(
            ["podman", "import", "--quiet", f"--change=CMD [{words}]", f"--change=ENV PYTHONPATH={':'.join(PATHS)}", "-", name],
            stdin=export.stdout, check=True, capture_output=True,
        )  # fmt: skip
        export.wait()
        podman("rm", holder)
        made.append(name)
        paths = [*PATHS, *libraries()]
        seen = [f"--mount=type=bind,source={path},target={path},readonly" for path in paths]
        place = f"--mount=type=bind,source={tmp_path},target={tmp_path}"
        return DockerRuntime(name, run_args=(*seen, place, "--security-opt=label=disable", *run_args))

    yield make
    for name in made:
        podman("rmi", "--force", name)


def serving(path: Path) -> tuple[str, ...]:
    return ("python3", "-m", "taskloom.evals.serving", str(path), "--port", "8765", "--host", "0.0.0.0")


async def test_every_run_has_a_fresh_container_and_none_is_left(
    build: Callable[..., DockerRuntime], tmp_path: Path
) -> None:
    provider = build(*serving(write_source(tmp_path / "src")))

    async def once() -> tuple[str, float]:
        async with provider(ROW) as runtime, connect(runtime) as client:
            async with Run(client, "tell", {"what": "open('/fresh', 'x').close() or os.getpid()"}) as run:
                run.trace.content = "yes"
            assert len(ours()) >= 1
            return run.prompt, run.reward

    assert await asyncio.gather(once(), once()) == [("2", 1.0)] * 2 or (await once())[1] == 1.0
    assert ours() == []


async def test_an_image_that_ends_or_cannot_run_is_told_with_its_last_lines(
    build: Callable[..., DockerRuntime], tmp_path: Path
) -> None:
    broken = build(*serving(write_source(tmp_path / "src", "1 / 0\n")))
    with pytest.raises(EnvironmentFailure, match=r"(?s)exit code 1 before it served.*line 6: ZeroDivisionError"):
        async with broken(ROW):
            pass
    silent = build("sh", "-c", "echo ready; exit 4", base=image_for_tests())
    with pytest.raises(EnvironmentFailure, match=r"(?s)exit code 4 before it served.*ready"):
        async with silent(ROW):
            pass
    for provider in (build("/no/such/program"), DockerRuntime("localhost/taskloom-test/nothing:1")):
        with pytest.raises((InfrastructureFailure, EnvironmentFailure)):
            async with provider(ROW):
                pass
    assert ours() == []


async def test_one_that_never_says_its_port_is_given_up(
    build: Callable[..., DockerRuntime], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "START_SECONDS", 2.0)
    with pytest.raises(EnvironmentFailure, match="did not say HUD_SERVE_PORT=PORT within 2 s"):
        async with build("sh", "-c", "trap '' TERM; while :; do sleep 1; done", base=image_for_tests())(ROW):
            pass
    assert ours() == []


async def test_one_that_is_gone_in_the_middle_says_how(
    build: Callable[..., DockerRuntime], tmp_path: Path
) -> None:
    provider = build(*serving(write_source(tmp_path / "src")))
    with pytest.raises(ChannelLost, match=r"(?s)the container ended with exit code 7.*goodbye"):
        async with provider(ROW) as runtime, connect(runtime) as client:
            await client.start("tell", {"what": "print('goodbye', flush=True) or os._exit(7)"})
    assert ours() == []


async def test_a_run_that_is_cancelled_leaves_no_container(
    build: Callable[..., DockerRuntime], tmp_path: Path
) -> None:
    provider = build(*serving(write_source(tmp_path / "src")))

    async def run() -> None:
        async with provider(ROW):
            await asyncio.sleep(3600)

    for seconds in (0.0, 0.5, 4.0):
        running = asyncio.create_task(run())
        await asyncio.sleep(seconds)
        running.cancel()
        await asyncio.wait([running])
        assert ours() == []


OWNER = """
import asyncio, sys
from taskloom.evals.runtimes.container import DockerRuntime
from taskloom.evals.task import Task

async def main():
    async with DockerRuntime(sys.argv[1], run_args=sys.argv[2:])(Task(env="world", id="tell")):
        print("up", flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


def test_a_killed_owner_leaves_no_container(
    build: Callable[..., DockerRuntime], tmp_path: Path, eventually: Callable[[Callable[[], object]], None]
) -> None:
    provider = build(*serving(write_source(tmp_path / "src")))
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, provider.image, *provider.run_args], stdout=subprocess.PIPE
    )
    assert owner.stdout is not None and owner.stdout.readline() == b"up\n"
    assert len(ours()) == 1
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait(30)
    eventually(lambda: ours() == [])


async def test_what_even_the_supervisor_left_is_removed_by_the_next_process_and_nothing_else(
    build: Callable[..., DockerRuntime], tmp_path: Path
) -> None:
    provider = build(*serving(write_source(tmp_path / "src")))
    node, boot, _, began = engines.owner().split("/")
    for told in (
        f"{node}/{boot}/{2**22 - 1}/{began}",
        f"{node}/another boot/1/1",
        "elsewhere/x/1/1",
        engines.owner(),
    ):
        podman("create", f"--label={engines.LABEL}={told}", image_for_tests(), "true")
    assert len(ours()) == 4
    await engines.remove_leftovers(await engines.Engines().choose("podman"))
    left = [
        podman("inspect", f'--format={{{{index .Config.Labels "{engines.LABEL}"}}}}', name).strip()
        for name in ours()
    ]
    assert sorted(left) == sorted(["elsewhere/x/1/1", engines.owner()])
    podman("rm", "--force", *ours())
    async with provider(ROW):
        pass
