"""The runtime of child processes: fresh for every run, and nothing left of it, however it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.evals.sources import alive, below, write_source

from taskloom.evals.channel.client import Client, connect
from taskloom.evals.channel.contract import ChannelLost
from taskloom.evals.failures import EnvironmentFailure
from taskloom.evals.run import Run
from taskloom.evals.runtimes import forking
from taskloom.evals.runtimes.contract import Provider
from taskloom.evals.runtimes.local import LocalRuntime
from taskloom.evals.task import Task

pytestmark = pytest.mark.evals

WORLD = Task(env="world", id="tell")
Wait = Callable[[Callable[[], object]], None]


@asynccontextmanager
async def placed(provider: Provider, task: Task = WORLD) -> AsyncIterator[Client]:
    async with provider(task) as runtime, connect(runtime) as client:
        yield client


async def told(provider: Provider, *expressions: str, task: Task = WORLD) -> list[str]:
    """The values of expressions, each told by a run of its own."""

    async def tell(expression: str) -> str:
        async with placed(provider, task) as client:
            return (await client.start("tell", {"what": expression}))["prompt"]

    return list(await asyncio.gather(*map(tell, expressions)))


async def eventually(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.02)


async def gone(pids: list[int]) -> None:
    await eventually(lambda: alive(pids) == [])


async def test_a_run_is_started_acted_in_and_graded(tmp_path: Path) -> None:
    async with placed(LocalRuntime(write_source(tmp_path / "src"))) as client:
        async with Run(client, "tell") as run:
            assert run.prompt == "say yes"
            run.trace.content = "yes"
        assert run.reward == 1.0


async def test_every_run_has_a_process_of_its_own_in_which_nothing_happened_yet(tmp_path: Path) -> None:
    provider = LocalRuntime(write_source(tmp_path / "src"))
    assert await told(provider, *["count"] * 5) == ["1"] * 5
    pids = await told(provider, *["os.getpid()"] * 5)
    assert len(set(pids)) == 5
    assert alive(map(int, pids)) == []


async def test_it_works_in_the_folder_of_its_source_and_finds_its_neighbours(tmp_path: Path) -> None:
    source = write_source(tmp_path / "src", "import neighbour\n")
    (tmp_path / "src" / "neighbour.py").write_text("word = 'hello'\n")
    (tmp_path / "src" / "late.py").write_text("word = 'later'\n")
    provider = LocalRuntime(source)
    assert await told(provider, "os.getcwd()") == [str(tmp_path / "src")]
    assert await told(provider, "neighbour.word", "__import__('late').word") == ["hello", "later"]
    assert await told(LocalRuntime(tmp_path / "src"), "os.getcwd()") == [str(tmp_path / "src")]


async def test_seeds_differ_between_runs_although_the_source_was_loaded_once(tmp_path: Path) -> None:
    provider = LocalRuntime(write_source(tmp_path / "src", "import numpy\nrandom.seed(1)\nnumpy.random.seed(1)\n"))
    dice = await told(provider, *["random.random()"] * 3, *["numpy.random.random()"] * 3)
    assert len(set(dice)) == 6


async def test_one_source_serves_rows_of_several_environments_and_a_pinned_one(tmp_path: Path) -> None:
    other = "other = Environment('other')\n@other.template(id='tell')\nasync def also(what: str = ''):\n    yield 'other'\n"
    source = write_source(tmp_path / "src", other)
    provider = LocalRuntime(source)
    assert await told(provider, "env.name") == ["world"]
    assert await told(provider, "", task=Task(env="other", id="tell")) == ["other"]
    assert await told(LocalRuntime(source, env="other"), "") == ["other"]
    with pytest.raises(EnvironmentFailure, match=r"no environment 'third' there; found: 'world', 'other'"):
        await told(provider, "", task=Task(env="third", id="tell"))


async def test_a_source_that_changed_is_loaded_again_and_one_that_did_not_is_not(tmp_path: Path) -> None:
    source = write_source(tmp_path / "src", "word, loader = 'first', os.getpid()\n")
    provider = LocalRuntime(source)
    loader, same = await told(provider, "loader", "loader")
    assert loader == same
    async with placed(provider) as client:  # one that runs meanwhile goes on
        source.write_text(source.read_text().replace("'first'", "'second'"))
        assert await told(provider, "word") == ["second"]
        assert (await client.start("tell", {"what": "word"}))["prompt"] == "first"
    await gone([int(loader)])


async def test_a_source_may_have_the_name_of_a_module_that_everybody_uses(tmp_path: Path) -> None:
    source = write_source(tmp_path / "src", name="random.py", tell="")
    source.write_text(
        "from taskloom.evals import Environment\nenv = Environment('world')\n"
        "@env.template()\nasync def tell(what: str = ''):\n    yield __file__\n    yield 1\n"
    )
    assert await told(LocalRuntime(source), "") == [str(source)]


async def test_variables_that_are_set_between_two_runs_are_seen_by_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = LocalRuntime(write_source(tmp_path / "src"))
    for value in ("first", "second"):
        monkeypatch.setenv("WORD", value)
        assert await told(provider, "os.environ['WORD']") == [value]


# --- what fails -------------------------------------------------------------------------------------------------


async def test_an_exception_of_the_source_is_told_with_its_line(tmp_path: Path) -> None:
    source = write_source(tmp_path / "src", "x = 1 / 0\n")
    for preload in (True, False):
        with pytest.raises(EnvironmentFailure, match=r"world.py line 6: ZeroDivisionError: division by zero"):
            await told(LocalRuntime(source, preload=preload), "")
    source.write_text("def broken(:\n")
    with pytest.raises(EnvironmentFailure, match=r"world.py line 1: SyntaxError"):
        await told(LocalRuntime(source), "")


async def test_a_hook_that_raises_before_serving_is_told_with_its_line_and_the_last_output(tmp_path: Path) -> None:
    hook = "@env.initialize\nasync def begin():\n    print('getting ready')\n    raise OSError('no database')\n"
    with pytest.raises(EnvironmentFailure, match=r"(?s)world.py line 9: OSError: no database.*getting ready"):
        await told(LocalRuntime(write_source(tmp_path / "src", hook)), "")


@pytest.mark.parametrize("preload", [True, False])
async def test_a_process_that_dies_while_its_source_loads_is_told_with_its_end_and_last_lines(
    tmp_path: Path, preload: bool
) -> None:
    source = write_source(tmp_path / "src", "print('last words', flush=True)\nos._exit(3)\n")
    with pytest.raises(EnvironmentFailure, match=r"(?s)ended with exit code 3.*last words"):
        await told(LocalRuntime(source, preload=preload), "")


async def test_a_process_that_is_killed_before_it_serves_is_told_by_its_signal(tmp_path: Path) -> None:
    hook = "@env.initialize\nasync def begin():\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    with pytest.raises(EnvironmentFailure, match=r"killed by signal 9 before it served"):
        await told(LocalRuntime(write_source(tmp_path / "src", hook)), "")


async def test_a_process_that_dies_in_the_middle_says_how_when_the_line_breaks(tmp_path: Path) -> None:
    provider = LocalRuntime(write_source(tmp_path / "src"))
    with pytest.raises(ChannelLost, match=r"(?s)process ended with exit code 7.*goodbye"):
        await told(provider, "print('goodbye', flush=True) or os._exit(7)")
    assert await told(provider, "count") == ["1"]  # the next one is none the worse


@pytest.mark.parametrize("where", ["", "@env.initialize\nasync def begin():\n    "])
async def test_a_start_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.setattr(forking, "START_SECONDS", 2.0)
    monkeypatch.setattr(forking, "HURRY_SECONDS", 0.1)
    before = set(below())
    source = write_source(tmp_path / "src", f"{where}time.sleep(3600)\n")
    with pytest.raises(EnvironmentFailure, match=r"within 2 s"):
        await told(LocalRuntime(source), "")
    zygotes = set(below()) - before
    assert len(zygotes) <= 1


async def test_a_flood_of_output_neither_stops_a_run_nor_fills_memory(tmp_path: Path) -> None:
    flood = "[sys.stdout.write('x' * 99 + '\\n') for _ in range(200_000)] and sys.stdout.flush() or 'done'"
    provider = LocalRuntime(write_source(tmp_path / "src"))
    assert await told(provider, flood) == ["done"]
    with pytest.raises(ChannelLost) as lost:
        await told(provider, f"{flood} and os._exit(1)")
    assert len(str(lost.value).splitlines()) == 51


# --- nothing is left --------------------------------------------------------------------------------------------

STARTER = """
def leave(*, die=False):
    "A process of another session that ignores SIGTERM, whose parent has gone."
    code = "import os, signal, time; signal.signal(15, signal.SIG_IGN); os.setsid(); print(os.getpid(), flush=True); time.sleep(3600)"
    middle = subprocess.Popen([sys.executable, "-c", f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {code!r}])"], stdout=subprocess.PIPE)
    pid = int(middle.stdout.readline())
    middle.wait()
    Path("pid").write_text(str(pid))
    if die:
        os.kill(os.getpid(), signal.SIGKILL)
    return pid
