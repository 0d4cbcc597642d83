"""What runs send is stored once and whole, however it was cut and by however many at once."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.server.telemetry import Journal, Row, Telemetry, names

from taskloom.domain.errors import BadInput, Conflict
from taskloom.domain.metrics import SINGLE_VALUE, SeriesSummary
from taskloom.server import tables
from taskloom.wire.messages import JournalBatch, JournalMarks, PointsQuery, ScalarColumns
from taskloom.wire.records import Plotted, SeriesNamed


@pytest.fixture(scope="module")
def telemetry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telemetry]:
    running = Telemetry(tmp_path_factory.mktemp("telemetry"))
    yield running
    running.close()


def points(telemetry: Telemetry, task: str, title: str = "loss", series: str = "a") -> list[tuple[int, object]]:
    found = telemetry.run(telemetry.service.points(task, PointsQuery(title=title, series=series, points=0)))
    assert found.count == len(found.iteration) == len(found.value) == len(found.time)
    return list(zip(found.iteration, found.value, strict=True))


def console(telemetry: Telemetry, task: str) -> dict[str, str]:
    from taskloom.server.metrics.reading import console_page
    from taskloom.wire.messages import ConsoleQuery

    page, _ = telemetry.telemetry.read_now(lambda tx: console_page(tx, task, ConsoleQuery(limit=10_000)))
    return {s: "".join(e.text for e in page if e.stream == s) for s in ("stdout", "stderr", "report")}


# --- cuts -----------------------------------------------------------------------------------------------------

ROW = st.tuples(
    st.integers(0, 2),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.floats(0, 2e9),
)


@st.composite
def cut_journals(draw: st.DrawFn) -> tuple[Journal, list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """A journal, and for rows and bytes the (go back, take) steps in which a shaky shipper sends them."""
    journal = Journal(
        events=names(("loss", "a"), ("loss", "b"), ("other", "c")),
        rows=draw(st.lists(ROW, max_size=200)),
        console={"stdout": draw(st.text(max_size=200)).encode()},
    )
    steps = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 60), st.integers(0, 3)), max_size=12)
    return journal, draw(steps), draw(steps)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut_journals())
def test_any_cut_sent_any_number_of_times_is_stored_once(
    telemetry: Telemetry, given_: tuple[Journal, list[tuple[int, int, int]], list[tuple[int, int, int]]]
) -> None:
    journal, row_steps, byte_steps = given_
    task = uuid.uuid4().hex
    text = journal.console["stdout"]
    marks = JournalMarks()
    for n in range(max(len(row_steps), len(byte_steps))):
        back, take, events = row_steps[n] if n < len(row_steps) else (0, 0, 3)
        behind, much, _ = byte_steps[n] if n < len(byte_steps) else (0, 0, 0)
        start = max(0, marks.rows - back)
        at = max(0, marks.console.get("stdout", 0) - behind)
        batch = journal.batch((min(events, marks.events), 3), (start, start + take), {"stdout": (at, at + much)})
        marks = telemetry.ship(task, batch).marks
    marks = telemetry.ship(task, journal.whole()).marks
    again = telemetry.ship(task, journal.whole())
    assert (again.summaries, again.console) == ((), False)
    assert again.marks == marks == telemetry.run(telemetry.service.marks(task, "w"))
    assert (marks.rows, marks.console.get("stdout", 0)) == (len(journal.rows), len(text))
    for number, (title, series) in enumerate([("loss", "a"), ("loss", "b"), ("other", "c")]):
        expected = [(r[1], r[2]) for r in journal.rows if r[0] == number]
        stored = points(telemetry, task, title, series)
        assert sorted(stored, key=repr) == sorted(
            ((i, v if math.isfinite(v) else "Infinity" if v > 0 else "-Infinity") for i, v in expected), key=repr
        )
    assert console(telemetry, task)["stdout"] == text.decode()


@pytest.mark.parametrize("size", [1, 7, 63, 64, 65, 1000, 9000])
def test_points_come_back_in_order_from_batches_of_any_size(telemetry: Telemetry, size: int) -> None:
    task = uuid.uuid4().hex
    count = 20_000 if size > 60 else 1500
    journal = Journal(events=names(("loss", "a")), rows=[(0, n, n / 7, 1e9 + n) for n in range(count)])
    for at in range(0, count, size):
        telemetry.ship(task, journal.batch((0, 1), (at, min(at + size, count))))
    assert points(telemetry, task) == [(n, n / 7) for n in range(count)]
    (series,) = [row for row in telemetry.rows(tables.series) if row.task_id == task]
    chunks = sorted(
        (c for c in telemetry.rows(tables.chunks) if c.series_id == series.id), key=lambda c: c.position
    )
    assert [c.position for c in chunks] == [sum(d.count for d in chunks[:n]) for n in range(len(chunks))]
    assert sum(c.count for c in chunks) == count
    assert len(chunks) <= count // 8192 + 8 + 16 + 1


def test_eight_writers_at_once_lose_and_double_nothing(telemetry: Telemetry) -> None:
    task = uuid.uuid4().hex

    async def writer(name: str) -> None:
        journal = Journal(name, names(("loss", "shared"), ("loss", name)), [(n % 2, n, n, n) for n in range(2000)])
        for at in range(0, 2000, 250):
            batch = journal.batch((0, 2), (at, at + 250))
            await asyncio.gather(telemetry.service.append(task, batch), telemetry.service.append(task, batch))

    async def all_of_them() -> None:
        await asyncio.gather(*(writer(f"w{n}") for n in range(8)))

    telemetry.run(all_of_them())
    shared = points(telemetry, task, "loss", "shared")
    assert shared == sorted((n, float(n)) for n in range(0, 2000, 2) for _ in range(8))
    for name in range(8):
        assert points(telemetry, task, "loss", f"w{name}") == [(n, float(n)) for n in range(1, 2000, 2)]


def test_two_numbers_of_a_writer_may_mean_one_series(telemetry: Telemetry) -> None:
    task = uuid.uuid4().hex
    journal = Journal(events=names(("loss", "a"), ("loss", "a")), rows=[(n % 2, n, n, n) for n in range(100)])
    (summary,) = telemetry.ship(task, journal.whole()).summaries
    assert summary.count == 100
    assert points(telemetry, task) == [(n, float(n)) for n in range(100)]


# --- refusals -------------------------------------------------------------------------------------------------


def test_a_gap_is_refused_with_the_marks(telemetry: Telemetry) -> None:
    task = uuid.uuid4().hex
    journal = Journal(
        events=names(("loss", "a")), rows=[(0, n, n, n) for n in range(9)], console={"stdout": b"text"}
    )
    telemetry.ship(task, journal.batch((0, 1), (0, 5), {"stdout": (0, 2)}))
    for ahead in (
        journal.batch(rows=(6, 9)),
        journal.batch(console={"stdout": (3, 4)}),
        JournalBatch(writer="w", events_start=2, events=journal.events),
    ):
        with pytest.raises(Conflict) as refused:
            telemetry.ship(task, ahead)
        assert refused.value.details["marks"] == {"events": 1, "rows": 5, "console": {"stdout": 2}}


def test_a_refused_batch_leaves_nothing(telemetry: Telemetry) -> None:
    task = uuid.uuid4().hex
    journal = Journal(
        events=names(("loss", "a")), rows=[(0, 1, 1.0, 1.0), (7, 1, 1.0, 1.0)], console={"stdout": b"text"}
    )
    with pytest.raises(BadInput, match="series number 7"):
        telemetry.ship(task, journal.whole())
    assert telemetry.run(telemetry.service.marks(task, "w")) == JournalMarks()
    assert telemetry.run(telemetry.service.summaries(task)) == ()


@pytest.mark.parametrize(
    "broken",
    [
        ScalarColumns(start=0, series=b"\0" * 4, iteration=b"\0" * 8, value=b"\0" * 8, time=b""),
        ScalarColumns(start=0, series=b"\0" * 3, iteration=b"", value=b"", time=b""),
    ],
)
def test_columns_of_different_lengths_are_refused(telemetry: Telemetry, broken: ScalarColumns) -> None:
    with pytest.raises(BadInput, match="scalar columns"):
        telemetry.ship(uuid.uuid4().hex, JournalBatch(writer="w", scalars=broken))


@pytest.mark.parametrize("title", ["x" * 1025, "nul\0"])
def test_names_that_no_database_holds_are_refused(telemetry: Telemetry, title: str) -> None:
    with pytest.raises(BadInput, match="title"):
        telemetry.ship(
            uuid.uuid4().hex, JournalBatch(writer="w", events=[SeriesNamed(number=0, title=title, series="a")])
        )


@pytest.mark.parametrize(
    ("iteration", "offset"), [(2**63 - 1, 1), (-(2**63), -1), (0, 2**63), (5, 2**63 - 1), (0, -(2**63) - 1)]
)
def test_an_offset_beyond_64_bits_is_refused(telemetry: Telemetry, iteration: int, offset: int) -> None:
    journal = Journal(events=names(("loss", "a")), rows=[(0, iteration, 1.0, 1.0)])
    with pytest.raises(BadInput, match="64 bits"):
        telemetry.ship(uuid.uuid4().hex, journal.whole(offset))


def test_an_offset_moves_iterations_but_not_single_values(telemetry: Telemetry) -> None:
    task = uuid.uuid4().hex
    journal = Journal(
        events=names(("loss", "a")), rows=[(0, SINGLE_VALUE, 3.0, 1.0), (0, 0, 1.0, 1.0), (0, 1, 2.0, 1.0)]
    )
    telemetry.ship(task, journal.whole(offset=2**63 - 2))
    assert points(telemetry, task) == [(SINGLE_VALUE, 3.0), (2**63 - 2, 1.0), (2**63 - 1, 2.0)]


# --- summaries ------------------------------------------------------------------------------------------------


def summary_of(rows: list[Row]) -> SeriesSummary:
    """By the definition, point by point."""
    known = [r for r in rows if not math.isnan(r[2])]
    finite = [r[2] for r in rows if math.isfinite(r[2])]
    low = min(known, key=lambda r: r[2], default=rows[0])
    high = max(known, key=lambda r: r[2], default=rows[0])

    def told(value: float) -> float | str:
        return value if math.isfinite(value) else "NaN" if math.isnan(value) else f"{'-' * (value < 0)}Infinity"

    return SeriesSummary(  # pyright: ignore[reportArgumentType]
        "loss",
        "a",
        len(rows),
        told(rows[-1][2]),
        rows[-1][1],
        told(low[2]),
        low[1],
        told(high[2]),
        high[1],
        rows[0][3],
        rows[-1][3],
        told(rows[0][2]),
        pytest.approx(sum(finite) / len(finite)) if finite else "NaN",
        len(finite),
        min(r[1] for r in rows),
        max(r[1] for r in rows),
    )


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.just(0),
            st.integers(-9, 9),
            st.sampled_from([1.5, -2.0, math.nan, math.inf, -math.inf]),
            st.floats(0, 9),
        ),
        min_size=1,
        max_size=40,
    ),
    st.integers(1, 40),
)
def test_summaries_are_what_the_points_say(telemetry: Telemetry, rows: list[Row], size: int) -> None:
    task = uuid.uuid4().hex
    journal = Journal(events=names(("loss", "a")), rows=rows)
    for at in range(0, len(rows), size):
        (summary,) = telemetry.ship(task, journal.batch((0, 1), (at, at + size))).summaries
    assert telemetry.run(telemetry.service.summaries(task)) == (summary,)
    if any(not math.isnan(row[2]) for row in rows):
        assert summary == summary_of(rows)
    else:
        assert (summary.min, summary.max, summary.last) == ("NaN", "NaN", "NaN")


def test_the_mean_of_very_great_values_is_a_number(telemetry: Telemetry) -> None:
    task = uuid.uuid4().hex
    journal = Journal(events=names(("loss", "a")), rows=[(0, n, 1.7e308, n) for n in range(5)])
    telemetry.ship(task, journal.batch((0, 1), (0, 3)))
    (summary,) = telemetry.ship(task, journal.batch((0, 1), (3, 5))).summaries
    assert summary.mean == pytest.approx(1.7e308)


def test_a_summary_of_an_early_version_learns_what_it_lacks_when_its_series_grows(telemetry: Telemetry) -> None:
    task = uuid.uuid4().hex
    journal = Journal(events=names(("loss", "a")), rows=[(0, n, n, n) for n in range(9, -1, -1)])
    telemetry.ship(task, journal.batch((0, 1), (0, 9)))
    known = {"title": "loss", "series": "a", "count": 9, "last": 1.0, "last_iteration": 1, "first_time": 9.0}
    early = msgspec.msgpack.encode({**known, "min": 1.0, "min_iteration": 1, "max": 9.0, "max_iteration": 9})
    row = tables.series.update().where(tables.series.c.task_id == task).values(summary=early)
    telemetry.telemetry.write_now(lambda tx: tx.execute(row))
    (told,) = telemetry.run(telemetry.service.summaries(task))
    assert (told.count, told.mean, told.greatest) == (9, "NaN", None)
    (summary,) = telemetry.ship(task, journal.batch((0, 1), (9, 10))).summaries
    assert (summary.first, summary.mean, summary.finite, summary.greatest) == (9.0, 4.5, 10, 9)


def test_summaries_stay_dirty_until_their_newest_state_was_seen(tmp_path: Path) -> None:
    telemetry = Telemetry(tmp_path)
    journal = Journal(events=names(("loss", "a"), ("loss", "b")), rows=[(n % 2, n, n, n) for n in range(10)])
    telemetry.ship("t", journal.batch((0, 2), (0, 4)))
    seen = telemetry.run(telemetry.service.dirty_summaries(10))
    assert {(d.task, d.summary.series, d.summary.count) for d in seen} == {("t", "a", 2), ("t", "b", 2)}
    telemetry.ship("t", journal.batch(rows=(4, 5)))
    telemetry.run(telemetry.service.clear_dirty(seen))
    (left,) = telemetry.run(telemetry.service.dirty_summaries(10))
    assert (left.summary.series, left.summary.count) == ("a", 3)
    telemetry.run(telemetry.service.clear_dirty([left]))
    assert telemetry.run(telemetry.service.dirty_summaries(10)) == []
    telemetry.close()


# --- deleting -------------------------------------------------------------------------------------------------


def test_deleting_a_task_leaves_nothing_of_it_and_all_of_others(tmp_path: Path) -> None:
    telemetry = Telemetry(tmp_path)
    journal = Journal(
        events=[
            *names(("loss", "a"), ("loss", "b")),
            Plotted(title="p", series="s", iteration=0, time=1.0, kind="plotly", figure="{}"),
        ],
        rows=[(n % 2, n, n, n) for n in range(3000)],
        console={"stdout": b"line\n" * 100_000},
    )
    for task in ("gone", "kept"):
        for at in range(0, 3000, 10):
            telemetry.ship(task, journal.batch((0, 3), (at, at + 10)))
        telemetry.ship(task, journal.whole())
    telemetry.run(telemetry.service.delete_task("gone"))
    for table in (tables.series, tables.series_numbers, tables.console, tables.plots, tables.marks):
        assert {row.task_id for row in telemetry.rows(table)} == {"kept"}
    assert {c.series_id for c in telemetry.rows(tables.chunks)} == {s.id for s in telemetry.rows(tables.series)}
    assert points(telemetry, "kept") == [(n, float(n)) for n in range(0, 3000, 2)]
    telemetry.ship("gone", Journal("w2", names(("loss", "a")), [(0, 5, 5.0, 5.0)]).whole())
    assert points(telemetry, "gone") == [(5, 5.0)]
    telemetry.close()
