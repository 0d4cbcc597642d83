"""What a writer has committed is what a reader sees: in any cut, after any death."""

from __future__ import annotations

import math
import os
import signal
import struct
import subprocess
import sys
import textwrap
import threading
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskloom.domain.errors import TooLarge
from taskloom.domain.task import TaskEdit
from taskloom.journal import layout
from taskloom.journal.reader import Reader
from taskloom.journal.writer import Writer
from taskloom.wire.records import Edited, Ended, SeriesNamed

TASK = "a" * 32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def begin(root: Path, **more: str) -> Writer:
    return Writer.create(root, TASK, role="main", **more)  # type: ignore[arg-type]


def edit(number: int, size: int = 0) -> Edited:
    return Edited(edit=TaskEdit(comment=f"{number}" + "x" * size), time=float(number))


def test_rows_and_records_come_back_as_they_were_written(root: Path) -> None:
    writer = begin(root, name="a name", project="some/project")
    loss = writer.name_series("loss", "train")
    for iteration, value in [(0, 0.5), (-7, math.inf), (2**63 - 1, -0.0), (5, math.nan)]:
        writer.scalar(loss, iteration, value, 10.0)
    writer.record(Ended(status="completed", time=3.0))
    reader = Reader(writer.folder)
    assert (reader.meta.name, reader.meta.project, reader.meta.role) == ("a name", "some/project", "main")
    assert reader.records(0) == [
        SeriesNamed(number=0, title="loss", series="train"),
        Ended(status="completed", time=3.0),
    ]
    rows = reader.rows()
    assert [row[:2] for row in rows] == [(0, 0), (0, -7), (0, 2**63 - 1), (0, 5)]
    assert [row[2] for row in rows[:3]] == [0.5, math.inf, -0.0]
    assert math.isnan(rows[3][2])
    writer.close()


def test_many_series_at_one_iteration_are_one_call(root: Path) -> None:
    writer = begin(root)
    pairs = [(writer.name_series("loss", f"s{n}"), n / 2) for n in range(20)]
    writer.scalars(pairs, 3, 1.0)
    assert [(n, i, v) for n, i, v, _ in Reader(writer.folder).rows()] == [(n, 3, n / 2) for n in range(20)]


def test_rows_go_on_in_the_next_segment(root: Path) -> None:
    writer = begin(root)
    number = writer.name_series("a", "b")
    count = layout.SEGMENT_ROWS * 2 + 3
    for iteration in range(count - 40):
        writer.scalar(number, iteration, 1.0, 0.0)
    writer.scalars([(number, 1.0)] * 40, count, 0.0)
    reader = Reader(writer.folder)
    assert writer.rows == reader.row_count() == count
    columns = reader.columns(layout.SEGMENT_ROWS - 2, 4)
    assert columns is not None
    assert array("q", columns.iteration).tolist() == [layout.SEGMENT_ROWS + n for n in (-2, -1, 0, 1)]
    assert array("I", columns.series).tolist() == [0] * 4
    assert reader.columns(count, 10) is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3000), max_size=30), st.integers(0, 5000))
def test_records_are_read_from_any_position_in_any_cut(tmp_path_factory: pytest.TempPathFactory, sizes: list[int],
                                                       cut: int) -> None:  # fmt: skip
    writer = begin(tmp_path_factory.mktemp("journal"))
    written = [edit(number, size) for number, size in enumerate(sizes)]
    for record in written:
        writer.record(record)
    reader = Reader(writer.folder)
    found: list[object] = []
    while piece := reader.records(len(found), cut):
        found += piece
    assert found == written
    writer.close()


def test_a_reader_goes_on_where_it_was_while_the_writer_writes(root: Path) -> None:
    writer = begin(root)
    reader = Reader(writer.folder)
    for number in range(5):
        assert reader.record_count() == number
        assert reader.row_count() == number
        writer.record(edit(number, 200_000 * number))
        writer.scalar(0, number, 1.0, 0.0)
    assert len(reader.records(0)) == 5


