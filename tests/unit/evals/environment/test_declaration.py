"""What an author declares, and the rows that come of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from taskloom.evals import Capability, Environment, Task

env = Environment("arithmetic", version="3")


@env.template()
async def add(a: int, b: int = 2, *, note: str = "") -> AsyncGenerator[Any, Any]:
    """Add two numbers.

    This line is for readers of the source.
    """
    yield f"{a} + {b}"


def test_a_template_gives_rows_and_runs_nothing() -> None:
    assert add(1).model_dump() == Task(env="arithmetic", id="add", args={"a": 1}).model_dump()
    assert add(1, b=3, note="x").args == {"a": 1, "b": 3, "note": "x"}
    assert add(1).slug == add(1).default_slug()


def test_a_row_knows_the_file_of_its_environment() -> None:
    assert add(1).source == env.source == __file__
    namespace: dict[str, Any] = {}
    exec("from taskloom.evals import Environment\nenv = Environment('prompt')", namespace)
    assert namespace["env"].source is None


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [((), {}, "'a'"), ((1,), {"c": 1}, "'c'"), ((1, 2, 3), {}, "too many"), ((1,), {"a": 2}, "'a'")],
)
def test_arguments_that_do_not_bind_are_named_at_once(args: Any, kwargs: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words) as error:
        add(*args, **kwargs)
    assert "template 'add'" in str(error.value) and "it takes (a: int, b: int = 2" in str(error.value)


def test_the_handle_looks_like_its_function() -> None:
    assert add.__name__ == "add"
    assert add.description == "Add two numbers."
    assert env.templates["add"] is add
    assert repr(add) == "<template 'add' of environment 'arithmetic'>"
    with pytest.raises(TypeError):
        env.templates["other"] = add  # type: ignore[index]


def test_only_async_generator_functions_are_templates() -> None:
    async def coroutine() -> None: ...

    def generator():
        yield 1

    for wrong in (coroutine, generator, lambda: None, 5):
        with pytest.raises(TypeError, match="expected an async generator function"):
            env.template()(wrong)  # type: ignore[arg-type]


def test_an_id_is_given_once() -> None:
    async def again():
        yield "x"

    with pytest.raises(ValueError, match="'arithmetic' already has a template 'add'"):
        env.template(id="add")(again)


def test_parameters_of_every_kind_make_flat_rows() -> None:
    other = Environment("other")

    @other.template()
    async def all_kinds(a, /, b, *rest, c=1, **more):  # type: ignore[no-untyped-def]
        yield "x"

    assert all_kinds(1, 2, 3, 4, c=5, d=6).args == {"a": 1, "b": 2, "rest": [3, 4], "c": 5, "d": 6}


def test_capabilities_are_replaced_by_name_and_looked_up() -> None:
    world = Environment(capabilities=[Capability.cdp(url="ws://one")])
    world.add_capability(Capability.rfb(url="two"))
    world.add_capability(Capability.cdp(url="ws://three"))
    assert [one.name for one in world.capabilities] == ["screen", "browser"]
    assert world.capability("browser").url == "ws://three:9222"
    with pytest.raises(KeyError, match="unknown capability 'shell'; there are: screen, browser"):
        world.capability("shell")
    with pytest.raises(TypeError, match="expected a Capability"):
        world.add_capability("ws://x")  # type: ignore[arg-type]


def test_an_environment_needs_a_name() -> None:
    assert Environment().name == "environment"
    with pytest.raises(ValueError, match="needs a name"):
        Environment("")


def test_hooks_are_async_functions() -> None:
    for register in (env.initialize, env.shutdown, env.teardown):
        with pytest.raises(TypeError, match="expected an async function"):
            register(lambda: None)  # type: ignore[arg-type,return-value]


async def test_hooks_run_in_order_once_and_back_in_reverse(caplog: pytest.LogCaptureFixture) -> None:
    world, events = Environment(), list[str]()

    @world.initialize
    async def first() -> None:
        events.append("first")
        world.add_capability(Capability.cdp(url="ws://x"))

    @world.initialize
    async def second() -> None:
        events.append("second")

    @world.shutdown
    async def last() -> None:
        events.append("last")

    @world.shutdown
    async def broken() -> None:
        raise RuntimeError("the port was gone")

    await world.stop()
    await world.start()
    await world.start()
    assert world.capability("browser")
    await world.stop()
    await world.stop()
    assert events == ["first", "second", "last"]
    assert "shutdown hook" in caplog.text and "the port was gone" in caplog.text
    await world.start()
    assert events[3:] == ["first", "second"]


async def test_when_an_initializer_fails_what_was_begun_is_shut_down() -> None:
    world, events = Environment(), list[str]()

    @world.initialize
    async def broken() -> None:
        raise RuntimeError("no port")

    @world.shutdown
    async def tidy() -> None:
        events.append("tidied")

    with pytest.raises(RuntimeError, match="no port"):
        await world.start()
    assert events == ["tidied"]
