"""A disk that is full stops nothing: the script is told once, and what was held is written when there is room."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from taskloom.domain.task import TaskEdit
from taskloom.journal import layout, writer
from taskloom.journal.reader import Reader
from taskloom.wire.records import Edited, Record

TASK = "a" * 32
# The limit on the size of a file is a full disk that needs no privileges: writes and allocations fail, and a
# write that crosses it is cut short.
PRELUDE = """
    import resource, sys, time
    from pathlib import Path
    from taskloom.domain.task import TaskEdit
    from taskloom.journal import layout, writer
    from taskloom.wire.records import Edited
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    writer.RETRY_SECONDS = 0.0
    told = []
    w = writer.Writer.create(Path(sys.argv[1]), "a" * 32, role="main", tell=told.append)
"""


def run(root: Path, script: str) -> tuple[Reader, str]:
    code = textwrap.dedent(PRELUDE) + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder,) = layout.writer_folders(root / TASK)
    return Reader(folder), done.stdout


def comments(records: list[Record]) -> list[str]:
    return [str(record.edit.comment)[:3] for record in records if isinstance(record, Edited)]


def test_a_record_that_was_cut_short_is_taken_back_and_written_later(tmp_path: Path) -> None:
    reader, out = run(
        tmp_path,
        """
        limit(1000)
        for n in range(5):
            w.record(Edited(edit=TaskEdit(comment=f"{n:03}" + "x" * 400), time=0.0))
        print(w.records, (w.folder / "events").stat().st_size < 1000)
        limit(hard)
        w.record(Edited(edit=TaskEdit(comment="005"), time=0.0))
        w.close()
        print(len(told), w.lost)
        """,
    )
    assert out.split() == ["2", "True", "2", "0"]  # told that it is full, and that it goes on
    assert comments(reader.records(0)) == ["000", "001", "002", "003", "004", "005"]


def test_rows_wait_for_a_segment_and_come_in_order(tmp_path: Path) -> None:
    reader, out = run(
        tmp_path,
        """
        number = w.name_series("loss", "train")
        limit(layout.SEGMENT_BYTES // 2)
        for n in range(1000):
            w.scalar(number, n, 1.0, 0.0)
        print(w.rows, len(told))
        limit(hard)
        for n in range(1000, 1010):
            w.scalar(number, n, 1.0, 0.0)
        w.close()
        print(w.rows, w.lost)
        """,
    )
    assert out.split() == ["0", "1", "1010", "0"]
    assert [row[1] for row in reader.rows()] == list(range(1010))


def test_rows_of_a_series_whose_name_is_not_written_wait_for_it(tmp_path: Path) -> None:
    """A row with a number that nobody named could not be read by anyone."""
    reader, out = run(
        tmp_path,
        """
        w.scalar(w.name_series("loss", "train"), 0, 1.0, 0.0)
        limit(10)
        number = w.name_series("loss", "late")
        for n in range(10):
            w.scalar(number, n, 2.0, 0.0)
        print(w.rows)
        limit(hard)
        w.close()
        """,
    )
    assert out.split() == ["1"]
    assert reader.record_count() == 2
    assert [row[:2] for row in reader.rows()] == [(0, 0), *[(1, n) for n in range(10)]]


def test_what_is_held_is_bounded_and_the_loss_is_told(tmp_path: Path) -> None:
    reader, out = run(
        tmp_path,
        """
        number = w.name_series("loss", "train")
        limit(100)
        for n in range(writer.HOLD_ROWS + 500):
            w.scalar(number, n, 1.0, 0.0)
        big = "x" * 100_000
        for n in range(100):
            w.record(Edited(edit=TaskEdit(comment=big), time=0.0))
        print(w.lost > 500, len(told))
        limit(hard)
        w.close()
        print(w.rows == writer.HOLD_ROWS, "are lost" in told[-1])
        """,
    )
    assert out.split() == ["True", "1", "True", "True"]
    assert [row[1] for row in reader.rows()] == list(range(writer.HOLD_ROWS))
    assert 0 < reader.record_count() - 1 <= writer.HOLD_BYTES // 100_000


def test_a_disk_that_stays_full_does_not_raise_at_the_end(tmp_path: Path) -> None:
    reader, out = run(
        tmp_path,
        """
        limit(10)
        w.scalar(w.name_series("loss", "train"), 1, 1.0, 0.0)
        w.record(Edited(edit=TaskEdit(comment="001"), time=0.0))
        w.close()
        print(w.lost)
        """,
    )
    assert out.split() == ["3"]
    assert (reader.record_count(), reader.row_count()) == (0, 0)


def test_held_records_are_tried_only_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    held = writer.Writer.create(tmp_path, TASK, role="main", tell=told.append)
    tries: list[int] = []

    def full(descriptor: int, data: bytes) -> None:
        tries.append(len(data))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "_append_whole", full)
    for number in range(1000):
        held.record(Edited(edit=TaskEdit(comment=str(number)), time=0.0))
    assert len(tries) < 100
    assert len(told) == 1
    assert "No space left" in told[0]
