"""Scalars and console through a real server: told in both forms, and counted back after it was killed."""

from __future__ import annotations

import json
import math
import threading
import time
import uuid
from collections.abc import Iterator

import pytest
from tests.conftest import House, HouseProcess
from tests.unit.server.telemetry import Journal, names

from taskloom.domain.errors import BadInput, NotFound, ServerAway, TaskloomError, Unavailable
from taskloom.wire.messages import ConsoleQuery, JournalBatch, MoveRequest, PlotsQuery, PointsQuery
from taskloom.wire.operations import (
    GET_CONSOLE,
    GET_POINTS,
    JOURNAL_MARKS,
    LIST_PLOTS,
    LIST_SERIES,
    RESET_TASK,
    SHIP_JOURNAL,
)
from taskloom.wire.records import Ended, Opened, Plotted

OPENED = Opened(mode="new", name="a run", project="metrics", time=1.0)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    running = House(tmp_path_factory.mktemp("lasting") / "house")
    yield running
    running.stop()


def test_a_series_is_told_in_json_and_msgpack(lasting: House) -> None:
    task = uuid.uuid4().hex
    rows = [(0, n, value, 1e9 + n) for n, value in enumerate([1.0, math.nan, math.inf, -math.inf, 0.1])]
    lasting.client.call(SHIP_JOURNAL, Journal("w" * 32, [OPENED, *names(("a/b", "c d"))], rows).whole(), task=task)
    packed = lasting.client.call(GET_POINTS, query=PointsQuery(title="a/b", series="c d", points=0), task=task)
    headers = lasting.client.address.headers()
    answer = lasting.client.http.get(
        f"{lasting.url}/api/tasks/{task}/scalars/points?title=a/b&series=c+d&points=0", headers=headers
    )
    told = json.loads(answer.content, parse_constant=pytest.fail)
    assert told["value"] == packed.value == [1.0, "NaN", "Infinity", "-Infinity", 0.1]
    assert told["iteration"] == packed.iteration == [0, 1, 2, 3, 4]
    (summary,) = lasting.client.call(LIST_SERIES, task=task).series
    assert (summary.count, summary.min, summary.max, summary.last) == (5, "-Infinity", "Infinity", 0.1)


def test_plots_and_console_are_told(lasting: House) -> None:
    task = uuid.uuid4().hex
    plot = Plotted(title="p", series="s", iteration=3, time=1.0, kind="table", figure='{"data": []}')
    journal = Journal(
        "w" * 32, [OPENED, plot], console={"stdout": b"out\n", "stderr": b"err\n", "report": b"rep\n"}
    )
    lasting.client.call(SHIP_JOURNAL, journal.whole(), task=task)
    page = lasting.client.call(GET_CONSOLE, query=ConsoleQuery(), task=task)
    assert {(e.stream, e.text) for e in page.entries} == {
        ("stdout", "out\n"),
        ("stderr", "err\n"),
        ("report", "rep\n"),
    }
    assert not page.ended
    (told,) = lasting.client.call(LIST_PLOTS, query=PlotsQuery(), task=task).plots
    assert (told.kind, told.iteration, told.figure) == ("table", 3, '{"data": []}')
    end = JournalBatch(writer="w" * 32, events_start=2, events=[Ended(status="completed", time=2.0)])
    lasting.client.call(SHIP_JOURNAL, end, task=task)
    assert lasting.client.call(GET_CONSOLE, query=ConsoleQuery(after=3, wait=30), task=task).ended


def test_numbers_out_of_bounds_are_refused(lasting: House) -> None:
    task = uuid.uuid4().hex
    lasting.client.call(SHIP_JOURNAL, Journal("w" * 32, [OPENED]).whole(), task=task)
    for query in (
        ConsoleQuery(after=-1),
        ConsoleQuery(after=2**63),
        ConsoleQuery(wait=math.nan),
        ConsoleQuery(tail=-1),
    ):
        with pytest.raises(BadInput):
            lasting.client.call(GET_CONSOLE, query=query, task=task)
    with pytest.raises(NotFound):
        lasting.client.call(GET_POINTS, query=PointsQuery(title="no", series="such"), task=task)


