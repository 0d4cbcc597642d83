"""What was told or recorded, read back by each of ClearML's calls."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from tests.conftest import House
from tests.unit.server.compat.test_events import NOW, image, log, make_model, make_task, plot, scalar
from tests.unit.server.compat.wire import ClearMLWire, Refused
from tests.unit.server.telemetry import Journal, names

from taskloom.domain.queue import Machine
from taskloom.wire.messages import Claim, Enqueue, Finish, MoveRequest, TaskDelete, TaskQuery, WorkerRegister
from taskloom.wire.operations import (
    CLAIM_TASK,
    DELETE_MODEL,
    DELETE_TASK,
    END_TASK,
    ENQUEUE_TASK,
    GET_TASK,
    PUBLISH_TASK,
    QUERY_TASKS,
    REGISTER_WORKER,
    RESET_TASK,
    SHIP_JOURNAL,
    START_TASK,
)
from taskloom.wire.records import Opened, Plotted

SCALARS, PLOTS, IMAGES = "training_stats_scalar", "plot", "training_debug_image"


@pytest.fixture
def wire(house: House) -> ClearMLWire:
    return ClearMLWire(house)


def record(house: House) -> str:
    """A task as our own SDK records it: two seconds of console, scalars, a plot."""
    task = uuid.uuid4().hex
    shown = Plotted(title="roc", series="a", iteration=3, time=1e9, kind="line", figure='{"data": []}')
    journal = Journal(
        "w" * 32,
        [Opened(mode="new", name="recorded", project="events", time=1.0), *names(("loss", "train")), shown],
        [(0, n, n / 4, 1e9 + n) for n in range(40)],
        {"stdout": b"out 1\nout 2\n", "stderr": b"err\n"},
    )
    house.client.call(SHIP_JOURNAL, journal.whole(), task=task)
    return task


def all_events(wire: ClearMLWire, task: str, kind: str, **more: Any) -> list[dict[str, Any]]:
    """As a client scrolls: until a page is empty."""
    found: list[dict[str, Any]] = []
    scroll = None
    while True:
        page = wire.call("events.get_task_events", task=task, event_type=kind, scroll_id=scroll, **more)
        assert page["returned"] == len(page["events"])
        if not page["events"]:
            assert page["total"] == len(found)
            return found
        found += page["events"]
        scroll = page["scroll_id"]


# --- scalars ----------------------------------------------------------------------------------------------


def test_charts_have_each_axis(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    wire.batch([scalar(task, n, n / 2, timestamp=NOW + 250 * n) for n in range(3)])

    def x(**asked: Any) -> list[Any]:
        return wire.call("events.scalar_metrics_iter_histogram", task=task, **asked)["loss"]["train"]["x"]

    assert x() == x(key="iter") == [0, 1, 2]
    assert x(key="timestamp") == [NOW, NOW + 250, NOW + 500]
    assert x(key="iso_time")[:2] == ["2023-11-14T22:13:20.000Z", "2023-11-14T22:13:20.250Z"]
    with pytest.raises(Refused, match="none of iter"):
        x(key="depth")


def test_samples_thin_each_curve(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    wire.batch([scalar(task, n, n % 7, variant=v) for n in range(9000) for v in ("a", "b")])
    wire.batch([scalar(task, n, n, variant="short") for n in range(5)])

    def lengths(**asked: Any) -> list[int]:
        told = wire.call("events.scalar_metrics_iter_histogram", task=task, **asked)["loss"]
        return [len(curve["y"]) for curve in told.values()]

    first, second, short = lengths(samples=100)
    assert (first, short) == (second, 5)
    assert 90 <= first <= 100
    assert lengths(samples=0) == [9000, 9000, 5]
    assert 5900 <= lengths()[0] <= 6000
    assert lengths(samples=1) == [1, 1, 1]
    assert lengths(metrics=[{"metric": "loss", "variants": ["short"]}]) == [5]


def test_charts_of_many_tasks_stand_beside_each_other(house: House, wire: ClearMLWire) -> None:
    first, second = make_task(house, "first"), make_task(house, "second")
    wire.batch([scalar(task, n, n) for task in (first, second) for n in range(4)])
    told = wire.call("events.multi_task_scalar_metrics_iter_histogram", tasks=[first, second])["metrics"]
    assert told["loss"]["train"][second] == {"name": "second", "x": [0, 1, 2, 3], "y": [0.0, 1.0, 2.0, 3.0]}
    assert set(told["loss"]["train"]) == {first, second}
    with pytest.raises(Refused) as refused:
        wire.call("events.multi_task_scalar_metrics_iter_histogram", tasks=[first, "0" * 32])
    assert refused.value.subcode == 101


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_points_are_paged_in_the_order_of_their_iterations(house: House, wire: ClearMLWire, order: str) -> None:
    task = make_task(house)
    sent = [scalar(task, n // 2, n, variant=f"v{n % 2}", timestamp=NOW + n) for n in range(101)]
    wire.batch(sent[60:])
    wire.batch(sent[:60])
    found = all_events(wire, task, SCALARS, batch_size=7, order=order)
    iterations = [event["iter"] for event in found]
    assert iterations == sorted(iterations, reverse=order == "desc")
    assert sorted(event["value"] for event in found) == list(range(101))
    (one,) = [event for event in found if event["value"] == 42]
    assert one == {**sent[42], "value": 42.0}


def test_points_that_come_while_a_client_scrolls_are_neither_lost_nor_told_twice(
    house: House, wire: ClearMLWire
) -> None:
    task = make_task(house)
    wire.batch([scalar(task, n, n) for n in range(50)])
    page = wire.call("events.get_task_events", task=task, event_type=SCALARS, batch_size=20)
    wire.batch([scalar(task, n, n) for n in range(50, 60)])
    told = [event["iter"] for event in page["events"]]
    while page["returned"]:
        page = wire.call(
            "events.get_task_events", task=task, event_type=SCALARS, batch_size=20, scroll_id=page["scroll_id"]
        )
        told += [event["iter"] for event in page["events"]]
    assert told == list(range(60))


def test_raw_points_are_paged(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    wire.batch([scalar(task, n, n * 2) for n in range(100)])
    asked = {"metric": "loss", "variants": ["train"]}
    page = wire.call("events.scalar_metrics_iter_raw", task=task, metric=asked, batch_size=15, count_total=True)
    assert page["total"] == 100
    x: list[int] = []
    y: list[float] = []
    pages = 0
    while page["returned"]:
        pages += 1
        x += page["variants"]["train"]["iter"]
        y += page["variants"]["train"]["y"]
        page = wire.call("events.scalar_metrics_iter_raw", task=task, metric=asked, scroll_id=page["scroll_id"])
    assert (pages, x, y) == (7, list(range(100)), [n * 2.0 for n in range(100)])


@pytest.mark.parametrize("scroll", ["nonsense", "AAAA", "é", 7, "x" * 99_999, "k6ZldmVudHMB"])
def test_a_bad_scroll_is_refused(house: House, wire: ClearMLWire, scroll: Any) -> None:
    task = make_task(house)
    for name in ("events.get_task_events", "events.scalar_metrics_iter_raw", "events.get_task_plots"):
        with pytest.raises(Refused) as refused:
            wire.call(name, task=task, scroll_id=scroll)
        assert (refused.value.code, refused.value.subcode) == (400, 1104)


# --- console ----------------------------------------------------------------------------------------------


def test_the_console_is_paged_by_time_both_ways(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    wire.batch([log(task, f"line {n}", n * 1000) for n in range(10)])

    def ask(**asked: Any) -> list[str]:
        page = wire.call("events.get_task_log", task=task, batch_size=4, **asked)
        assert (page["returned"], page["total"]) == (len(page["events"]), 10)
        return [event["msg"].removeprefix("line ") for event in page["events"]]

    assert ask() == ["9", "8", "7", "6"]
    assert ask(order="asc", navigate_earlier=True) == ["6", "7", "8", "9"]
    assert ask(navigate_earlier=False) == ["0", "1", "2", "3"]
    assert ask(from_timestamp=NOW + 6000) == ["5", "4", "3", "2"]
    assert ask(from_timestamp=NOW + 3000, navigate_earlier=False) == ["4", "5", "6", "7"]
    assert ask(from_timestamp=NOW + 3000, navigate_earlier=False, order="desc") == ["7", "6", "5", "4"]
    assert ask(from_timestamp=NOW + 9999, navigate_earlier=False) == []


def test_lines_of_one_moment_are_not_lost_between_pages(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    wire.batch([log(task, f"{n}", n // 5) for n in range(25)])
    told: list[str] = []
    since = None
    while page := wire.call("events.get_task_log", task=task, batch_size=3, from_timestamp=since)["events"]:
        told += [event["msg"] for event in page]
        since = page[-1]["timestamp"]
    assert told == [str(n) for n in reversed(range(25))]


def test_what_our_own_sdk_recorded_reads_back(house: House, wire: ClearMLWire) -> None:
    task = record(house)
    events = wire.call("events.get_task_log", task=task, navigate_earlier=False)["events"]
    assert {(event["msg"], event["level"]) for event in events} == {("out 1\nout 2", "info"), ("err", "error")}
    chart = wire.call("events.scalar_metrics_iter_histogram", task=task)["loss"]["train"]
    assert (chart["x"], chart["y"]) == (list(range(40)), [n / 4 for n in range(40)])
    (shown,) = wire.call("events.get_task_plots", task=task, iters=1, no_scroll=True)["plots"]
    assert (shown["metric"], shown["variant"], shown["iter"], shown["plot_str"]) == ("roc", "a", 3, '{"data": []}')
    assert len(all_events(wire, task, SCALARS)) == 40
    assert len(all_events(wire, task, "log")) == 2
    everything = wire.call("events.get_task_events", task=task, batch_size=1000)
    assert (everything["returned"], everything["total"]) == (43, 43)


def test_a_log_is_cleared(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    now = house.clock() * 1000 - NOW
    wire.batch([log(task, "old", int(now) - 100_000), log(task, "new", int(now))])
    assert wire.call("events.clear_task_log", task=task, threshold_sec=50)["deleted"] == 1
    assert [event["msg"] for event in wire.call("events.get_task_log", task=task)["events"]] == ["new"]
    assert wire.call("events.clear_task_log", task=task)["deleted"] == 1
    assert wire.call("events.get_task_log", task=task)["total"] == 0


# --- plots and samples ------------------------------------------------------------------------------------


def test_the_newest_plots_of_each_metric_and_variant(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    wire.batch([plot(task, n, f'{{"n": {n}}}', variant=v) for n in range(4) for v in ("a", "b")])
    wire.batch([plot(task, 0, "not even JSON", metric="table"), plot(task, 3, '{"n": "new"}', variant="b")])
    told = wire.call("events.get_task_plots", task=task, iters=2)
    assert (told["returned"], told["total"]) == (5, 5)
    assert [(p["metric"], p["variant"], p["iter"]) for p in told["plots"]] == [
        ("roc", "a", 3),
        ("roc", "b", 3),
        ("roc", "a", 2),
        ("roc", "b", 2),
        ("table", "a", 0),
    ]
    assert [p["plot_str"] for p in told["plots"]][1] == '{"n": "new"}'
    assert wire.call("events.get_task_plots", task=task, iters=2, scroll_id=told["scroll_id"])["plots"] == []
    only = wire.call("events.get_task_plots", task=task, metrics=[{"metric": "table"}])["plots"]
    assert [p["metric"] for p in only] == ["table"]
    assert len(all_events(wire, task, PLOTS, batch_size=2)) == 9


def test_plots_of_many_tasks(house: House, wire: ClearMLWire) -> None:
    first, second = make_task(house, "first"), make_task(house, "second")
    wire.batch([plot(first, 1, "1"), plot(second, 2, "2"), plot(second, 5, "5", "other", "x")])
    told = wire.call("events.get_multi_task_plots", tasks=[first, second])
    assert told["returned"] == 3
    assert told["plots"]["roc"]["a"][first]["1"]["name"] == "first"
    assert told["plots"]["roc"]["a"][second]["2"]["plots"][0]["plot_str"] == "2"
    assert list(told["plots"]["other"]["x"][second]) == ["5"]


def test_debug_samples_are_scrolled_from_the_newest(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    wire.batch([image(task, n, v) for n in range(5) for v in ("a", "b")])
    asked = [{"task": task, "metric": "shown", "variants": ["a"]}]
    told: list[list[int]] = []
    scroll = None
    while True:
        page = wire.call("events.debug_images", metrics=asked, iters=2, scroll_id=scroll)
        (of_task,) = page["metrics"]
        if not of_task["iterations"]:
            break
        assert of_task["task"] == task
        told.append([one["iter"] for one in of_task["iterations"]])
        assert {event["variant"] for one in of_task["iterations"] for event in one["events"]} == {"a"}
        scroll = page["scroll_id"]
    assert told == [[4, 3], [2, 1], [0]]
    page = wire.call("events.debug_images", metrics=[{"task": task}], navigate_earlier=False)
    (iteration,) = page["metrics"][0]["iterations"]
    assert [event["variant"] for event in iteration["events"]] == ["a", "b"]
    sent = image(task, 0, "a")
    assert {**sent, **iteration["events"][0]} == iteration["events"][0] | sent
    assert len(all_events(wire, task, IMAGES)) == 10


def test_one_steps_from_sample_to_sample(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    wire.batch([image(task, n, v) for n in (1, 2) for v in ("a", "b")])
    at = wire.call("events.get_debug_image_sample", task=task, metric="shown", variant="b")
    assert (at["event"]["iter"], at["min_iteration"], at["max_iteration"]) == (2, 1, 2)

    def step(**asked: Any) -> tuple[int, str] | None:
        told = wire.call("events.next_debug_image_sample", task=task, scroll_id=at["scroll_id"], **asked)
        return None if told["event"] is None else (told["event"]["iter"], told["event"]["variant"])

    assert step() == (2, "a")
    assert step(next_iteration=True) == (1, "b")
    assert step(navigate_earlier=False) is None
    first = wire.call("events.get_debug_image_sample", task=task, metric="shown", variant="a", iteration=1)
    assert first["event"]["iter"] == 1
    assert wire.call("events.get_debug_image_sample", task=task, metric="none", variant="a")["event"] is None


def test_one_steps_from_plots_to_plots(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    wire.batch([plot(task, n, f"{n}{v}", variant=v) for n in (1, 2) for v in ("a", "b")])
    at = wire.call("events.get_plot_sample", task=task, metric="roc")
    assert [event["plot_str"] for event in at["events"]] == ["2a", "2b"]
    told = wire.call("events.next_plot_sample", task=task, scroll_id=at["scroll_id"])
    assert [event["plot_str"] for event in told["events"]] == ["1a", "1b"]
    shown = wire.call("events.plots", metrics=[{"task": task, "metric": "roc"}], iters=5)["metrics"][0]
    assert [one["iter"] for one in shown["iterations"]] == [2, 1]


# --- names ------------------------------------------------------------------------------------------------


def test_which_metrics_there_are(house: House, wire: ClearMLWire) -> None:
    task, other = make_task(house), make_task(house)
    vector = {
        "type": "training_stats_vector",
        "task": other,
        "iter": 0,
        "metric": "v",
        "variant": "x",
        "values": [],
    }
    wire.batch([scalar(task, 1, 1.5), scalar(task, 4, 2.5, variant="test"), plot(task, 0, "{}"), vector])
    wire.batch([image(other, 1)])

    def of(kind: str) -> dict[str, list[str]]:
        told = wire.call("events.get_task_metrics", tasks=[task, other], event_type=kind)["metrics"]
        return {one["task"]: one["metrics"] for one in told}

    assert of(SCALARS) == {task: ["loss"]}
    assert of(PLOTS) == {task: ["roc"]}
    assert of(IMAGES) == {other: ["shown"]}
    told = wire.call("events.get_multi_task_metrics", tasks=[task, other])["metrics"]
    assert told == [
        {"metric": "loss", "variants": ["test", "train"]},
        {"metric": "roc", "variants": ["a"]},
        {"metric": "shown", "variants": ["a"]},
        {"metric": "v", "variants": ["x"]},
    ]
    named = wire.call("events.get_scalar_metrics_and_variants", task=task)["metrics"]
    assert named == {"loss": ["test", "train"]}
    assert wire.call("events.get_vector_metrics_and_variants", task=other)["metrics"] == {"v": ["x"]}
    latest = wire.call("events.get_task_latest_scalar_values", task=task)
    assert latest["last_iter"] == 4
    assert {v["name"]: v["last_value"] for v in latest["metrics"][0]["variants"]} == {"test": 2.5, "train": 1.5}
    data = wire.call("events.get_scalar_metric_data", task=task, metric="loss")
    assert [(event["iter"], event["value"]) for event in data["events"]] == [(4, 2.5), (1, 1.5)]


# --- who may, and what goes -------------------------------------------------------------------------------


def test_a_published_task_takes_only_what_may_come_in_locked(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    house.client.call(START_TASK, MoveRequest(), task=task)
    house.client.call(END_TASK, Finish(outcome="completed"), task=task)
    wire.batch([scalar(task, 1, 1.0)])
    house.client.call(PUBLISH_TASK, MoveRequest(), task=task)
    with pytest.raises(Refused, match="published") as refused:
        wire.batch([scalar(task, 2, 2.0)])
    assert refused.value.subcode == 131
    wire.batch([scalar(task, 3, 3.0, allow_locked=True)])
    with pytest.raises(Refused, match="published"):
        wire.call("events.delete_for_task", task=task)
    assert wire.call("events.scalar_metrics_iter_histogram", task=task)["loss"]["train"]["x"] == [1, 3]
    task_now = house.client.call(GET_TASK, task=task)
    assert task_now.last_iteration == 3  # it was over: its last values are copied with the batch


def test_a_deleted_task_takes_nothing_and_a_reset_one_begins_anew(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    batch = [scalar(task, 1, 1.0), log(task, "a line")]
    wire.batch(batch)
    house.client.call(START_TASK, MoveRequest(), task=task)
    house.client.call(RESET_TASK, MoveRequest(force=True), task=task)
    assert wire.call("events.scalar_metrics_iter_histogram", task=task) == {}
    wire.batch(batch)  # the same bytes belong to a new run now
    assert wire.call("events.get_task_log", task=task)["total"] == 1
    house.client.call(DELETE_TASK, query=TaskDelete(force=True), task=task)
    with pytest.raises(Refused) as refused:
        wire.batch(batch)
    assert refused.value.subcode == 131
    with pytest.raises(Refused) as refused:
        wire.call("events.get_task_log", task=task)
    assert refused.value.subcode == 101


def test_events_are_deleted_and_the_run_goes_on(house: House, wire: ClearMLWire) -> None:
    task = record(house)
    wire.batch([scalar(task, 40, 1.0, metric="told"), image(task, 1), log(task, "x")])
    assert wire.call("events.delete_for_task", task=task) == {"deleted": True}
    assert wire.call("events.get_task_events", task=task)["total"] == 0
    found = house.client.call(QUERY_TASKS, TaskQuery(ids=[task])).tasks[0]
    assert found.metrics == ()
    rows = [(0, n, n / 4, 1e9 + n) for n in range(60)]
    later = Journal("w" * 32, rows=rows).batch(rows=(40, 60))
    house.client.call(SHIP_JOURNAL, later, task=task)
    assert wire.call("events.scalar_metrics_iter_histogram", task=task)["loss"]["train"]["x"] == list(
        range(40, 60)
    )


def test_events_of_a_model_go_with_it(house: House, wire: ClearMLWire) -> None:
    model = make_model(house)
    wire.batch([scalar(model, n, n, model_event=True) for n in range(3)])
    asked: dict[str, Any] = {"task": model, "model_events": True}
    assert len(wire.call("events.scalar_metrics_iter_histogram", **asked)["loss"]["train"]["x"]) == 3
    with pytest.raises(Refused) as refused:
        wire.call("events.scalar_metrics_iter_histogram", task=model)
    assert refused.value.subcode == 101
    wire.call("events.delete_for_model", model=model)
    assert wire.call("events.scalar_metrics_iter_histogram", **asked) == {}
    wire.batch([scalar(model, 9, 9, model_event=True)])
    house.client.call(DELETE_MODEL, model=model)
    with pytest.raises(Refused) as refused:
        wire.call("events.scalar_metrics_iter_histogram", **asked)
    assert refused.value.subcode == 201
    house.client.call(RESET_TASK, MoveRequest(), task=record_ended(house))  # any deletion takes it along
    assert (
        house.listener.house.telemetry.read_now(lambda tx: tx.exec_driver_sql("SELECT * FROM series").all()) == []
    )


def record_ended(house: House) -> str:
    task = make_task(house)
    house.client.call(START_TASK, MoveRequest(), task=task)
    house.client.call(END_TASK, Finish(outcome="completed"), task=task)
    return task


def test_a_viewer_reads_and_tells_nothing(house: House, wire: ClearMLWire) -> None:
    task = make_task(house)
    wire.batch([scalar(task, 1, 1.0)])
    viewer = ClearMLWire(house, house.make_key("viewer"))
    assert viewer.call("events.scalar_metrics_iter_histogram", task=task)
    for name in ("events.delete_for_task", "events.clear_task_log"):
        with pytest.raises(Refused) as refused:
            viewer.call(name, task=task)
        assert refused.value.code == 403
    with pytest.raises(Refused) as refused:
        viewer.batch([scalar(task, 2, 2.0)])
    assert refused.value.code == 403


@pytest.mark.parametrize(
    "name",
    [
        "events.scalar_metrics_iter_histogram",
        "events.scalar_metrics_iter_raw",
        "events.get_task_log",
        "events.get_task_events",
        "events.get_task_plots",
        "events.get_debug_image_sample",
        "events.get_scalar_metrics_and_variants",
    ],
)
@pytest.mark.parametrize(
    "body", [{}, {"task": None}, {"task": "x'; --"}, {"task": {"a": 1}}, {"task": "0" * 32, "metrics": "x"}]
)
def test_bad_questions_are_refused(wire: ClearMLWire, name: str, body: Any) -> None:
    with pytest.raises(Refused) as refused:
        wire.send(name, json.dumps(body).encode(), "application/json")
    assert refused.value.code == 400


def test_the_key_of_an_attempt_tells_its_task_nothing_after_another_began(house: House, wire: ClearMLWire) -> None:
    task, other = make_task(house), make_task(house)
    house.client.call(ENQUEUE_TASK, Enqueue(queue="q", create=True), task=task)
    worker = WorkerRegister(
        id="w1", name="w1", queues=("q",), slots=2, machine=Machine(host="here"), version="0", create_queues=True
    )
    house.client.call(REGISTER_WORKER, worker)
    lease = house.client.call(CLAIM_TASK, Claim(worker="w1", queues=("q",), lease=5.0)).lease
    assert lease is not None
    child = ClearMLWire(house, lease.key)
    child.batch([scalar(task, 1, 1.0), scalar(other, 1, 1.0)])  # other tasks are anybody's to tell about
    house.client.call(RESET_TASK, MoveRequest(force=True), task=task)
    house.client.call(ENQUEUE_TASK, Enqueue(queue="q"), task=task)
    assert house.client.call(CLAIM_TASK, Claim(worker="w1", queues=("q",), lease=5.0)).lease is not None
    with pytest.raises(Refused) as refused:
        child.batch([scalar(task, 2, 2.0)])
    assert refused.value.code in {400, 401}
    assert wire.call("events.scalar_metrics_iter_histogram", task=task) == {}
