"""Clients that do everything at random: afterwards every template was closed and nothing is left."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from tests.unit.evals.channel.conftest import World
from tests.unit.evals.channel.peers import Served, until

FRAMES = [
    {"method": "hello"},
    {"method": "tasks.list"},
    {"method": "tasks.start", "params": {"id": "counted", "args": {"pause": 0}}},
    {"method": "tasks.start", "params": {"id": "counted", "args": {"pause": 0.002}}},
    {"method": "tasks.start", "params": {"id": "counted"}},
    {"method": "tasks.grade", "params": {"answer": "x"}},
    {"method": "tasks.grade", "params": {"answer": "fail"}},
    {"method": "tasks.cancel"},
    {"method": "nothing"},
]
LAST = [
    b"",
    b"\n",
    b"[]\n",
    b'{"method":"tasks.start","params":{"id":"counted","args":{"pause":0}}',
    b'{"method":"bye"}\n',
]


@pytest.mark.parametrize("seed", range(2))
async def test_after_a_storm_everything_is_closed(house: Served, world: World, seed: int) -> None:
    chance, opened, closed = random.Random(seed), 0, 0

    @world.template()
    async def counted(pause: float):
        nonlocal opened, closed
        opened += 1
        try:
            await asyncio.sleep(pause)
            answer = yield "go"
            await asyncio.sleep(pause)
            yield 1 / (answer != "fail")
        finally:
            try:
                await asyncio.sleep(pause)  # a hang-up may come here, too
            finally:
                closed += 1

    async def one() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", house.port)
        for _ in range(chance.randrange(1, 6)):
            burst = [dict(chance.choice(FRAMES)) for _ in range(chance.randrange(1, 5))]
            for frame in burst:
                if chance.random() < 0.8:
                    frame["id"] = chance.randrange(10)
            writer.write(b"".join(json.dumps(frame).encode() + b"\n" for frame in burst))
            await asyncio.sleep(chance.choice([0, 0, 0.001, 0.003]))
        writer.write(chance.choice(LAST))
        await asyncio.sleep(chance.choice([0, 0.002]))
        if chance.random() < 0.5:
            writer.transport.abort()
        writer.close()

    await asyncio.gather(*(one() for _ in range(2)))
    await until(lambda: not house.server._connections)
    assert await (await house.client()).result("hello")
    await until(lambda: opened - closed == len(house.server._sessions._parked))
    await house.server.stop()
    assert opened == closed > 0
    assert len(world.events) >= closed
    await until(lambda: not house.server._sessions._live)