def test_half_a_record_is_not_there(root: Path) -> None:
    writer = begin(root)
    writer.record(edit(1))
    writer.record(edit(2))
    writer.close()
    events = writer.folder / layout.EVENTS_FILE
    whole = events.read_bytes()
    for length in range(len(whole)):
        events.write_bytes(whole[:length])
        expected = 0 if length < len(whole) // 2 else 1
        reader = Reader(writer.folder)
        assert reader.record_count() == expected
        assert reader.records_end() == expected * (len(whole) // 2)


def test_a_row_that_was_not_committed_is_not_there(root: Path) -> None:
    writer = begin(root)
    for iteration in range(3):
        writer.scalar(0, iteration, 1.0, 0.0)
    segment = writer.folder / layout.segment_name(0)
    with segment.open("r+b") as file:  # everything of the fourth row but its last word
        file.seek(3 * layout.ROW_BYTES)
        file.write(struct.pack("<qdd", 3, 1.0, 0.0))
    assert Reader(writer.folder).row_count() == 3


def test_a_record_that_no_server_takes_is_refused(root: Path) -> None:
    writer = begin(root)
    with pytest.raises(TooLarge, match="at most"):
        writer.record(edit(1, layout.MAX_RECORD))
    writer.record(edit(2))
    assert Reader(writer.folder).record_count() == 1


def test_an_iteration_past_64_bits_leaves_no_hole(root: Path) -> None:
    writer = begin(root)
    writer.scalar(0, 1, 1.0, 0.0)
    with pytest.raises(struct.error):
        writer.scalar(0, 2**63, 1.0, 0.0)
    with pytest.raises(struct.error):
        writer.scalars([(0, 1.0), (0, 2.0)], -(2**70), 0.0)
    writer.scalar(0, 2, 1.0, 0.0)
    assert [row[1] for row in Reader(writer.folder).rows()] == [1, 2]


def test_the_lock_tells_who_is_alive(root: Path) -> None:
    writer = begin(root)
    reader = Reader(writer.folder)
    assert reader.alive()
    writer.close()
    assert not reader.alive()
    assert reader.record_count() == 0


def test_what_comes_after_close_is_counted_and_told(root: Path) -> None:
    told: list[str] = []
    writer = Writer.create(root, TASK, role="main", tell=told.append)
    writer.close()
    writer.record(edit(1))
    writer.scalar(0, 1, 1.0, 0.0)
    writer.scalar(0, 2, 1.0, 0.0)
    assert writer.lost == 3
    assert len(told) == 1


def test_threads_lose_nothing_and_double_nothing(root: Path) -> None:
    writer = begin(root)
    each, threads = 20_000, 4

    def work(thread: int) -> None:
        number = writer.name_series("loss", f"thread {thread}")
        for iteration in range(each):
            writer.scalar(number, iteration, float(thread), 0.0)
            if iteration % 1000 == 0:
                writer.record(edit(iteration))

    running = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    reader = Reader(writer.folder)
    rows = reader.rows()
    assert len(rows) == each * threads
    for number in range(threads):
        assert [row[1] for row in rows if row[0] == number] == list(range(each))
    assert reader.record_count() == threads + threads * each // 1000


def test_a_forked_child_writes_its_own_files(root: Path) -> None:
    writer = begin(root)
    number = writer.name_series("loss", "parent")
    writer.scalar(number, 1, 1.0, 0.0)
    child = os.fork()
    if child == 0:
        try:
            writer.become_child()
            writer.scalar(writer.name_series("loss", "child"), 2, 2.0, 0.0)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    writer.scalar(number, 3, 3.0, 0.0)
    folders = layout.writer_folders(root / TASK)
    readers = [Reader(folder) for folder in folders]
    assert [reader.meta.role for reader in readers] == ["main", "child"]
    assert [[row[1] for row in reader.rows()] for reader in readers] == [[1, 3], [2]]
    assert readers[0].alive()  # the child gave the inherited lock away, not free
    assert not readers[1].alive()
    writer.close()


def test_a_living_child_does_not_keep_its_parent_alive(root: Path) -> None:
    writer = begin(root)
    stop, stopping = os.pipe()
    ready, telling = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(stopping)
        writer.become_child()
        os.write(telling, b"x")
        os.read(stop, 1)
        os._exit(0)
    os.read(ready, 1)
    writer.close()
    alive = Reader(writer.folder).alive()
    os.close(stopping)
    os.waitpid(child, 0)
    assert not alive


def test_a_child_that_records_nothing_leaves_no_folder(root: Path) -> None:
    writer = begin(root)
    child = os.fork()
    if child == 0:
        writer.become_child()
        os._exit(0)
    os.waitpid(child, 0)
    assert len(layout.writer_folders(root / TASK)) == 1


def test_a_signal_handler_may_report_in_the_middle_of_a_report(root: Path) -> None:
    """The handler runs between any two instructions of the script, also while the writer's lock is held."""
    writer = begin(root)
    handled = 0

    def handler(number: int, frame: object) -> None:
        nonlocal handled
        handled += 1
        writer.scalar(1, handled, 1.0, 0.0)
        writer.record(edit(handled))

    old = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for iteration in range(100_000):
            writer.scalar(0, iteration, 1.0, 0.0)
            writer.scalars([(0, 1.0)] * 2, iteration, 0.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    rows = Reader(writer.folder).rows()
    assert handled > 0
    assert [row[1] for row in rows if row[0] == 1] == list(range(1, handled + 1))
    assert [row[1] for row in rows if row[0] == 0] == [n // 3 for n in range(300_000)]
    assert Reader(writer.folder).record_count() == handled


KILLED = """
    import sys, time
    from pathlib import Path
    from taskloom.journal.writer import Writer
    from taskloom.domain.task import TaskEdit
    from taskloom.wire.records import Edited
    writer = Writer.create(Path(sys.argv[1]), "a" * 32, role="main")
    number = writer.name_series("loss", "train")
    out = open(1, "wb", buffering=0)
    for n in range(10_000_000):
        writer.scalar(number, n, n / 2, time.time())
        if n % 1000 == 0:
            writer.record(Edited(edit=TaskEdit(comment=str(n)), time=0.0))
            out.write(b"%d\\n" % n)
"""


@pytest.mark.parametrize("reports", [1, 7, 60])
def test_a_killed_process_loses_nothing_that_a_call_returned_from(root: Path, reports: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(KILLED), str(root)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    last = -1
    for _ in range(reports):
        last = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().split()
    last = int(rest[-1]) if rest else last
    process.wait()
    (folder,) = layout.writer_folders(root / TASK)
    reader = Reader(folder)
    rows = reader.rows()
    assert len(rows) > last
    assert [row[:3] for row in rows] == [(0, n, n / 2) for n in range(len(rows))]
    assert reader.record_count() - 1 in {last // 1000 + 1, last // 1000 + 2}
    assert not reader.alive()
