"""Conversations: every turn is a run with the whole history, all turns are one job."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.evals.running.stage import Journal, environment, served

from taskloom.evals import Chat, Run, Runtime, Task
from taskloom.evals.failures import AgentFailure, EnvironmentFailure


@pytest.fixture
async def talk() -> Any:
    env = environment()

    @env.template(id="talk")
    async def talk(messages: list[dict[str, Any]], greeting: str = "") -> Any:
        if messages[-1]["content"] == "be rude":
            raise ValueError("that is not polite")
        yield messages
        yield 1.0

    async with served(env) as place:
        yield place


async def echo(run: Run) -> None:
    said = [message["content"] for message in run.prompt_messages]
    if said[-1] == "fall":
        raise RuntimeError("it fell")
    run.trace.content = f"{len(said)}: {said[-1]}"


async def test_a_conversation_remembers_its_turns(journal: Journal, talk: Runtime) -> None:
    async with Chat(Task(env="stage", id="talk"), echo, talk) as chat:
        assert await chat.send("hello") == "1: hello"
        assert await chat.send("again") == "3: again"

    assert [message["content"] for message in chat.messages] == ["hello", "1: hello", "again", "3: again"]
    assert [run.slug for run in chat.runs] == ["turn-1", "turn-2"]
    assert chat.job is not None
    assert chat.job.closed
    assert len({run.job for run in journal.runs}) == 1


async def test_a_function_that_makes_rows_is_given_the_history(journal: Journal, talk: Runtime) -> None:
    def row(messages: list[dict[str, Any]]) -> Task:
        return Task(env="stage", id="talk", args={"messages": messages, "greeting": "hi"})

    async with Chat(row, echo, talk) as chat:
        await chat.send("hello")
    assert journal.runs[0].args["greeting"] == "hi"


async def test_a_turn_that_fails_raises_and_stays_in_the_history(journal: Journal, talk: Runtime) -> None:
    async with Chat(Task(env="stage", id="talk"), echo, talk) as chat:
        with pytest.raises(AgentFailure, match="it fell"):
            await chat.send("fall")
        with pytest.raises(EnvironmentFailure, match="not polite"):
            await chat.send("be rude")
        assert await chat.send("well") == "3: well"
        with pytest.raises(ValueError, match="expected a text"):
            await chat.send("")

    assert [message["role"] for message in chat.messages] == ["user", "user", "user", "assistant"]
    assert [run.slug for run in chat.runs] == ["turn-1", "turn-2", "turn-3"]