def test_a_reset_leaves_no_telemetry(lasting: House) -> None:
    task = uuid.uuid4().hex
    journal = Journal(
        "w" * 32,
        [
            OPENED,
            *names(("loss", "a")),
            Plotted(title="p", series="s", iteration=3, time=1.0, kind="x", figure="{}"),
        ],
        [(0, n, n, n) for n in range(100)],
        {"stdout": b"out\n"},
    )
    lasting.client.call(SHIP_JOURNAL, journal.whole(), task=task)
    end = JournalBatch(writer="w" * 32, events_start=3, events=[Ended(status="completed", time=2.0)])
    lasting.client.call(SHIP_JOURNAL, end, task=task)
    lasting.client.call(RESET_TASK, MoveRequest(), task=task)
    assert lasting.client.call(LIST_SERIES, task=task).series == []
    assert lasting.client.call(LIST_PLOTS, query=PlotsQuery(), task=task).plots == []
    assert lasting.client.call(GET_CONSOLE, query=ConsoleQuery(), task=task).entries == []


def test_the_server_killed_again_and_again_loses_and_doubles_nothing(house_process: HouseProcess) -> None:
    """Four writers of one task send in odd pieces; whoever hears nothing asks for the marks and goes on."""
    task, count = uuid.uuid4().hex, 3000
    writers = [f"{n:032x}" for n in range(4)]
    key, url = house_process.key, house_process.url
    house_process.client.call(SHIP_JOURNAL, Journal(writers[0], [OPENED]).whole(), task=task)
    acknowledged = dict.fromkeys(writers, 0)

    def write(writer: str, first: int) -> None:
        from taskloom.wire.client import Address
        from taskloom.wire.send import Client

        opened = [OPENED] if first == 0 else []
        journal = Journal(
            writer,
            [*opened, *names((f"own {writer}", "a"), ("shared", "a"))],
            [(n % 2, n, n / 3, 1e9 + n) for n in range(count)],
            {"stdout": b"".join(b"%d\n" % n for n in range(count))},
        )
        size = len(journal.console["stdout"])
        client = Client(Address(url, key))
        rows = at = 0
        while (rows, at) != (count, size):
            batch = journal.batch((0, len(journal.events)), (rows, rows + 37), {"stdout": (at, at + 101)})
            try:
                marks = client.call(SHIP_JOURNAL, batch, task=task)
            except (ServerAway, Unavailable):
                marks = None
                while marks is None:
                    time.sleep(0.01)
                    try:
                        marks = client.call(JOURNAL_MARKS, task=task, writer=writer)
                    except (ServerAway, Unavailable):
                        continue
                assert marks.rows >= acknowledged[writer], "what was acknowledged is there"
            rows, at = marks.rows, marks.console.get("stdout", 0)
            acknowledged[writer] = rows
        client.close()

    errors: list[TaskloomError] = []

    def run(writer: str, first: int) -> None:
        try:
            write(writer, first)
        except TaskloomError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(writer, n)) for n, writer in enumerate(writers)]
    for thread in threads:
        thread.start()
    for kill in range(3):
        while sum(acknowledged.values()) < (kill + 1) * count // 2 and any(t.is_alive() for t in threads):
            time.sleep(0.01)
        house_process.kill9()
        house_process.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    client = house_process.client
    for writer in writers:
        own = client.call(GET_POINTS, query=PointsQuery(title=f"own {writer}", series="a", points=0), task=task)
        assert list(zip(own.iteration, own.value, strict=True)) == [(n, n / 3) for n in range(0, count, 2)]
    shared = client.call(GET_POINTS, query=PointsQuery(title="shared", series="a", points=0), task=task)
    assert shared.iteration == sorted(n for n in range(1, count, 2) for _ in writers)
    text, after = "", 0
    while page := client.call(GET_CONSOLE, query=ConsoleQuery(after=after), task=task).entries:
        text, after = text + "".join(entry.text for entry in page), page[-1].number
    assert len(text) == len(writers) * len("".join(f"{n}\n" for n in range(count)))
