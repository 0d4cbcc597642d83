"""Agents without a model, and agents from data, from code and from the words of a command line."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.evals.agents.rooms import steps_of, try_it

from taskloom.domain.errors import BadInput
from taskloom.evals.agents import (
    AnthropicAgent,
    OpenAIAgent,
    OpenAIResponsesAgent,
    ReplayAgent,
    ScriptedAgent,
    make_agent,
    parse_agent,
    spec_of,
)
from taskloom.evals.failures import AgentFailure

JOB = "0123456789abcdef" * 2


async def solve(run: Any) -> None:
    run.trace.content = "42"


class Solver:
    async def __call__(self, run: Any) -> None:
        run.trace.content = "42"


# --- scripted ----------------------------------------------------------------------------------------------


async def test_a_scripted_answer_is_graded_and_leaves_no_step() -> None:
    run = await try_it(ScriptedAgent("42"))
    assert (run.reward, run.trace.stop_reason) == (1.0, "done")
    assert [step.source for step in run.trace.steps] == ["task", "user", "task"]


async def test_answers_are_found_by_slug_and_by_template() -> None:
    assert (await try_it(ScriptedAgent(answers={"mine": "42"}), slug="mine")).reward == 1.0
    assert (await try_it(ScriptedAgent(answers={"ask": "42"}), slug="mine")).reward == 1.0
    with pytest.raises(AgentFailure, match="no answer is scripted for 'mine'"):
        await try_it(ScriptedAgent(answers={}), slug="mine")


async def test_a_function_answers_at_once_or_later() -> None:
    async def later(run: Any) -> str:
        return run.prompt_text.split()[-3].replace("40", "42")

    assert (await try_it(ScriptedAgent(function=later))).reward == 1.0
    assert (await try_it(ScriptedAgent(function=lambda run: "42"))).reward == 1.0


async def test_steps_without_an_answer_end_with_the_last_text() -> None:
    run = await try_it(ScriptedAgent(steps=["Hm.", "42"]))
    assert run.reward == 1.0
    assert [step.content for step in steps_of(run, "agent")] == ["Hm.", "42"]


def test_a_script_is_one_of_its_kinds() -> None:
    with pytest.raises(ValueError, match="one of answer, answers, steps and function"):
        ScriptedAgent()
    with pytest.raises(ValueError, match="one of answer"):
        ScriptedAgent("42", steps=[])
    with pytest.raises(ValueError, match="step 3: expected a text"):
        ScriptedAgent(steps=[3])
    with pytest.raises(ValueError, match=r"step \[\]: expected a text"):
        ScriptedAgent(steps=[[]])


# --- specs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "agent",
    [
        ScriptedAgent("42"),
        ScriptedAgent({"any": ["json"]}, name="mine", model="m", trained_by=JOB),
        ScriptedAgent(answers={"a": "1"}),
        ScriptedAgent(
            steps=["x", {"tool": "shell", "arguments": {"command": "ls"}}, {"answer": 1}], tools=["shell"]
        ),
        ReplayAgent(JOB, tools=True),
        ReplayAgent("runs.jsonl"),
    ],
    ids=range(6),
)
def test_an_agent_is_made_again_from_its_spec(agent: Any) -> None:
    spec = json.loads(json.dumps(spec_of(agent)))
    assert spec_of(make_agent(spec)) == spec
    assert make_agent(spec).name == agent.name


async def test_a_function_is_found_again_by_file_and_name() -> None:
    spec = spec_of(solve)
    assert (spec["type"], spec["config"]["attribute"]) == ("python", "solve")
    assert Path(spec["config"]["path"]).name == "test_making.py"
    assert len(spec["config"]["digest"]) == 64
    assert (await try_it(make_agent(spec))).reward == 1.0


async def test_an_object_is_found_again_by_its_class() -> None:
    spec = spec_of(Solver())
    assert spec["config"]["attribute"] == "Solver"
    assert (await try_it(make_agent(spec))).reward == 1.0


def test_an_object_with_a_name_is_found_again_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = "class Two:\n    def __init__(self, n):\n        self.n = n\n    async def __call__(self, run):\n        pass\n"
    digests: list[str] = []
    for name, number in (("one", 1), ("other", 2)):
        (tmp_path / f"{name}.py").write_text(f"{code}solver = Two({number})\n")
        spec = spec_of(parse_agent(f"{name}.py:solver"))
        assert (spec["config"]["path"], spec["config"]["attribute"]) == (f"{name}.py", "solver")
        assert make_agent(spec).n == number
        digests.append(spec["config"]["digest"])
    assert digests[0] != digests[1]


def test_code_of_a_package_is_found_by_its_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert spec_of(json.dumps)["config"]["path"] == "json"
    assert make_agent(spec_of(json.dumps)) is json.dumps


def test_the_digest_follows_the_source(tmp_path: Path) -> None:
    digests: list[str] = []
    for number, body in enumerate(("return 1", "return 2", "return 1")):
        path = tmp_path / f"agent{number}.py"
        path.write_text(f"async def solve(run):\n    {body}\n")
        digests.append(spec_of(parse_agent(f"{path}:solve"))["config"]["digest"])
    assert digests[0] == digests[2] != digests[1]


def test_code_that_has_no_name_elsewhere_has_a_spec_and_is_not_made_again() -> None:
    for nameless in (lambda run: None, functools.partial(lambda run, x: None, x=1)):
        spec = spec_of(nameless)
        assert len(spec["config"]["digest"]) == 64
        with pytest.raises(BadInput, match="has no name that another process finds"):
            make_agent(spec)
    assert spec_of(functools.partial(solve, 1)) != spec_of(functools.partial(solve, 2))


def test_what_is_built_in_has_a_spec_without_a_digest() -> None:
    assert spec_of(print)["config"] == {"path": "builtins", "attribute": "print", "digest": ""}


def test_a_spec_that_is_none_is_refused() -> None:
    class Odd:
        def spec(self) -> Any:
            return {"type": "x", "config": {"value": object()}}

    with pytest.raises(TypeError, match=r"Odd.spec\(\) is not JSON"):
        spec_of(Odd())
    for spec, told in [
        ({}, "expected a type"),
        ({"type": "oracle"}, "expected a type"),
        ({"type": "openai", "config": {"model": "x", "mode": "x"}}, "^agent openai: got an unexpected .*'mode'"),
        ({"type": "openai", "config": {}}, "^agent openai: missing 1 .*'model'"),
        ({"type": "scripted", "config": {}}, "one of answer"),
        ({"type": "replay", "config": {"source": "x"}}, "expected the id of a job"),
        ({"type": "python", "config": {"path": "x"}}, "needs path and attribute"),
    ]:
        with pytest.raises(BadInput, match=told):
            make_agent(spec)


# --- the command line --------------------------------------------------------------------------------------


def test_a_provider_is_named_with_its_model() -> None:
    for text, model, kind in [
        ("openai", "gpt-4.1", OpenAIAgent),
        ("openai:gpt-4.1", None, OpenAIAgent),
        ("openai-responses:gpt-4.1", "gpt-4.1", OpenAIResponsesAgent),
        ("claude:gpt-4.1", None, AnthropicAgent),
    ]:
        agent = parse_agent(text, model)
        assert (type(agent), agent.model) == (kind, "gpt-4.1")
    sampling = OpenAIAgent(
        "m", base_url="http://127.0.0.1:1", samples=True, cache="folder", prices={"m": {"input": 1, "output": 2}}
    )
    assert spec_of(make_agent(spec_of(sampling))) == spec_of(sampling)
    assert parse_agent("openai:llama3:8b", base_url="http://127.0.0.1:1/v1").model == "llama3:8b"
    assert parse_agent("openai:m", temperature=0.5, system=None).spec()["config"]["temperature"] == 0.5


async def test_a_script_and_code_are_named() -> None:
    assert (await try_it(parse_agent("scripted:42"))).reward == 1.0
    here = Path(__file__)
    assert (await try_it(parse_agent(f"{here}:solve"))).reward == 1.0
    assert (await try_it(parse_agent(f"{here}:Solver"))).reward == 1.0
    assert parse_agent(f"replay:{JOB}").source == JOB
    assert parse_agent(f"{here}:Solver", "own-7b").model == "own-7b"
    assert parse_agent("taskloom.evals.agents.scripted:ScriptedAgent.spec") is ScriptedAgent.spec


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("openai", "expected a model, as openai:MODEL or with --model MODEL"),
        ("oracle", "expected openai, openai-responses"),
        ("replay:", "expected openai"),
        ("replay:job", "expected the id of a job, or a .jsonl file"),
        ("none.py:solve", "no such file: none.py"),
        ("no.such.module:solve", "cannot be imported"),
        ("json:none", "json has no 'none'"),
        ("json:__name__", "expected an async function or an agent"),
        ("json:JSONDecodeError", "cannot be made without arguments"),
    ],
)
def test_words_that_name_no_agent_are_refused(text: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        parse_agent(text)
    with pytest.raises(BadInput, match="expected one of them"):
        parse_agent("openai:a", "b")


def test_code_that_fails_when_it_is_loaded_is_told(tmp_path: Path) -> None:
    path = tmp_path / "agent.py"
    path.write_text("1 / 0\n")
    with pytest.raises(BadInput, match="ZeroDivisionError: division by zero"):
        parse_agent(f"{path}:solve")
