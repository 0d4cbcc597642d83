"""A million events of one task, and a server that dies between a client's batches."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import httpx
from tests.conftest import PATIENCE, House, HouseProcess
from tests.unit.server.compat.test_events import NOW, console, make_task, points
from tests.unit.server.compat.wire import ClearMLWire

from taskloom.wire.operations import LIST_SERIES

LINE = (
    '{{"type": "training_stats_scalar", "task": "{task}", "metric": "loss", "variant": "v{variant}", '
    '"iter": {iteration}, "value": {value}, "timestamp": {time}, "model_event": false, "allow_locked": false}}'
)


def body(task: str, numbers: range, series: int) -> bytes:
    return "\n".join(
        LINE.format(task=task, variant=n % series, iteration=n // series, value=n / 8, time=NOW + n)
        for n in numbers
    ).encode()


def test_a_million_events_of_one_task_are_all_there(house: House) -> None:
    task, wire = make_task(house), ClearMLWire(house)
    size, series = 5000, 10
    for at in range(0, 1_000_000, size):
        told = wire.send("events.add_batch", body(task, range(at, at + size), series), "application/json-lines")
        assert told == {"added": size, "errors": 0, "errors_info": {}}
    found = house.client.call(LIST_SERIES, task=task).series
    assert [(one.count, one.least, one.greatest) for one in found] == [(100_000, 0, 99_999)] * series
    assert points(house, task, "loss", "v3") == [(n, (n * series + 3) / 8) for n in range(100_000)]


def test_a_server_that_is_killed_between_batches_loses_nothing_and_tells_nothing_twice(
    house_process: HouseProcess, eventually: Callable[[Callable[[], object]], None]
) -> None:
    task = make_task(house_process)
    url, key, size, batches = house_process.url, house_process.key, 200, 60
    sent = [0]

    def tell() -> None:
        """As the clients do: the same bytes again until they are answered."""
        with httpx.Client(
            headers={"authorization": f"Bearer {key}", "content-type": "application/json-lines"}
        ) as http:
            for number in range(batches):
                line = json.dumps(
                    {"type": "log", "task": task, "msg": f"batch {number}", "timestamp": NOW + number}
                )
                content = body(task, range(number * size, (number + 1) * size), 2) + b"\n" + line.encode()
                until = time.monotonic() + PATIENCE
                while time.monotonic() < until:
                    try:
                        if (
                            http.request("GET", f"{url}/v2.23/events.add_batch", content=content).status_code
                            == 200
                        ):
                            break
                    except httpx.TransportError:
                        time.sleep(0.02)
                sent[0] = number + 1

    teller = threading.Thread(target=tell)
    teller.start()
    for until in (10, 25, 40):
        eventually(lambda until=until: sent[0] >= until)
        house_process.kill9()
        house_process.start()
    teller.join(4 * PATIENCE)
    assert sent[0] == batches
    for variant in (0, 1):
        expected = [(n, (2 * n + variant) / 8) for n in range(batches * size // 2)]
        assert points(house_process, task, "loss", f"v{variant}") == expected
    assert [text for _, text in console(house_process, task)] == [f"batch {n}\n" for n in range(batches)]
