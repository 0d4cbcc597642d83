"""Live events: who watches is told, nobody who publishes ever waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import msgspec
import pytest
from tests.conftest import House

from taskloom.domain.errors import Unavailable
from taskloom.server.events import BACKLOG, MISSED, EventBus
from taskloom.wire.messages import LiveEvent, ProjectCreate
from taskloom.wire.operations import CREATE_PROJECT, REVOKE_KEY


def test_a_watcher_gets_what_it_asked_for_in_order() -> None:
    async def scenario() -> list[LiveEvent | None]:
        bus = EventBus()
        async with bus.subscribe(task="t1") as one, bus.subscribe(project="vision") as shelf:
            for number, task in enumerate(["t1", "t2", "t1"]):
                bus.publish(LiveEvent(kind="metrics", task=task, project=f"vision/p{number}", time=float(number)))
            bus.publish(LiveEvent(kind="metrics", task="t3", project="visionary"))
            return [await one.next(0), await one.next(0), await one.next(0)] + [
                await shelf.next(0) for _ in range(4)
            ]

    seen = asyncio.run(scenario())
    assert [event and event.time for event in seen] == [0.0, 2.0, None, 0.0, 1.0, 2.0, None]


def test_kinds_narrow_what_a_watcher_gets() -> None:
    async def scenario() -> list[str]:
        bus = EventBus()
        async with bus.subscribe(kinds=frozenset({"queue"})) as live:
            for kind in ("task", "queue", "worker"):
                bus.publish(LiveEvent(kind=kind))
            bus.close()
            return [event.kind async for event in live]

    assert asyncio.run(scenario()) == ["queue"]


def test_a_slow_watcher_loses_the_oldest_and_is_told_so() -> None:
    async def scenario() -> list[LiveEvent]:
        bus = EventBus()
        async with bus.subscribe() as live:
            for number in range(BACKLOG + 10):
                bus.publish(LiveEvent(kind="task", time=float(number)))
            bus.close()
            return [event async for event in live]

    seen = asyncio.run(scenario())
    assert seen[0].kind == MISSED
    assert [event.time for event in seen[1:]] == [float(n) for n in range(10, BACKLOG + 10)]


def test_events_come_from_any_thread() -> None:
    async def scenario() -> int:
        bus = EventBus()

        def publish() -> None:
            for _ in range(50):
                bus.publish(LiveEvent(kind="task"))

        async with bus.subscribe() as live:
            threads = [threading.Thread(target=publish) for _ in range(4)]
            for thread in threads:
                thread.start()
            seen = 0
            while seen < 200 and await live.next(20) is not None:
                seen += 1
            for thread in threads:
                thread.join()
        return seen

    assert asyncio.run(scenario()) == 200


def test_who_waits_when_the_bus_closes_is_told_at_once_and_whoever_comes_later_too() -> None:
    async def scenario() -> None:
        bus = EventBus()
        async with bus.subscribe() as live:
            waiting = asyncio.ensure_future(live.next())
            await asyncio.sleep(0)
            bus.close()
            with pytest.raises(Unavailable):
                await waiting
        async with bus.subscribe() as late:
            with pytest.raises(Unavailable):
                await late.next()

    asyncio.run(scenario())


@contextmanager
def stream(house: House, key: str, query: str = "") -> Iterator[Iterator[str]]:
    headers = {"Authorization": f"Bearer {key}"}
    with (
        httpx.Client(timeout=20) as client,
        client.stream("GET", f"{house.url}/api/events{query}", headers=headers) as response,
    ):
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.iter_lines()
        assert next(lines) == ": live"
        yield lines


def test_a_change_comes_down_the_stream(house: House) -> None:
    with stream(house, house.key, "?project=vision") as lines:
        house.client.call(CREATE_PROJECT, ProjectCreate(name="elsewhere"))
        house.client.call(CREATE_PROJECT, ProjectCreate(name="vision/digits"))
        data = next(line for line in lines if line.startswith("data: "))
    event = msgspec.json.decode(data.removeprefix("data: "), type=LiveEvent)
    assert (event.kind, event.project) == ("project", "vision/digits")


def test_the_stream_of_a_revoked_key_ends(house: House) -> None:
    key = house.make_key("viewer")
    with stream(house, key) as lines:
        house.client.call(REVOKE_KEY, key=key.split("_")[1])
        assert [line for line in lines if line.startswith("data")] == []


def test_a_stop_of_the_server_ends_the_stream(house: House) -> None:
    with stream(house, house.key) as lines:
        house.listener.stop()
        assert [line for line in lines if line.startswith("data")] == []
