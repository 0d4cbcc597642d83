"""Events as ClearML's clients send them, and as they read them back."""

from __future__ import annotations

import json
import math
import uuid
from typing import Any

import pytest
from tests.conftest import Clock, House, HouseProcess
from tests.unit.server.compat.wire import ClearMLWire, Refused
from tests.unit.server.telemetry import Journal, names

from taskloom.domain.artifact import Model
from taskloom.domain.metrics import SINGLE_VALUE
from taskloom.wire.messages import (
    ConsoleQuery,
    ModelCreate,
    PlotsQuery,
    PointsQuery,
    TaskCreate,
    TaskQuery,
)
from taskloom.wire.operations import (
    CREATE_MODEL,
    CREATE_TASK,
    GET_CONSOLE,
    GET_POINTS,
    GET_TASK,
    LIST_PLOTS,
    LIST_SERIES,
    QUERY_TASKS,
    SHIP_JOURNAL,
)
from taskloom.wire.records import Opened

NOW = 1_700_000_000_000  # milliseconds


@pytest.fixture
def wire(house: House) -> ClearMLWire:
    return ClearMLWire(house)


def make_task(house: House | HouseProcess, name: str = "told about") -> str:
    return house.client.call(CREATE_TASK, TaskCreate(name=name, project="events")).id


def make_model(house: House) -> str:
    return house.client.call(CREATE_MODEL, ModelCreate(model=Model(id="", name="weights", uri="file:///w"))).id


def scalar(
    task: str, iteration: Any, value: Any, metric: str = "loss", variant: str = "train", **more: Any
) -> Any:
    event = {"type": "training_stats_scalar", "task": task, "iter": iteration, "value": value}
    return {**event, "metric": metric, "variant": variant, "timestamp": NOW + 1, **more}


def log(task: str, text: str, at: int = 0, level: str = "info") -> dict[str, Any]:
    return {"type": "log", "task": task, "msg": text, "timestamp": NOW + at, "level": level, "worker": "w"}


def plot(task: str, iteration: int, text: str, metric: str = "roc", variant: str = "a") -> dict[str, Any]:
    event = {"type": "plot", "task": task, "iter": iteration, "plot_str": text, "timestamp": NOW}
    return {**event, "metric": metric, "variant": variant}


def image(task: str, iteration: int, variant: str = "a", metric: str = "shown") -> dict[str, Any]:
    key = f"events/told/{metric}/{variant}_{iteration}.jpeg"
    event = {"type": "training_debug_image", "task": task, "iter": iteration, "timestamp": NOW + iteration}
    return {**event, "metric": metric, "variant": variant, "key": key, "url": f"s3://elsewhere/{key}"}


def points(
    house: House | HouseProcess, task: str, title: str = "loss", series: str = "train"
) -> list[tuple[int, Any]]:
    found = house.client.call(GET_POINTS, query=PointsQuery(title=title, series=series, points=0), task=task)
    return list(zip(found.iteration, found.value, strict=True))


def console(house: House | HouseProcess, task: str) -> list[tuple[str, str]]:
    page = house.client.call(GET_CONSOLE, query=ConsoleQuery(limit=10_000), task=task)
    return [(entry.stream, entry.text) for entry in page.entries]


# --- scalars ----------------------------------------------------------------------------------------------


