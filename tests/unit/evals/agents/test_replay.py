"""Replays of recorded runs: from a job in this process, and from a file. From a server: tests/evals."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.evals.agents.rooms import a_run, make_environment, steps_of, try_it
from tests.unit.evals.agents.shell_server import serve_shell

from taskloom.domain.evaluation import EvalRun, Grade, Step, ToolCall, ToolResult, Usage
from taskloom.evals import Run
from taskloom.evals.agents import ReplayAgent, ScriptedAgent
from taskloom.evals.agents.recorded import RecordedRun
from taskloom.evals.failures import AgentFailure


@dataclass
class Receipt:
    """What a replay needs of a job."""

    id: str = "a" * 32
    runs: list[Run] = field(default_factory=list)


def recorded(slug: str, answer: Any, **fields: Any) -> RecordedRun:
    grade = Grade(reward=0.0)
    told: dict[str, Any] = {"id": "b" * 32, "job": "a" * 32, "status": "completed", "grade": grade} | fields
    return RecordedRun(slug=slug, answer=answer, **told)


def write(path: Path, *runs: EvalRun) -> str:
    path.write_bytes(b"\n".join(msgspec.json.encode(run) for run in runs) + b"\n\n")
    return str(path)


async def test_the_runs_of_a_job_are_answered_again_try_by_try() -> None:
    job = Receipt()
    for number, answer in enumerate(("41", "42")):
        job.runs.append(await try_it(ScriptedAgent(answer), slug="sum", position=number, try_number=number))
    agent = ReplayAgent(job)
    again = [await try_it(agent, slug="sum", try_number=number) for number in range(2)]
    assert [run.reward for run in again] == [0.0, 1.0]
    assert again[1].trace.extra["replayed"] == job.runs[1].trace_id
    assert [run.reward for run in [await try_it(agent, slug="sum", position=1)]] == [1.0]
    with pytest.raises(AgentFailure, match=r"job a{32} has no try 3 at 'sum' to replay: it has 2"):
        await try_it(agent, slug="sum", try_number=2)
    with pytest.raises(AgentFailure, match="has no run of 'other' to replay"):
        await try_it(agent, slug="other")


async def test_a_file_of_runs_is_replayed_with_its_steps_for_nothing(tmp_path: Path) -> None:
    steps = (
        Step(source="task"),
        Step(source="user"),
        Step(source="agent", content="41?", model="m", usage=Usage(10, 2, 0, 0.5)),
        Step(source="agent", content="42", model="m", usage=Usage(20, 2, 0, 0.5)),
    )
    agent = ReplayAgent(
        write(tmp_path / "runs.jsonl", recorded("sum", "42", trace=steps, model="m", stop_reason="length"))
    )
    run = await try_it(agent, slug="sum")
    assert (run.reward, run.trace.stop_reason, run.model) == (1.0, "length", "m")
    assert [(step.content, step.cached) for step in steps_of(run, "agent")] == [("41?", True), ("42", True)]
    assert (run.trace.usage.prompt_tokens, run.trace.usage.cost_usd) == (30, 0.0)
    assert [step.source for step in run.trace.steps] == ["task", "user", "agent", "agent", "task"]


async def test_runs_that_broke_before_their_answer_are_no_tries(tmp_path: Path) -> None:
    broken = recorded("sum", None, status="error", boundary="infrastructure", grade=None)
    cancelled = recorded("sum", None, status="cancelled", grade=None, position=1)
    agent = ReplayAgent(tmp_path / "runs.jsonl")
    write(tmp_path / "runs.jsonl", broken, cancelled, recorded("sum", "42", position=2))
    assert (await try_it(agent, slug="sum", try_number=0)).reward == 1.0


async def test_an_agent_that_failed_fails_again_with_its_answer(tmp_path: Path) -> None:
    write(tmp_path / "r.jsonl", recorded("sum", "42", status="error", boundary="agent", error="it broke"))
    async with a_run(make_environment(), slug="sum") as run:
        with pytest.raises(AgentFailure, match=r"^it broke$"):
            await ReplayAgent(tmp_path / "r.jsonl")(run)
    assert run.reward == 1.0


async def test_recorded_tools_are_shown_or_called_again(tmp_path: Path) -> None:
    calls = tuple(ToolCall(name, "shell", {"command": f"echo {name}"}) for name in ("new", "same"))
    results = [ToolResult(({"type": "text", "text": f"{text}\n[exit code 0]"},)) for text in ("old", "same")]
    done = [Step(source="tool", call=call, result=result) for call, result in zip(calls, results, strict=True)]
    steps = (Step(source="agent", tool_calls=calls), *done, Step(source="agent", content="42"))
    path = write(tmp_path / "runs.jsonl", recorded("sum", "42", trace=steps))
    shown = await try_it(ReplayAgent(path), slug="sum")
    assert [step.result for step in steps_of(shown, "tool")] == results
    async with serve_shell(tmp_path) as shell:
        again = await try_it(ReplayAgent(path, tools=True), make_environment("x", shell), slug="sum")
    told = {step.call.id: (step.result.content[0]["text"], step.extra) for step in steps_of(again, "tool")}
    assert told == {"new": ("new\n[exit code 0]", {"differs": True}), "same": ("same\n[exit code 0]", {})}
    assert [step.source for step in again.trace.steps] == [
        "task",
        "user",
        "agent",
        "tool",
        "tool",
        "agent",
        "task",
    ]


async def test_a_source_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected the id of a job, or a .jsonl file"):
        ReplayAgent("job")
    with pytest.raises(AgentFailure, match=r"none.jsonl cannot be read: No such file"):
        await try_it(ReplayAgent(tmp_path / "none.jsonl"))
    (tmp_path / "bad.jsonl").write_text('\n{"id": 3}\n')
    with pytest.raises(AgentFailure, match=r"bad.jsonl, line 2: expected a run as JSON"):
        await try_it(ReplayAgent(tmp_path / "bad.jsonl"))


async def test_a_server_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TASKLOOM_URL", "http://127.0.0.1:9")
    with pytest.raises(AgentFailure, match=r"job c{32}: no answer from http://127.0.0.1:9"):
        await try_it(ReplayAgent("c" * 32))
    monkeypatch.delenv("TASKLOOM_URL")
    monkeypatch.setenv("TASKLOOM_DATA", str(tmp_path))
    with pytest.raises(AgentFailure, match="no server is known here"):
        await try_it(ReplayAgent("c" * 32))