"""


async def test_what_a_run_started_ends_with_it_however_it_hid(tmp_path: Path) -> None:
    provider = LocalRuntime(write_source(tmp_path / "src", STARTER))
    async with placed(provider) as client:
        pid = int((await client.start("tell", {"what": "leave()"}))["prompt"])
        assert alive([pid]) == [pid]
    assert alive([pid]) == []
    with pytest.raises(ChannelLost):
        await told(provider, "leave(die=True)")
    assert alive([int((tmp_path / "src" / "pid").read_text())]) == []


async def test_a_run_that_is_cancelled_at_any_moment_leaves_nothing(tmp_path: Path) -> None:
    provider = LocalRuntime(write_source(tmp_path / "src", STARTER))
    await told(provider, "1")
    before = set(below())
    for moment in (0.0, 0.001, 0.003, 0.006, 0.01, 0.02, 0.05, 0.2):
        running = asyncio.create_task(told(provider, "leave()", "asyncio.sleep(0)"))
        await asyncio.sleep(moment)
        running.cancel()
        await asyncio.wait([running])
    await gone(sorted(set(below()) - before))


async def test_an_environment_that_ignores_the_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking, "GRACE_SECONDS", 0.2)
    hook = "@env.shutdown\nasync def end():\n    time.sleep(3600)\n"
    pid = int((await told(LocalRuntime(write_source(tmp_path / "src", hook)), "os.getpid()"))[0])
    assert alive([pid]) == []


async def test_shutdown_hooks_and_exit_handlers_run(tmp_path: Path) -> None:
    more = (
        "import atexit\n"
        "@env.initialize\nasync def begin():\n    atexit.register(Path('atexit').touch)\n"
        "@env.shutdown\nasync def end():\n    Path('shutdown').touch()\n"
    )
    await told(LocalRuntime(write_source(tmp_path / "src", more)), "1")
    assert {path.name for path in (tmp_path / "src").iterdir()} >= {"atexit", "shutdown"}


OWNER = """
import asyncio, sys
from taskloom.evals.runtimes.local import LocalRuntime
from taskloom.evals.channel.client import connect
from taskloom.evals.task import Task

