"""One template from its first line to its grade: arguments, prompts, answers, grades."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import BaseModel

from taskloom.evals import Answer, Environment, EvaluationResult, SubScore
from taskloom.evals.encoding import encode
from taskloom.evals.environment.open_task import OpenTask

Frame = dict[str, Any]


def told(begin: Any, *args: Any) -> asyncio.Future[Frame]:
    """What a callback is told, as a future."""
    future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()

    def tell(outcome: Frame | Exception) -> None:
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    begin(*args, tell)
    return future


async def prompt_of(template: Any, **args: Any) -> tuple[OpenTask, Frame]:
    task = OpenTask(template, args)
    return task, await told(task.start)


async def run(template: Any, answer: Any = "", **args: Any) -> Frame:
    task, _ = await prompt_of(template, **args)
    return await told(task.grade, answer)


def yielding(*values: Any, returns: Any = None, seen: list[Any] | None = None) -> Any:
    """A template that yields these."""
    env = Environment("env")

    @env.template(returns=returns)
    async def template() -> AsyncGenerator[Any, Any]:
        for value in values:
            answer = yield value
            if seen is not None:
                seen.append(answer)

    return template


class Point(BaseModel):
    x: int
    y: int = 0


class Message(BaseModel):
    role: str
    content: str


# --- prompts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "frame"),
    [
        ("text", {"prompt": "text"}),
        ("", {"prompt": ""}),
        (None, {"prompt": None}),
        ([], {"prompt": []}),
        ([{"role": "user", "content": "hi"}], {"prompt": [{"role": "user", "content": "hi"}]}),
        ((Message(role="user", content="hi"),), {"prompt": [{"role": "user", "content": "hi"}]}),
        (
            {"prompt": "x", "more": Message(role="a", content="b")},
            {"prompt": "x", "more": {"role": "a", "content": "b"}},
        ),
        ({"prompt": [Message(role="user", content="hi")]}, {"prompt": [{"role": "user", "content": "hi"}]}),
    ],
)
async def test_every_form_of_a_prompt(value: Any, frame: Frame) -> None:
    import json

    task, found = await prompt_of(yielding(value))
    assert json.loads(encode(found)) == frame
    await task.stop()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (5, "yielded 5 as its prompt"),
        ({"role": "user"}, "a dict without `prompt` .keys: role."),
        ({"prompt": 7}, "yielded 7 as its prompt"),
        ([{"role": "user"}, {"content": "x"}], "message 2 of the prompt is a dict"),
        (["hi"], "message 1 of the prompt is 'hi'"),
        (object(), "a value of type object"),
        (b"bytes", "a value of type bytes"),
    ],
)
async def test_a_prompt_that_is_no_prompt_says_what_was_expected(value: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words) as error:
        await prompt_of(yielding(value))
    assert "expected a text, None, a list of messages" in str(error.value)


async def test_a_template_without_a_yield_has_no_prompt() -> None:
    with pytest.raises(TypeError, match="ended without a prompt"):
        await prompt_of(yielding())


# --- grades -----------------------------------------------------------------------------------------------------


class Reward:
    reward = 0.25


@pytest.mark.parametrize(
    ("value", "frame"),
    [
        (0.5, {"score": 0.5}),
        (1, {"score": 1.0}),
        (True, {"score": 1.0}),
        (7, {"score": 7.0}),
        (-3, {"score": -3.0}),
        (Reward(), {"score": 0.25}),
        (np.float32(0.5), {"score": 0.5}),
        (Decimal("0.5"), {"score": 0.5}),
        ({"score": 1, "why": ["a"]}, {"score": 1, "why": ["a"]}),
        ({"score": np.float32(0.5), "why": 1}, {"score": 0.5, "why": 1}),
        (
            EvaluationResult(reward=0.5, content="half", subscores=[SubScore(name="a", value=1.0)], extra=3),
            {
                "score": 0.5,
                "done": True,
                "content": "half",
                "info": {},
                "isError": False,
                "subscores": [{"name": "a", "value": 1.0, "weight": 1.0, "children": None, "info": None}],
                "extra": 3,
            },
        ),
    ],
)
async def test_every_form_of_a_grade(value: Any, frame: Frame) -> None:
    assert await run(yielding("go", value)) == frame


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), -float("inf"), 10**400, None, "1.0", [], {}, {"score": None}, {"score": "1"},
     {"score": float("nan")}, {"reward": 1}, object()],
)  # fmt: skip
async def test_a_grade_that_is_no_grade_says_what_was_expected(value: Any) -> None:
    with pytest.raises(TypeError, match="expected a finite number, an EvaluationResult, or a dict with"):
        await run(yielding("go", value))


async def test_one_yield_grades_with_nothing() -> None:
    assert await run(yielding("go")) == {"score": 0.0}


async def test_a_third_yield_is_never_reached() -> None:
    seen: list[Any] = []
    assert await run(yielding("go", 1.0, 2.0, seen=seen), "answer") == {"score": 1.0}
    assert seen == ["answer"]


# --- answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["text", None, 3, {"a": [1]}, ""])
async def test_an_answer_comes_as_it_is(answer: Any) -> None:
    seen: list[Any] = []
    await run(yielding("go", 1.0, seen=seen), answer)
    assert seen == [answer]


@pytest.mark.parametrize(
    ("returns", "answer", "content", "raw", "parsed"),
    [
        (Point, '{"x": 1}', Point(x=1), '{"x": 1}', True),
        (Point, {"x": 1, "y": 2}, Point(x=1, y=2), '{"x":1,"y":2}', True),
        (Point, "nonsense", "nonsense", "nonsense", False),
        (Point, {"z": 1}, {"z": 1}, '{"z":1}', False),
        (Point, None, None, "", False),
        (int, "4", 4, "4", True),
        (int, "four", "four", "four", False),
        (list[int], "[1, 2]", [1, 2], "[1, 2]", True),
        (str, "plain words", "plain words", "plain words", True),
        (str, '"quoted"', "quoted", '"quoted"', True),
        (Literal["a", "b"], "a", "a", "a", True),
    ],
)
async def test_typed_answers(returns: Any, answer: Any, content: Any, raw: str, parsed: bool) -> None:
    env, seen = Environment("env"), list[Answer[Any]]()

    @env.template(returns=returns)
    async def template():
        seen.append((yield "go"))
        yield 1.0

    await run(template, answer)
    (found,) = seen
    assert isinstance(found, Answer)
    assert (found.content, found.raw, found.parsed) == (content, raw, parsed)
    assert type(found.content) is type(content)


# --- arguments --------------------------------------------------------------------------------------------------


async def test_arguments_come_as_their_annotations_have_them() -> None:
    env, seen = Environment("env"), list[Any]()

    @env.template()
    async def template(number: int, numbers: list[int], point: Point, free, loose: Any = None, more: Late = 0):  # type: ignore[no-untyped-def,name-defined]  # noqa: F821
        seen.extend([number, numbers, point, free, loose, more])
        yield "go"

    await run(template, number="4", numbers="[1,2]", point={"x": "3"}, free="5", loose="6", more="7")
    assert seen == [4, [1, 2], Point(x=3), "5", "6", "7"]
    seen.clear()
    await run(template, number="four", numbers=5, point=None, free=None)
    assert seen == ["four", 5, None, None, None, 0]  # what does not fit is passed on


async def test_arguments_of_every_kind_reach_the_function() -> None:
    env, seen = Environment("env"), list[Any]()

    @env.template()
    async def template(a: int, /, b, *rest, c=1, **more):  # type: ignore[no-untyped-def]
        seen.append((a, b, rest, c, more))
        yield "go"

    row = template(1, 2, 3, 4, c=5, d=6)
    await run(template, **row.args)
    await run(template, **template("1", b=2).args)
    assert seen == [(1, 2, (3, 4), 5, {"d": 6}), (1, 2, (), 1, {})]
    with pytest.raises(TypeError, match="missing b"):
        OpenTask(template, {"a": 1})


async def test_wrong_names_are_told_before_anything_runs() -> None:
    env, ran = Environment("env"), list[int]()

    @env.template()
    async def template(a: int, b: int):
        ran.append(1)
        yield "go"

    with pytest.raises(TypeError, match="template 'template': missing b; unknown c; it takes"):
        OpenTask(template, {"a": 1, "c": 2})
    assert ran == []


def test_the_manifest_describes_what_it_can() -> None:
    env = Environment("env")

    @env.template(input=Point, returns=list[int])
    async def template(
        model_config: int, _under: str, thing: Decimal, odd: asyncio.Lock, default: Any = object(), **more
    ):  # type: ignore[no-untyped-def]
        yield "go"

    manifest = template.manifest
    assert manifest["returns"] == {"type": "array", "items": {"type": "integer"}}
    assert manifest["input"]["properties"]["x"] == {"title": "X", "type": "integer"}
    schema = manifest["args"]
    assert schema["required"] == ["model_config", "_under", "thing", "odd"]
    assert schema["additionalProperties"] is True
    assert schema["properties"]["model_config"]["type"] == "integer"
    assert "type" not in schema["properties"]["odd"]
    encode(manifest)
    assert yielding("x").manifest["args"] == {"type": "object", "properties": {}, "additionalProperties": False}


# --- its life ---------------------------------------------------------------------------------------------------


async def test_the_end_comes_before_the_grade_and_is_run_once() -> None:
    env, events = Environment("env"), list[str]()

    @env.template()
    async def template():
        try:
            yield "go"
            yield 1.0
        finally:
            await asyncio.sleep(0)
            events.append("closed")

    @env.teardown
    async def broken() -> None:
        events.append("teardown")
        raise RuntimeError("never mind")

    task, _ = await prompt_of(template)
    assert events == []
    assert await told(task.grade, "x") == {"score": 1.0}
    await task.stop()
    assert events == ["closed", "teardown"]


async def test_what_closing_raises_is_told_in_the_log_and_the_grade_stands(
    caplog: pytest.LogCaptureFixture,
) -> None:
    env = Environment("env")

    @env.template()
    async def template():
        try:
            yield "go"
            yield 1.0
        finally:
            raise RuntimeError("cannot tidy up")

    assert await run(template) == {"score": 1.0}
    assert "cannot tidy up" in caplog.text


async def test_a_template_that_wants_to_end_the_process_only_fails() -> None:
    env = Environment("env")

    @env.template()
    async def template(where: str):
        if where == "start":
            raise SystemExit(3)
        yield "go"
        raise SystemExit(4)

    for where in ("start", "grade"):
        with pytest.raises(RuntimeError, match="SystemExit"):
            await run(template, where=where)


async def test_a_template_that_is_cancelled_from_inside_fails() -> None:
    env = Environment("env")

    @env.template()
    async def template():
        raise asyncio.CancelledError
        yield

    with pytest.raises(Exception, match="stopped before its end"):
        await prompt_of(template)


async def test_timeouts_groups_and_variables_reach_across_the_yields(caplog: pytest.LogCaptureFixture) -> None:
    env, number = Environment("env"), contextvars.ContextVar("number", default=0)

    @env.template()
    async def template():
        number.set(5)
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            beside = group.create_task(asyncio.sleep(0, "beside"))
            yield "go"
            yield {"score": number.get(), "beside": await beside}

    task, _ = await prompt_of(template)

    async def grade_elsewhere() -> Frame:
        return await told(task.grade, "x")

    assert await asyncio.create_task(grade_elsewhere()) == {"score": 5, "beside": "beside"}
    assert not caplog.records


async def test_stopped_before_its_first_line_it_never_runs() -> None:
    env, ran = Environment("env"), list[int]()

    @env.template()
    async def template():
        ran.append(1)
        yield "go"

    task = OpenTask(template, {})
    begun = told(task.start)
    await task.stop()
    with pytest.raises(Exception, match="stopped before its end"):
        await begun
    assert ran == []
    await OpenTask(template, {}).stop()  # also one that was never started
