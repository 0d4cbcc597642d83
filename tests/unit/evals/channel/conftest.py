"""An environment with one template of each kind that the channel's tests need, behind a real port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from tests.unit.evals.channel.peers import Served, served

from taskloom.evals import Environment


class World(Environment):
    """`events`: what its templates and hooks did. `gate`: what the slow ones wait for."""

    def __init__(self) -> None:
        super().__init__("world", version="1.2")
        self.events: list[str] = []
        self.gate = asyncio.Event()


@pytest.fixture
def world() -> World:
    world = World()

    @world.template(description="add two numbers")
    async def add(a: int, b: int = 2) -> AsyncGenerator[Any, Any]:
        try:
            answer = yield f"What is {a} + {b}?"
            yield float(answer == str(a + b))
        finally:
            world.events.append("closed")

    @world.template()
    async def slow_start(name: str = "x") -> AsyncGenerator[Any, Any]:
        try:
            world.events.append("starting")
            await world.gate.wait()
            answer = yield name
            yield 1.0 if answer == name else 0.0
        finally:
            world.events.append("closed")

    @world.template()
    async def slow_grade() -> AsyncGenerator[Any, Any]:
        try:
            yield "go"
            world.events.append("grading")
            await world.gate.wait()
            yield 1.0
        finally:
            world.events.append("closed")

    @world.template()
    async def echo(frame: Any) -> AsyncGenerator[Any, Any]:
        answer = yield frame
        yield {"score": 1, "answer": answer}

    @world.template()
    async def fails(where: str) -> AsyncGenerator[Any, Any]:
        if where == "start":
            raise RuntimeError("no world today")
        yield "go"
        raise ValueError("no grade today")

    @world.teardown
    async def note() -> None:
        world.events.append("torn down")

    return world


@pytest.fixture
async def house(world: World) -> AsyncGenerator[Served]:
    async with served(world) as house:
        yield house
