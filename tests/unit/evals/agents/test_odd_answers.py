"""Answers in which anything may be missing, null or of another kind: they are read, or refused in words."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from tests.unit.evals.agents.dialects import DIALECTS, Dialect

from taskloom.domain.evaluation import ToolResult
from taskloom.evals.agents.conversation import (
    Answered,
    ModelAnswer,
    Returned,
    Said,
    Text,
    read_blocks,
    read_prompt,
)
from taskloom.evals.agents.protocol import Ask, UnreadableAnswer
from taskloom.evals.failures import AgentFailure

ODD: tuple[Any, ...] = (None, 1, -1, 0.5, True, "x", "", [], {}, [None], [1], {"x": 1}, "[1]", "{", [[]], [{}])


def mutate(value: Any, chance: random.Random) -> Any:
    """One place of it is another thing, or is gone."""
    places: list[tuple[Any, Any]] = []

    def walk(inner: Any) -> None:
        if isinstance(inner, dict):
            places.extend((inner, key) for key in inner)
            for one in inner.values():
                walk(one)
        elif isinstance(inner, list):
            places.extend((inner, number) for number in range(len(inner)))
            for one in inner:
                walk(one)

    copy = msgspec.json.decode(msgspec.json.encode(value))
    walk(copy)
    holder, key = chance.choice(places)
    if isinstance(holder, dict) and chance.random() < 0.3:
        del holder[key]
    else:
        holder[key] = chance.choice(ODD)
    return copy


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: type(one).__name__.lower())
def test_an_odd_answer_is_read_or_refused_and_can_be_sent_back(dialect: Dialect) -> None:
    protocol = dialect.agent("m", base_url="http://127.0.0.1:1")._caller.protocol
    chance = random.Random(7)
    read = 0
    for number in range(400):
        shape = dialect.calls(("a", "add", {"a": 1}), text="t") if number % 2 else dialect.says("42")
        odd = mutate(mutate(shape, chance), chance)
        try:
            answer = protocol.read(odd)
        except UnreadableAnswer as error:
            assert str(error)
            continue
        read += 1
        assert isinstance(answer, ModelAnswer)
        msgspec.json.encode(answer.usage)
        told = tuple((call, ToolResult(({"type": "text", "text": "1"},))) for call in answer.calls)
        history = (Said("user", (Text("?"),)), Answered(answer), Returned(told))
        msgspec.json.encode(protocol.body(Ask("m", history)))
    assert read > 100


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"type": "audio", "data": "x", "mimeType": "audio/wav"}, "type 'audio' cannot be shown"),
        ({"type": "image"}, "type 'image' cannot be shown"),
        ([3], "type '' cannot be shown"),
    ],
)
def test_contents_that_models_do_not_take_are_told(content: Any, told: str) -> None:
    with pytest.raises(AgentFailure, match=told):
        read_prompt([{"role": "user", "content": content}])


def test_roles_that_models_do_not_have_are_told() -> None:
    with pytest.raises(AgentFailure, match="role 'tool': expected user, assistant or system"):
        read_prompt([{"role": "tool", "content": "x"}])


def test_resources_are_shown_as_what_they_hold() -> None:
    blocks = read_blocks(
        [
            {"type": "resource", "resource": {"uri": "file:///a", "text": "words"}},
            {"type": "resource", "resource": {"uri": "file:///b", "mimeType": "application/zip", "blob": "UEs="}},
            {"type": "resource", "resource": {"uri": "file:///c", "mimeType": "image/gif", "blob": "R0lG"}},
            {"type": "resource_link", "uri": "file:///d", "name": "d"},
        ]
    )
    assert [getattr(one, "text", None) or one.address for one in blocks] == [
        "words",
        "[application/zip resource file:///b]",
        "data:image/gif;base64,R0lG",
        "d <file:///d>",
    ]
