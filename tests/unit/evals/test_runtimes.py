"""Runtimes without processes: live environments, sources, shared substrates, and providers that are plain functions."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from taskloom.evals.channel.client import Client, connect
from taskloom.evals.channel.contract import ChannelLost
from taskloom.evals.environment.declaration import Environment
from taskloom.evals.failures import EnvironmentFailure
from taskloom.evals.runtimes.contract import Provider, Runtime
from taskloom.evals.runtimes.inprocess import InProcessRuntime
from taskloom.evals.runtimes.shared import Shared
from taskloom.evals.task import Task

ROW = Task(env="world", id="say")


def world(name: str = "world") -> tuple[Environment, list[str]]:
    """An environment, and what happened to it."""
    env, seen = Environment(name), list[str]()

    @env.initialize
    async def begin() -> None:
        seen.append("begin")

    @env.shutdown
    async def end() -> None:
        seen.append("end")

    @env.template()
    async def say(word: str = "hello") -> AsyncIterator[object]:
        seen.append(word)
        answer = yield f"{name} says {word}"
        yield float(answer == word)

    return env, seen


@asynccontextmanager
async def placed(provider: Provider, task: Task = ROW) -> AsyncIterator[Client]:
    async with provider(task) as runtime, connect(runtime) as client:
        yield client


async def test_a_live_environment_is_served_once_for_all_its_runs_which_are_apart() -> None:
    env, seen = world()
    provider = InProcessRuntime(env)
    async with placed(provider) as first, placed(provider) as second:
        await first.start("say", {"word": "one"})
        await second.start("say", {"word": "two"})
        assert (await first.grade("one"))["score"] == (await second.grade("two"))["score"] == 1.0
    assert seen == ["begin", "one", "two"]


def test_a_live_environment_is_ended_with_its_event_loop_and_can_be_served_by_the_next() -> None:
    env, seen = world()

    async def once() -> None:
        async with placed(InProcessRuntime(env)) as client:
            await client.start("say", {})

    for _ in range(2):
        asyncio.run(once())
    assert seen == ["begin", "hello", "end"] * 2


def test_nothing_keeps_an_event_loop_that_has_come_to_its_end() -> None:
    env, _ = world()

    async def once() -> weakref.ref[asyncio.AbstractEventLoop]:
        async with placed(InProcessRuntime(env)):
            return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(once())
    gc.collect()
    assert loop() is None


async def test_a_source_is_executed_anew_for_each_run(tmp_path: Path) -> None:
    source = tmp_path / "world.py"
    source.write_text(
        "from taskloom.evals import Environment\nenv = Environment('world')\ncount = 0\n"
        "@env.template()\nasync def say():\n    global count\n    count += 1\n    yield str(count)\n    yield 1\n"
    )
    provider = InProcessRuntime(source)
    for _ in range(2):
        async with placed(provider) as client:
            assert (await client.start("say", {}))["prompt"] == "1"
    with pytest.raises(EnvironmentFailure, match="no environment 'other' there"):
        async with placed(provider, Task(env="other", id="say")):
            pass
    source.write_text("1 / 0\n")
    with pytest.raises(EnvironmentFailure, match="line 1: ZeroDivisionError"):
        async with placed(provider):
            pass
    with pytest.raises(ValueError, match="there is no such file or folder"):
        InProcessRuntime(tmp_path / "nothing.py")


async def test_a_hook_that_raises_is_the_environments_failure() -> None:
    env = Environment("world")

    @env.initialize
    async def begin() -> None:
        raise OSError("no database")

    with pytest.raises(EnvironmentFailure, match="'world' cannot be started: OSError: no database"):
        async with placed(InProcessRuntime(env)):
            pass


async def test_any_function_that_gives_a_context_places_rows_of_mixed_environments() -> None:
    served = {name: InProcessRuntime(world(name)[0]) for name in ("earth", "mars")}

    @asynccontextmanager
    async def place(task: Task) -> AsyncIterator[Runtime]:
        async with served[task.env](task) as runtime:
            yield runtime

    for name in served:
        async with placed(place, Task(env=name, id="say")) as client:
            assert (await client.start("say", {}))["prompt"] == f"{name} says hello"


# --- shared -----------------------------------------------------------------------------------------------------


class Counted:
    """A provider that serves environments here and counts what was brought up and taken down."""

    def __init__(self) -> None:
        self.up = self.down = 0

    @asynccontextmanager
    async def __call__(self, task: Task, /) -> AsyncIterator[Runtime]:
        async with InProcessRuntime(world(task.env)[0])(task) as runtime:
            self.up += 1
            try:
                yield runtime
            finally:
                self.down += 1


async def test_a_shared_substrate_is_brought_up_by_the_first_run_and_taken_down_at_the_end() -> None:
    counted = Counted()
    async with Shared(counted, width=2) as shared:
        assert counted.up == 0
        for _ in range(3):
            async with placed(shared) as client:
                await client.start("say", {})
        async with placed(shared, Task(env="other", id="say")):
            pass
        assert (counted.up, counted.down) == (2, 0)
    assert (counted.up, counted.down) == (2, 2)


async def test_at_most_width_runs_share_it_at_once() -> None:
    async with Shared(Counted(), width=2) as shared, AsyncExitStack() as held:
        await held.enter_async_context(shared(ROW))
        second = await held.enter_async_context(shared(ROW))
        third = asyncio.create_task(held.enter_async_context(shared(ROW)))
        done, _ = await asyncio.wait([third], timeout=0.05)
        assert not done
        await held.pop_all().aclose()
        assert (await third).url == second.url


async def test_a_substrate_that_was_lost_is_brought_up_anew() -> None:
    counted = Counted()
    async with Shared(counted) as shared:
        with pytest.raises(ChannelLost):
            async with shared(ROW):
                raise ChannelLost("the line broke")
        with pytest.raises(RuntimeError):  # the agent's own affair
            async with shared(ROW):
                raise RuntimeError
        async with shared(ROW):
            pass
    assert (counted.up, counted.down) == (2, 2)


async def test_a_shared_substrate_is_used_inside_its_context_and_needs_a_width() -> None:
    with pytest.raises(ValueError, match="enter it first"):
        async with Shared(Counted())(ROW):
            pass
    with pytest.raises(ValueError, match="width 0: expected at least 1"):
        Shared(Counted(), width=0)
