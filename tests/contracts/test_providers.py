"""One suite for every provider: what `providers.contract` promises, on processes and on scripts."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from taskloom.domain.execution import Resources
from taskloom.providers.contract import Launch, NoPlace, NotStarted, Provider
from taskloom.providers.dummy import DummyProvider, Script
from taskloom.providers.local import LocalProvider

SAY = ("/bin/sh", "-c", "printf hello; printf trouble >&2; exit 3")
SLEEP = ("/bin/sh", "-c", "echo begun; exec sleep 600")
STUBBORN = ("/bin/sh", "-c", "trap '' TERM; echo begun; while :; do sleep 0.1; done")
MISSING = ("/no/such/program",)

SCRIPTS = {
    SAY: Script(stdout=b"hello", stderr=b"trouble", code=3),
    SLEEP: Script(stdout=b"begun\n", seconds=None),
    STUBBORN: Script(stdout=b"begun\n", seconds=None, stubborn=True),
}


@dataclass(frozen=True)
class Rig:
    provider: Provider
    too_much: Callable[[], Provider]
    folder: Path

    def launch(self, argv: tuple[str, ...]) -> Launch:
        env = {"PATH": os.environ["PATH"]}
        return Launch(argv, self.folder, env, self.folder / "out", self.folder / "err")

    async def until_begun(self) -> None:
        while b"begun" not in (self.folder / "out").read_bytes():
            await asyncio.sleep(0.01)


@pytest.fixture(params=["local", "dummy"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    if request.param == "local":
        return Rig(LocalProvider(), LocalProvider, tmp_path)
    return Rig(DummyProvider(SCRIPTS), lambda: DummyProvider({}, full="no GPUs left"), tmp_path)


def test_a_program_writes_to_its_files_and_its_code_is_told(rig: Rig) -> None:
    async def story() -> None:
        place = await rig.provider.acquire(Resources())
        (rig.folder / "out").write_bytes(b"earlier ")
        program = await place.start(rig.launch(SAY))
        end = await program.wait()
        assert (end.code, end.signal, end.stopped) == (3, None, False)
        assert (rig.folder / "out").read_bytes() == b"earlier hello"
        assert (rig.folder / "err").read_bytes() == b"trouble"
        assert await program.wait() == end
        assert await program.stop(5) == end
        await place.release()

    asyncio.run(story())


def test_stop_ends_a_program_that_obeys(rig: Rig) -> None:
    async def story() -> None:
        place = await rig.provider.acquire(Resources())
        program = await place.start(rig.launch(SLEEP))
        await rig.until_begun()
        end = await program.stop(60)
        assert (end.code, end.signal, end.stopped) == (None, signal.SIGTERM, True)
        await place.release()

    asyncio.run(story())


def test_stop_ends_a_program_that_ignores_it(rig: Rig) -> None:
    async def story() -> None:
        place = await rig.provider.acquire(Resources())
        program = await place.start(rig.launch(STUBBORN))
        await rig.until_begun()
        end = await program.stop(0.1)
        assert (end.code, end.signal, end.stopped) == (None, signal.SIGKILL, True)
        await place.release()

    asyncio.run(story())


def test_a_second_stop_with_less_grace_hurries_the_first(rig: Rig) -> None:
    async def story() -> None:
        place = await rig.provider.acquire(Resources())
        program = await place.start(rig.launch(STUBBORN))
        await rig.until_begun()
        patient = asyncio.create_task(program.stop(3600))
        await asyncio.sleep(0)
        await program.stop(0)
        assert (await patient).signal == signal.SIGKILL

    asyncio.run(story())


def test_a_cancelled_wait_leaves_the_program_alone(rig: Rig) -> None:
    async def story() -> None:
        place = await rig.provider.acquire(Resources())
        program = await place.start(rig.launch(SLEEP))
        waiting = asyncio.create_task(program.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await rig.until_begun()
        with pytest.raises(NotStarted, match="still runs"):
            await place.start(rig.launch(SAY))
        await place.release()
        assert (await program.wait()).stopped

    asyncio.run(story())


def test_release_ends_everything_and_may_come_twice(rig: Rig) -> None:
    async def story() -> None:
        place = await rig.provider.acquire(Resources())
        program = await place.start(rig.launch(STUBBORN))
        await rig.until_begun()
        await place.release()
        await place.release()
        assert (await program.wait()).signal == signal.SIGKILL

    asyncio.run(story())


def test_a_program_that_is_not_there_is_named(rig: Rig) -> None:
    async def story() -> None:
        place = await rig.provider.acquire(Resources())
        with pytest.raises(NotStarted, match="/no/such/program"):
            await place.start(rig.launch(MISSING))
        program = await place.start(rig.launch(SAY))  # the place is still good
        assert (await program.wait()).code == 3
        await place.release()

    asyncio.run(story())


def test_a_place_that_cannot_be_given_is_refused_with_its_reason(rig: Rig) -> None:
    async def story() -> None:
        with pytest.raises(NoPlace, match="GPUs"):
            await rig.too_much().acquire(Resources(gpus=4096))

    asyncio.run(story())


ESCAPES = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
ready, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        os.write(tell, b".")
        time.sleep(600)
    os._exit(0)
os.read(ready, 1)
print("begun", flush=True)
{end}
"""


def escaped(folder: Path) -> int:
    return int((folder / "out").read_text().split()[0])


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("end", ["time.sleep(600)", "sys.exit(0)"], ids=["stopped", "ended"])
def test_local_ends_processes_that_left_the_session_and_forked_twice(tmp_path: Path, end: str) -> None:
    rig = Rig(LocalProvider(), LocalProvider, tmp_path)

    async def story() -> None:
        place = await rig.provider.acquire(Resources())
        program = await place.start(rig.launch((sys.executable, "-c", ESCAPES.format(end=end))))
        await rig.until_begun()
        if "sleep" in end:
            assert not gone(escaped(tmp_path))
            await program.stop(0.1)
        else:
            assert (await program.wait()).code == 0
        assert gone(escaped(tmp_path))
        await place.release()

    asyncio.run(story())


HOLDER = """
import asyncio, os, pathlib, sys
from taskloom.domain.execution import Resources
from taskloom.providers.contract import Launch
from taskloom.providers.local import LocalProvider

async def hold(folder, script):
    place = await LocalProvider().acquire(Resources())
    launch = Launch((sys.executable, "-c", script), folder, dict(os.environ), folder / "out", folder / "err")
    await (await place.start(launch)).wait()

asyncio.run(hold(pathlib.Path(sys.argv[1]), sys.argv[2]))
"""


def test_local_leaves_no_orphan_when_its_holder_is_killed(tmp_path: Path) -> None:
    script = ESCAPES.format(end="time.sleep(600)")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path), script])
    rig = Rig(LocalProvider(), LocalProvider, tmp_path)
    (tmp_path / "out").touch()
    asyncio.run(rig.until_begun())
    tree = psutil.Process(holder.pid).children(recursive=True)
    assert len(tree) >= 3  # the supervisor, the program, the one that escaped
    holder.kill()
    holder.wait()
    _, alive = psutil.wait_procs(tree, timeout=30)
    assert not alive
