"""Charts, console and plots as they are read: in order, bounded, every number and byte accounted for."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Iterator
from random import Random

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.server.telemetry import Journal, Telemetry, names

from taskloom.domain.errors import BadInput, NotFound, Unavailable
from taskloom.domain.metrics import from_wire
from taskloom.server.events import QUIET, Announcements, EventBus
from taskloom.server.metrics import reading
from taskloom.server.metrics.console import PIECE
from taskloom.wire.messages import (
    ConsoleBytes,
    ConsolePage,
    ConsoleQuery,
    JournalBatch,
    PlotsQuery,
    Points,
    PointsQuery,
)
from taskloom.wire.records import Plotted


@pytest.fixture(scope="module")
def telemetry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telemetry]:
    running = Telemetry(tmp_path_factory.mktemp("telemetry"), console_limit=2**20)
    yield running
    running.close()


def record(telemetry: Telemetry, rows: list[tuple[int, float, float]]) -> str:
    task = telemetry.make_task()
    journal = Journal(events=names(("loss", "a")), rows=[(0, *row) for row in rows])
    telemetry.ship(task, journal.whole())
    return task


def read(telemetry: Telemetry, task: str, **query: object) -> Points:
    asked = PointsQuery(**{"title": "loss", "series": "a", "points": 0, **query})  # pyright: ignore[reportArgumentType]
    return telemetry.run(telemetry.service.points(task, asked))


# --- points ---------------------------------------------------------------------------------------------------


def test_points_are_told_in_the_order_of_the_axis(telemetry: Telemetry) -> None:
    task = record(telemetry, [(3, 1.0, 10.0), (1, 2.0, 30.0), (2, 3.0, 20.0), (1, 4.0, 40.0)])
    assert read(telemetry, task).value == [2.0, 4.0, 3.0, 1.0]
    assert read(telemetry, task, x="time").value == [1.0, 3.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("bounds", "iterations"),
    [
        ({"first": 3.0}, [3, 4]),
        ({"first": 2.5, "last": 3.5}, [3]),
        ({"last": 1.0}, [0, 1]),
        ({"first": 3.0, "last": 1.0}, []),
        ({"first": -math.inf, "last": math.inf}, [0, 1, 2, 3, 4]),
        ({"first": 103.0, "x": "time"}, [3, 4]),
        ({"first": 101.0, "last": 102.0, "x": "time"}, [1, 2]),
    ],
)
def test_a_range_holds_both_its_ends(
    telemetry: Telemetry, bounds: dict[str, object], iterations: list[int]
) -> None:
    task = record(telemetry, [(n, float(n), 100.0 + n) for n in range(5)])
    found = read(telemetry, task, **bounds)
    assert (found.iteration, found.count) == (iterations, len(iterations))


def test_numbers_that_json_does_not_know_are_words(telemetry: Telemetry) -> None:
    values = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308]
    task = record(telemetry, [(n, value, 1.0) for n, value in enumerate(values)])
    found = read(telemetry, task)
    assert found.value[:3] == ["NaN", "Infinity", "-Infinity"]
    through_json = msgspec.json.decode(msgspec.json.encode(found), type=Points)
    assert [repr(from_wire(value)) for value in through_json.value] == [repr(value) for value in values]


def test_iterations_at_the_ends_of_int64_come_back(telemetry: Telemetry) -> None:
    task = record(telemetry, [(2**63 - 1, 1.0, 1.0), (-(2**63), 2.0, 2.0)])
    assert read(telemetry, task).iteration == [-(2**63), 2**63 - 1]
    assert read(telemetry, task, first=9e18).iteration == [2**63 - 1]


def test_a_thinned_series_keeps_ends_extremes_and_breaks(telemetry: Telemetry) -> None:
    values = [math.sin(n / 100) for n in range(30_000)]
    values[777], values[888], values[15_000] = 99.0, -99.0, math.nan
    task = record(telemetry, [(n, value, 1e9 + n) for n, value in enumerate(values)])
    found = read(telemetry, task, points=500)
    assert found.count == 30_000
    assert 400 < len(found.iteration) <= 500
    assert {0, 777, 888, 15_000, 29_999} <= set(found.iteration)
    assert [values[i] for i in found.iteration if i != 15_000] == [v for v in found.value if v != "NaN"]
    zoomed = read(telemetry, task, points=500, first=700, last=900)
    assert zoomed.iteration == list(range(700, 901))


def test_a_series_that_grows_is_read_anew(telemetry: Telemetry) -> None:
    task = telemetry.make_task()
    journal = Journal(events=names(("loss", "a")), rows=[(0, n, 1.0, 1.0) for n in range(10)])
    for n in range(10):
        telemetry.ship(task, journal.batch((0, 1), (n, n + 1)))
        assert read(telemetry, task).count == n + 1


def test_a_series_of_an_earlier_life_is_not_remembered(telemetry: Telemetry) -> None:
    task = record(telemetry, [(0, 1.0, 1.0)])
    assert read(telemetry, task).iteration == [0]
    telemetry.run(telemetry.service.delete_task(task))
    telemetry.ship(task, Journal("w2", names(("loss", "a")), [(0, 7, 1.0, 1.0)]).whole())
    assert read(telemetry, task).iteration == [7]


def test_what_is_not_there_is_told_apart(telemetry: Telemetry) -> None:
    task = record(telemetry, [(0, 1.0, 1.0)])
    with pytest.raises(NotFound, match="no series 'nothing'"):
        read(telemetry, task, title="nothing")
    for ask in (
        telemetry.service.points("nobody", PointsQuery(title="loss", series="a")),
        telemetry.service.list_series("nobody"),
        telemetry.service.console("nobody", ConsoleQuery()),
        telemetry.service.plots("nobody", PlotsQuery()),
    ):
        with pytest.raises(NotFound, match="no task 'nobody'"):
            telemetry.run(ask)
    with pytest.raises(BadInput):
        read(telemetry, task, points=-1)


# --- console --------------------------------------------------------------------------------------------------


def printed(telemetry: Telemetry, *parts: bytes, stream: str = "stdout") -> str:
    task = telemetry.make_task()
    start = 0
    for part in parts:
        piece = ConsoleBytes(stream=stream, start=start, data=part, time=1.0)  # pyright: ignore[reportArgumentType]
        telemetry.ship(task, JournalBatch(writer="w", console=[piece]))
        start += len(part)
    return task


def page(telemetry: Telemetry, task: str, **query: object) -> ConsolePage:
    return telemetry.run(telemetry.service.console(task, ConsoleQuery(**query)))  # pyright: ignore[reportArgumentType]


def text(found: ConsolePage) -> str:
    return "".join(entry.text for entry in found.entries)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet="aé€𝄞\n", max_size=30), st.lists(st.integers(1, 5), max_size=60))
def test_a_cut_through_a_character_does_not_destroy_it(telemetry: Telemetry, whole: str, sizes: list[int]) -> None:
    data = whole.encode()
    parts: list[bytes] = []
    for size in sizes:
        parts.append(data[:size])
        data = data[size:]
    task = printed(telemetry, *(part for part in [*parts, data] if part))
    assert text(page(telemetry, task)) == whole


def test_streams_between_do_not_part_a_character(telemetry: Telemetry) -> None:
    task = telemetry.make_task()
    for stream, start, data in (("stdout", 0, b"caf\xc3"), ("stderr", 0, b"!"), ("stdout", 4, b"\xa9\n")):
        piece = ConsoleBytes(stream=stream, start=start, data=data, time=1.0)  # pyright: ignore[reportArgumentType]
        telemetry.ship(task, JournalBatch(writer="w", console=[piece]))
    assert [entry.text for entry in page(telemetry, task).entries] == ["caf", "!", "é\n"]


def test_what_is_no_text_is_replaced_and_escapes_pass(telemetry: Telemetry) -> None:
    task = printed(telemetry, b"\x00\xff\xfe \x1b[31mred\x1b[0m\n")
    assert text(page(telemetry, task)) == "\x00\ufffd\ufffd \x1b[31mred\x1b[0m\n"


def test_long_output_comes_in_pieces_that_end_with_lines(telemetry: Telemetry) -> None:
    line = b"x" * 99 + b"\n"
    task = printed(telemetry, line * 2000)
    found = page(telemetry, task).entries
    assert [entry.number for entry in found] == list(range(1, len(found) + 1))
    assert all(entry.text.endswith("\n") and len(entry.text) <= PIECE for entry in found)
    assert "".join(entry.text for entry in found).encode() == line * 2000


def test_pages_go_forward_from_a_number_or_back_from_the_end(telemetry: Telemetry) -> None:
    task = printed(telemetry, *(b"%d\n" % n for n in range(10)))
    assert text(page(telemetry, task, limit=3)) == "0\n1\n2\n"
    assert text(page(telemetry, task, after=3, limit=2)) == "3\n4\n"
    assert text(page(telemetry, task, tail=2)) == "8\n9\n"
    assert text(page(telemetry, task, tail=5, after=8)) == "8\n9\n"
    with pytest.raises(BadInput):
        page(telemetry, task, limit=0)


def test_an_answer_is_bounded_in_bytes(telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CONSOLE_ANSWER", 10)
    task = printed(telemetry, b"a" * 8, b"b" * 8, b"c" * 80)
    assert text(page(telemetry, task)) == "a" * 8
    assert text(page(telemetry, task, after=2)) == "c" * 80
    assert text(page(telemetry, task, tail=3)) == "c" * 80


def test_the_oldest_output_goes_when_a_task_has_too_much(telemetry: Telemetry) -> None:
    random = Random(0)
    task = printed(telemetry, *(random.randbytes(200_000) for _ in range(3)), *([b"."] * 600))
    found = page(telemetry, task, limit=10_000).entries
    assert found[-1].number == found[0].number + len(found) - 1
    assert len(found) >= 600
    task = printed(telemetry, *(random.randbytes(400_000) for _ in range(6)), *([b"."] * 600))
    kept = page(telemetry, task, limit=10_000).entries
    assert kept[0].number > 1
    assert kept[-1].text == "."


def test_the_end_is_told_when_nothing_follows(telemetry: Telemetry) -> None:
    task = printed(telemetry, b"1\n", b"2\n")
    assert not page(telemetry, task).ended
    telemetry.end_task(task)
    assert page(telemetry, task).ended
    assert not page(telemetry, task, limit=1).ended
    assert page(telemetry, task, after=2) == ConsolePage(entries=[], ended=True)


def test_who_waits_gets_the_next_piece(telemetry: Telemetry) -> None:
    task = printed(telemetry, b"1\n")

    async def follow() -> ConsolePage:
        waiting = asyncio.create_task(telemetry.service.console(task, ConsoleQuery(after=1, wait=20)))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        piece = ConsoleBytes(stream="stdout", start=2, data=b"2\n", time=1.0)
        await telemetry.service.append(task, JournalBatch(writer="w", console=[piece]))
        return await waiting

    assert text(telemetry.run(follow())) == "2\n"


def test_waiting_ends_with_its_time_and_with_the_server(
    telemetry: Telemetry, tmp_path_factory: pytest.TempPathFactory
) -> None:
    task = printed(telemetry, b"1\n")
    assert page(telemetry, task, after=1, wait=0.05) == ConsolePage(entries=[], ended=False)
    stopping = Telemetry(tmp_path_factory.mktemp("stopping"))
    task = stopping.make_task()

    async def stop_while_somebody_waits() -> ConsolePage:
        waiting = asyncio.create_task(stopping.service.console(task, ConsoleQuery(wait=25)))
        await asyncio.sleep(0.05)
        stopping.bus.close()
        return await asyncio.wait_for(waiting, 10)

    with pytest.raises(Unavailable):
        stopping.run(stop_while_somebody_waits())
    stopping.close()


# --- plots ----------------------------------------------------------------------------------------------------


def plot(title: str, series: str, iteration: int, figure: str) -> Plotted:
    return Plotted(title=title, series=series, iteration=iteration, time=1.0, kind="plotly", figure=figure)


def test_the_newest_plot_of_each_series_is_told_or_all(telemetry: Telemetry) -> None:
    task = telemetry.make_task()
    events = [
        plot("p", "a", 0, "{}"),
        plot("p", "a", 5, '{"newest": 1}'),
        plot("p", "b", 2, '{"b": 1}'),
        plot("q", "a", 0, '{"old": 1}'),
        plot("q", "a", 0, '{"replaced": "é"}'),
    ]
    telemetry.ship(task, JournalBatch(writer="w", events=events))

    def told(**query: object) -> list[tuple[str, str, int, str]]:
        found = telemetry.run(telemetry.service.plots(task, PlotsQuery(**query)))  # pyright: ignore[reportArgumentType]
        return [(p.title, p.series, p.iteration, p.figure) for p in found]

    newest = [("p", "a", 5, '{"newest": 1}'), ("p", "b", 2, '{"b": 1}'), ("q", "a", 0, '{"replaced": "é"}')]
    assert told() == newest
    assert told(title="q") == newest[2:]
    assert told(all_iterations=True) == [("p", "a", 0, "{}"), *newest]
    assert told(title="none") == []


# --- live events ----------------------------------------------------------------------------------------------


def test_a_burst_is_told_at_once_and_once_more_at_its_end() -> None:
    async def watch() -> list[str]:
        bus = EventBus()
        live = Announcements(bus, lambda: 5.0)
        async with bus.subscribe(task="t") as watcher:
            for _ in range(100):
                live.tell("metrics", "t", "p")
            first = await watcher.next(0)
            second = await watcher.next(10)
            third = await watcher.next(3 * QUIET)
            return [event.kind if event else "" for event in (first, second, third)]

    assert asyncio.run(watch()) == ["metrics", "metrics", ""]


def test_appending_tells_what_grew(telemetry: Telemetry) -> None:
    task = uuid.uuid4().hex
    journal = Journal(
        events=[*names(("loss", "a")), plot("p", "a", 0, "{}")], rows=[(0, 0, 1.0, 1.0)], console={"stderr": b"!"}
    )

    async def watch() -> list[tuple[str, str]]:
        async with telemetry.bus.subscribe(task=task) as watcher:
            await telemetry.service.append(task, journal.whole(), "a/project")
            told = [await watcher.next(10) for _ in range(3)]
            await telemetry.service.append(task, journal.whole(), "a/project")
            assert await watcher.next(2 * QUIET) is None
            return [(event.kind, event.project) for event in told if event]

    assert telemetry.run(watch()) == [("metrics", "a/project"), ("console", "a/project"), ("plots", "a/project")]
