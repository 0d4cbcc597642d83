"""Series, console, plots, artifacts and models mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
import math
import random
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.conftest import House
from tests.unit.server.telemetry import Journal, names

from taskloom.domain.artifact import Artifact, Model, ModelLink
from taskloom.domain.errors import BadInput, BlobMissing, Conflict, NotFound
from taskloom.domain.metrics import from_wire
from taskloom.wire.messages import (
    ConsoleQuery,
    ModelCreate,
    ModelQuery,
    MoveRequest,
    PlotsQuery,
    PointsQuery,
    TaskDelete,
)
from taskloom.wire.operations import (
    BLOB_STATUS,
    CREATE_MODEL,
    DELETE_TASK,
    GET_CONSOLE,
    GET_MODEL,
    GET_POINTS,
    GET_TASK,
    JOURNAL_MARKS,
    LIST_PLOTS,
    LIST_SERIES,
    QUERY_MODELS,
    RESET_TASK,
    SHIP_JOURNAL,
)
from taskloom.wire.records import ArtifactStored, Ended, ModelStored, Opened, Plotted

OPENED = Opened(mode="new", name="a run", project="results", time=1.0)
WRITER = "w" * 32
SERIES = (("loss", "train"), ("loss", "test"), (":monitor:machine", "cpu"))


def points(house: House, task: str, title: str, series: str) -> list[tuple[int, float]]:
    found = house.client.call(GET_POINTS, query=PointsQuery(title=title, series=series, points=0), task=task)
    return [(i, from_wire(v)) for i, v in zip(found.iteration, found.value, strict=True)]


def text(house: House, task: str) -> str:
    page = house.client.call(GET_CONSOLE, query=ConsoleQuery(limit=10_000), task=task)
    return "".join(entry.text for entry in page.entries)


def test_a_journal_in_shuffled_cuts_is_stored_once(any_house: House) -> None:
    chance = random.Random(7)
    task = uuid.uuid4().hex
    journal = Journal(
        WRITER,
        [OPENED, *names(*SERIES)],
        [(chance.randrange(3), n, chance.choice([n / 3, math.inf, -0.0]), 1e9 + n) for n in range(4000)],
        {"stdout": "".join(f"zeile {n} é€\n" for n in range(500)).encode()},
    )
    rows = at = 0
    while (rows, at) != (4000, len(journal.console["stdout"])):
        back, behind = (chance.randrange(min(mark, 50) + 1) for mark in (rows, at))
        pieces = {"stdout": (at - behind, at - behind + chance.randrange(1, 400))}
        batch = journal.batch((0, 4), (rows - back, min(4000, rows - back + chance.randrange(1, 300))), pieces)
        marks = any_house.client.call(SHIP_JOURNAL, batch, task=task)
        assert marks.rows >= rows
        rows, at = marks.rows, marks.console.get("stdout", 0)
    assert any_house.client.call(JOURNAL_MARKS, task=task, writer=WRITER) == marks
    for number, (title, series) in enumerate(SERIES):
        assert points(any_house, task, title, series) == [(r[1], r[2]) for r in journal.rows if r[0] == number]
    assert text(any_house, task).encode() == journal.console["stdout"]


def test_writers_at_once_are_counted_back(any_house: House) -> None:
    task = uuid.uuid4().hex
    any_house.client.call(SHIP_JOURNAL, Journal(WRITER, [OPENED]).whole(), task=task)

    def write(number: int) -> None:
        journal = Journal(
            f"{number:032x}",
            names(("shared", "a"), (f"own {number}", "a")),
            [(n % 2, n, n, n) for n in range(1000)],
            {"stdout": b"line\n" * 200},
        )
        client = any_house.client_of(any_house.key)
        for at in range(0, 1000, 100):
            client.call(SHIP_JOURNAL, journal.batch((0, 2), (at, at + 100), {"stdout": (at, at + 100)}), task=task)

    any_house.client_of(any_house.key)  # made before the threads look for it
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert points(any_house, task, "shared", "a") == sorted(
        (n, float(n)) for n in range(0, 1000, 2) for _ in range(8)
    )
    for number in range(8):
        assert points(any_house, task, f"own {number}", "a") == [(n, float(n)) for n in range(1, 1000, 2)]
    assert text(any_house, task) == "line\n" * 1600


def test_a_gap_and_an_unknown_number_are_refused(any_house: House) -> None:
    task = uuid.uuid4().hex
    journal = Journal(WRITER, [OPENED, *names(("loss", "a"))], [(0, n, n, n) for n in range(9)])
    any_house.client.call(SHIP_JOURNAL, journal.batch((0, 2), (0, 5)), task=task)
    with pytest.raises(Conflict) as refused:
        any_house.client.call(SHIP_JOURNAL, journal.batch(rows=(6, 9)), task=task)
    assert refused.value.details["marks"]["rows"] == 5
    with pytest.raises(BadInput, match="series number 3"):
        any_house.client.call(SHIP_JOURNAL, Journal(WRITER, rows=[(3, 0, 1, 1)] * 6).batch(rows=(5, 6)), task=task)


def test_extreme_numbers_and_names_come_back(any_house: House) -> None:
    task = uuid.uuid4().hex
    rows = [(0, 2**63 - 1, math.nan, 1.0), (0, -(2**63), 5e-324, 2.0), (0, 0, -math.inf, 3.0)]
    any_house.client.call(
        SHIP_JOURNAL, Journal(WRITER, [OPENED, *names(("ü'\"%_\\", "名"))], rows).whole(), task=task
    )
    (summary,) = any_house.client.call(LIST_SERIES, task=task).series
    assert (summary.title, summary.series, summary.count) == ("ü'\"%_\\", "名", 3)
    assert (summary.min, summary.min_iteration, summary.max, summary.max_iteration) == (
        "-Infinity",
        0,
        5e-324,
        -(2**63),
    )
    found = any_house.client.call(GET_POINTS, query=PointsQuery(title=summary.title, series="名"), task=task)
    assert found.iteration == [-(2**63), 0, 2**63 - 1]
    assert found.value == [5e-324, "-Infinity", "NaN"]


def test_plots_are_replaced_and_the_newest_told(any_house: House) -> None:
    task = uuid.uuid4().hex
    told = [(0, "{}"), (2**62, '{"b": 1}'), (2**62, '{"c": "é"}')]
    plots = [Plotted(title="p", series="s", iteration=i, time=1.0, kind="x", figure=f) for i, f in told]
    any_house.client.call(SHIP_JOURNAL, Journal(WRITER, [OPENED, *plots]).whole(), task=task)

    def ask(**query: bool) -> list[tuple[int, str]]:
        found = any_house.client.call(LIST_PLOTS, query=PlotsQuery(**query), task=task).plots
        return [(plot.iteration, plot.figure) for plot in found]

    assert ask() == [told[2]]
    assert ask(all_iterations=True) == [told[0], told[2]]


def test_a_reset_and_a_deletion_leave_nothing(any_house: House) -> None:
    client = any_house.client
    task = uuid.uuid4().hex
    data = b"bytes of the artifact"
    digest = hashlib.sha256(data).hexdigest()
    headers = client.address.headers()

    def run(writer: str, mode: str) -> None:
        assert (
            client.http.put(f"{any_house.url}/api/blobs/{digest}", content=data, headers=headers).status_code
            == 200
        )
        events = [
            Opened(mode=mode, name="a run", project="results", time=1.0),  # pyright: ignore[reportArgumentType]
            *names(("loss", "a")),
            ArtifactStored(artifact=Artifact("data", digest=digest)),
            ModelStored(model=Model(id=uuid.uuid4().hex, digest=digest), link=ModelLink("net", "")),
            Ended(status="completed", time=2.0),
        ]
        journal = Journal(writer, events, [(0, n, n, n) for n in range(3000)], {"stderr": b"x\n" * 1000})
        client.call(SHIP_JOURNAL, journal.whole(), task=task)
        assert len(points(any_house, task, "loss", "a")) == 3000

    run("1" * 32, "new")
    client.call(RESET_TASK, MoveRequest(), task=task)
    assert client.call(LIST_SERIES, task=task).series == []
    assert (client.call(GET_TASK, task=task).artifacts, client.call(GET_TASK, task=task).models) == ((), ())
    assert not client.call(BLOB_STATUS, digest=digest).complete
    run("2" * 32, "resume")
    client.call(DELETE_TASK, query=TaskDelete(), task=task)
    assert not client.call(BLOB_STATUS, digest=digest).complete
    with pytest.raises(NotFound):
        client.call(LIST_SERIES, task=task)
    with pytest.raises(NotFound):
        points(any_house, task, "loss", "a")


def test_models_are_found_by_name_and_tags(any_house: House) -> None:
    client = any_house.client
    for name, tags in (("Net_1", ("a", "b")), ("net 100%", ("b",)), ("Tree", ())):
        client.call(CREATE_MODEL, ModelCreate(model=Model(id="", name=name, tags=tags)))
    with pytest.raises(BlobMissing):
        client.call(CREATE_MODEL, ModelCreate(model=Model(id="", name="net", digest="0" * 64)))

    def found(**query: object) -> set[str]:
        answer = client.call(QUERY_MODELS, ModelQuery(**query))  # pyright: ignore[reportArgumentType]
        assert answer.total == len(answer.models)
        assert all(client.call(GET_MODEL, model=model.id) == model for model in answer.models)
        return {model.name for model in answer.models}

    assert found() == {"Net_1", "net 100%", "Tree"}
    assert found(name="NET") == {"Net_1", "net 100%"}
    assert found(name="_") == {"Net_1"}
    assert found(name="%") == {"net 100%"}
    assert found(tags=["a", "b"]) == {"Net_1", "net 100%"}
    assert found(tags=["__$and", "a", "b"]) == {"Net_1"}
    assert found(tags=["-a"]) == {"net 100%", "Tree"}
    assert found(tags=["__$not", "b"]) == {"Tree"}