def test_a_scalar_told_again_for_an_iteration_takes_the_older_ones_place(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    assert wire.batch([scalar(task, n, n / 2) for n in range(100)])["added"] == 100
    wire.batch([scalar(task, 50, -7.5), scalar(task, 100, 1.0), scalar(task, 50, -8.5)])
    expected = {n: n / 2 for n in range(100)} | {50: -8.5, 100: 1.0}
    assert points(house, task) == sorted(expected.items())
    (summary,) = house.client.call(LIST_SERIES, task=task).series
    assert (summary.count, summary.min, summary.min_iteration, summary.greatest) == (101, -8.5, 50, 100)
    assert summary.mean == pytest.approx(sum(expected.values()) / 101)


def test_points_come_late_in_any_order_and_nothing_is_lost(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    for start in (20_000, 0, 10_000):
        wire.batch([scalar(task, n, float(n)) for n in range(start, start + 10_000)])
    wire.batch([scalar(task, n, -1.0) for n in range(9_990, 10_010)])
    told = dict(points(house, task))
    assert told == {n: -1.0 if 9_990 <= n < 10_010 else float(n) for n in range(30_000)}
    wire.batch([scalar(task, 30_000, 5.0)])
    assert points(house, task)[-1] == (30_000, 5.0)


def test_what_is_told_and_what_a_journal_wrote_are_one_series(house: House, wire: ClearMLWire) -> None:
    task = uuid.uuid4().hex
    opened = Opened(mode="new", name="recorded", project="events", time=1.0)
    rows = [(0, n, float(n), 1e9 + n) for n in range(500)]
    house.client.call(
        SHIP_JOURNAL, Journal("w" * 32, [opened, *names(("loss", "train"))], rows).whole(), task=task
    )
    wire.batch([scalar(task, 499, 0.5), scalar(task, 500, 1.5)])
    assert points(house, task)[-3:] == [(498, 498.0), (499, 0.5), (500, 1.5)]
    told = wire.call("events.scalar_metrics_iter_histogram", task=task, samples=0)
    assert told["loss"]["train"]["x"] == list(range(501))
    assert told["loss"]["train"]["y"][-2:] == [0.5, 1.5]


def test_odd_numbers_are_read_with_patience(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    lines = [
        json.dumps(scalar(task, 1.0, 1)),
        json.dumps(scalar(task, "2", "2.5")),
        json.dumps(scalar(task, None, 3.5)),
        json.dumps(scalar(task, 4, math.nan)),
        json.dumps(scalar(task, 5, -math.inf)),
        json.dumps(scalar(task, 6, 10**400)),
        json.dumps(scalar(task, 2**63 - 1, 7.0)),
        json.dumps({**scalar(task, 8, 8.5), "timestamp": "1700000000000.0", "unknown": [1, {}]}),
    ]
    told = wire.send("events.add_batch", "\n".join([*lines, "", " "]).encode(), "application/json-lines")
    assert told == {"added": 8, "errors": 0, "errors_info": {}}
    assert points(house, task) == [
        (0, 3.5),
        (1, 1.0),
        (2, 2.5),
        (4, "NaN"),
        (5, "-Infinity"),
        (6, "Infinity"),
        (8, 8.5),
        (2**63 - 1, 7.0),
    ]


def test_bad_lines_are_counted_and_do_not_lose_the_others(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    bad = [
        "nothing of JSON",
        "[1, 2]",
        json.dumps(scalar(task, 2**63, 1.0)),
        json.dumps(scalar(task, "many", 1.0)),
        json.dumps(scalar(task, 1, None)),
        json.dumps(scalar(task, 1, True)),
        json.dumps(scalar(task, 1, {"a": 1})),
        json.dumps(scalar(task, 1, 1.0, metric="m" * 2000)),
        json.dumps(scalar("no id; at all", 1, 1.0)),
        json.dumps(scalar(uuid.uuid4().hex, 1, 1.0)),
        json.dumps({"type": "training_stats_scalar", "iter": 1, "value": 2}),
        json.dumps({**scalar(task, 1, 1.0), "type": "gossip"}),
        json.dumps({**plot(task, 1, ""), "plot_str": None}),
    ]
    told = wire.send("events.add_batch", "\n".join([*bad, json.dumps(scalar(task, 7, 7.0))]).encode(), "")
    assert (told["added"], told["errors"]) == (1, len(bad) + 1)
    assert sum(told["errors_info"].values()) == told["errors"]
    assert points(house, task) == [(7, 7.0)]


def test_a_metric_or_variant_that_is_missing_is_an_empty_name(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    wire.batch([{"type": "training_stats_scalar", "task": task, "iter": 3, "value": 1.5, "metric": "only"}])
    assert points(house, task, "only", "") == [(3, 1.5)]


def test_a_single_value_stands_by_itself(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    wire.batch([scalar(task, SINGLE_VALUE, 0.5, "Summary", "accuracy"), scalar(task, 3, 1.0)])
    wire.batch([scalar(task, SINGLE_VALUE, 0.75, "Summary", "accuracy", timestamp=NOW + 9)])
    told = wire.call("events.get_task_single_value_metrics", tasks=[task])["tasks"]
    value = {"metric": "Summary", "variant": "accuracy", "value": 0.75, "timestamp": NOW + 9}
    assert told == [{"task": task, "task_name": "told about", "values": [value]}]
    assert list(wire.call("events.scalar_metrics_iter_histogram", task=task)) == ["loss"]
    assert house.client.call(
        GET_POINTS, query=PointsQuery(title="Summary", series="accuracy"), task=task
    ).value == [0.75]


def test_single_values_among_other_points_are_found(house: House, wire: ClearMLWire) -> None:
    task, none = make_task(house), make_task(house)
    wire.batch([scalar(task, n or SINGLE_VALUE, float(n)) for n in range(10)])
    wire.batch([scalar(none, 1, 1.0)])
    (told,) = wire.call("events.get_task_single_value_metrics", tasks=[task, none])["tasks"]
    assert [value["value"] for value in told["values"]] == [0.0]
    asked = {"metric": "loss", "variants": ["train"]}
    raw = wire.call("events.scalar_metrics_iter_raw", task=task, metric=asked, count_total=True)
    assert raw["variants"]["train"]["iter"] == [SINGLE_VALUE, *range(1, 10)]
    assert (raw["returned"], raw["total"]) == (10, 10)
    other = [{"metric": "other", "variants": ["train"]}]
    assert wire.call("events.get_task_single_value_metrics", tasks=[task], metrics=other)["tasks"] == []


def test_machine_metrics_do_not_move_the_last_iteration(house: House, wire: ClearMLWire, eventually: Any) -> None:
    task = make_task(house)
    wire.batch([scalar(task, 900, 1.0, ":monitor:machine", "cpu"), scalar(task, 12, 1.0), scalar(task, 5, 1.0)])
    eventually(lambda: house.client.call(GET_TASK, task=task).last_iteration is not None)
    assert house.client.call(GET_TASK, task=task).last_iteration == 12
    found = house.client.call(QUERY_TASKS, TaskQuery(ids=[task], order_by=["metrics.loss/train"])).tasks
    assert [one.id for one in found] == [task]


# --- batches ----------------------------------------------------------------------------------------------


def test_a_batch_that_is_sent_again_is_applied_once(house: House, wire: ClearMLWire, clock: Clock) -> None:
    task = make_task(house)
    batch = [log(task, "once"), scalar(task, 1, 1.0), log(task, "and for all", 1)]
    for _ in range(3):
        assert wire.batch(batch) == {"added": 3, "errors": 0, "errors_info": {}}
    wire.batch([scalar(task, 1, 2.0)])
    wire.batch(batch)
    assert console(house, task) == [("stdout", "once\n"), ("stdout", "and for all\n")]
    assert points(house, task) == [(1, 2.0)]
    clock.advance(4000)
    wire.batch([scalar(task, 2, 2.0)])
    wire.batch(batch)
    assert len(console(house, task)) == 4


def test_lines_without_a_time_are_told_as_often_as_they_come(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    for _ in range(2):
        wire.batch([{"type": "log", "task": task, "msg": "tick"}])
    assert console(house, task) == [("stdout", "tick\n")] * 2


def test_one_batch_for_many_owners_and_of_many_kinds(house: House, wire: ClearMLWire) -> None:
    first, second, model = make_task(house), make_task(house), make_model(house)
    told = wire.batch(
        [
            scalar(first, 1, 1.0),
            log(second, "a line", level="error"),
            scalar(model, 1, 5.0, model_event=True),
            plot(first, 0, "{}"),
            image(second, 4),
            log(model, "models print nothing") | {"model_event": True},
            {"type": "training_stats_vector", "task": first, "iter": 2, "metric": "v", "values": [1, 2.5]},
        ]
    )
    assert (told["added"], told["errors"]) == (6, 1)
    assert points(house, first) == [(1, 1.0)]
    assert console(house, second) == [("stderr", "a line\n")]
    chart = wire.call("events.scalar_metrics_iter_histogram", task=model, model_events=True)
    assert chart == {"loss": {"train": {"name": "train", "x": [1], "y": [5.0]}}}
    assert [p.kind for p in house.client.call(LIST_PLOTS, query=PlotsQuery(), task=first).plots] == [
        "plotly",
        "vector",
    ]
    vectors = wire.call("events.vector_metrics_iter_histogram", task=first, metric="v", variant="")
    assert (vectors["iterations"], vectors["vectors"]) == ([2], [[1.0, 2.5]])


@pytest.mark.parametrize("body", [b"", b"\n \n"])
def test_an_empty_batch_is_refused(wire: ClearMLWire, body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        wire.send("events.add_batch", body, "application/json-lines")
    assert (refused.value.code, refused.value.subcode) == (400, 17)


def test_a_batch_of_which_nothing_is_taken_is_refused(house: House, wire: ClearMLWire) -> None:
    gone = uuid.uuid4().hex
    with pytest.raises(Refused, match=gone) as refused:
        wire.batch([scalar(gone, 1, 1.0)])
    assert (refused.value.code, refused.value.subcode) == (400, 131)


def test_events_come_as_an_array_or_alone_too(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    array = json.dumps([scalar(task, 1, 1.0), scalar(task, 2, 2.0)], indent=1).encode()
    assert wire.send("events.add_batch", array, "application/json")["added"] == 2
    requests = json.dumps({"requests": [scalar(task, 3, 3.0)]}).encode()
    assert wire.send("events.add_batch", requests, "application/json")["added"] == 1
    assert wire.call("events.add", **scalar(task, 4, 4.0))["added"] == 1
    assert [iteration for iteration, _ in points(house, task)] == [1, 2, 3, 4]


def test_a_hundred_thousand_events_in_one_body(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    told = wire.batch([scalar(task, n // 10, n / 3, variant=f"v{n % 10}") for n in range(100_000)])
    assert told["added"] == 100_000
    found = house.client.call(LIST_SERIES, task=task).series
    assert [one.count for one in found] == [10_000] * 10
    assert points(house, task, "loss", "v7")[-1] == (9_999, 99_997 / 3)
