"""Events without a journal mean the same on SQLite and PostgreSQL, also from many clients at once."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

from tests.conftest import House
from tests.unit.server.compat.test_events import console, image, log, make_model, make_task, plot, points, scalar
from tests.unit.server.compat.wire import ClearMLWire

from taskloom.domain.metrics import SINGLE_VALUE
from taskloom.wire.messages import MoveRequest
from taskloom.wire.operations import DELETE_MODEL, LIST_SERIES, RESET_TASK, START_TASK


def test_points_take_the_place_of_older_ones_wherever_those_stand(any_house: House) -> None:
    wire, task, chance = ClearMLWire(any_house), make_task(any_house), random.Random(5)
    expected: dict[int, float] = {}
    for _ in range(40):
        start = chance.randrange(12_000)
        told = [(chance.randrange(start, start + 2000), chance.random()) for _ in range(chance.randrange(1, 900))]
        wire.batch([scalar(task, iteration, value) for iteration, value in told])
        expected |= dict(told)
    assert points(any_house, task) == sorted(expected.items())
    (summary,) = any_house.client.call(LIST_SERIES, task=task).series
    values = list(expected.values())
    assert (summary.count, summary.least, summary.greatest) == (len(expected), min(expected), max(expected))
    assert (summary.min, summary.max) == (min(values), max(values))
    assert summary.mean is not None and abs(float(summary.mean) - sum(values) / len(values)) < 1e-9


def test_clients_that_repeat_their_batches_at_once_are_counted_once(any_house: House) -> None:
    task = make_task(any_house)
    wire = ClearMLWire(any_house)

    def tell(number: int) -> None:
        for at in range(0, 200, 20):
            events = [scalar(task, number * 1000 + n, n) for n in range(at, at + 20)]
            batch = [*events, log(task, f"{number} at {at}", at), scalar(task, at, number, variant="shared")]
            for _ in range(2):
                assert wire.batch(batch)["added"] == 22

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(tell, [0, 1, 2, 0, 1, 2]))
    assert points(any_house, task) == [(k * 1000 + n, float(n)) for k in range(3) for n in range(200)]
    assert [iteration for iteration, _ in points(any_house, task, series="shared")] == list(range(0, 200, 20))
    lines = sorted(text for _, text in console(any_house, task))
    assert lines == sorted(f"{k} at {at}\n" for k in range(3) for at in range(0, 200, 20))


def test_everything_reads_back_and_goes_with_its_owner(any_house: House) -> None:
    wire, task, model = ClearMLWire(any_house), make_task(any_house), make_model(any_house)
    wire.batch([scalar(task, SINGLE_VALUE, 2.5, "Summary", "é"), plot(task, 1, "{}"), plot(task, 1, '{"b": 1}')])
    wire.batch([image(task, 1), log(task, "nul \0 and 名\n"), scalar(model, 1, 1.0, model_event=True)])
    (single,) = wire.call("events.get_task_single_value_metrics", tasks=[task])["tasks"]
    assert (single["values"][0]["variant"], single["values"][0]["value"]) == ("é", 2.5)
    assert [p["plot_str"] for p in wire.call("events.get_task_plots", task=task)["plots"]] == ['{"b": 1}']
    assert wire.call("events.get_task_log", task=task)["events"][0]["msg"] == "nul \ufffd and 名"
    assert wire.call("events.get_task_events", task=task)["total"] == 4
    any_house.client.call(DELETE_MODEL, model=model)
    any_house.client.call(START_TASK, MoveRequest(), task=task)
    any_house.client.call(RESET_TASK, MoveRequest(force=True), task=task)
    assert wire.call("events.get_task_events", task=task)["total"] == 0
    left = any_house.listener.house.telemetry.read_now(lambda tx: tx.exec_driver_sql("SELECT * FROM series").all())
    assert left == []