async def one(provider):
    async with provider(Task(env="world", id="tell")) as runtime, connect(runtime) as client:
        await client.start("tell", {"what": "leave()"})
        print(client.env_name, flush=True)
        await asyncio.sleep(3600)

async def main():
    provider = LocalRuntime(sys.argv[1])
    await asyncio.gather(*(one(provider) for _ in range(3)))

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_an_owner_that_is_killed(tmp_path: Path, number: int, eventually: Wait) -> None:
    import psutil

    source = write_source(tmp_path / "src", STARTER)
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(source)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert owner.stdout is not None
    for _ in range(3):
        assert owner.stdout.readline() == b"world\n"
    pids = [process.pid for process in psutil.Process(owner.pid).children(recursive=True)]
    assert len(pids) >= 7  # the parent, three runs, what each left behind
    os.kill(owner.pid, number)
    owner.wait(30)
    eventually(lambda: alive(pids) == [])


async def test_a_parent_that_is_asked_to_end_takes_its_runs_along_and_the_next_run_has_another_one(
    tmp_path: Path,
) -> None:
    provider = LocalRuntime(write_source(tmp_path / "src", f"{STARTER}\nloader = os.getpid()\n"))
    for number in (signal.SIGTERM, signal.SIGKILL):
        with pytest.raises(ChannelLost, match="was lost with its parent process"):
            async with placed(provider) as client:
                what = "(loader, leave())" if number == signal.SIGTERM else "(loader,)"
                pids = [*eval((await client.start("tell", {"what": what}))["prompt"])]
                os.kill(pids[0], number)
                await client.start("tell", {"what": "time.sleep(3600)"})
        await gone(pids)
    assert await told(provider, "count") == ["1"]


def test_a_parent_ends_with_its_event_loop_and_the_next_loop_has_its_own(tmp_path: Path) -> None:
    provider = LocalRuntime(write_source(tmp_path / "src", "loader = os.getpid()\n"))
    before = set(below())
    first = asyncio.run(told(provider, "loader"))
    assert set(below()) == before
    assert asyncio.run(told(provider, "loader")) != first
    assert set(below()) == before


# --- sources that cannot be shared ------------------------------------------------------------------------------


async def test_a_source_that_starts_threads_or_processes_is_loaded_by_every_run_and_that_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    thread = "threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\nloader = os.getpid()\n"
    provider = LocalRuntime(write_source(tmp_path / "src", thread))
    for _ in range(2):
        assert await told(provider, "loader == os.getpid()", "threading.active_count()") == ["True", "2"]
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / 'src' / 'world.py'} starts threads when it is loaded: it is loaded anew for every run"
    ]
    process = "child = subprocess.Popen(['sleep', '3600'])\nloader = os.getpid()\n"
    provider = LocalRuntime(write_source(tmp_path / "other", process))
    pid = int((await told(provider, "child.pid if loader == os.getpid() else 0"))[0])
    assert pid and alive([pid]) == []


async def test_without_preload_the_source_is_loaded_by_every_run(tmp_path: Path) -> None:
    provider = LocalRuntime(write_source(tmp_path / "src", "loader = os.getpid()\n"), preload=False)
    assert await told(provider, "loader == os.getpid()", "loader == os.getpid()") == ["True", "True"]


def test_a_path_where_nothing_is_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such file or folder"):
        LocalRuntime(tmp_path / "nothing.py")
