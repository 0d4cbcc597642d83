"""Debug samples: the bytes in the spool, the record that names them, how long they are kept, where they lie."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from taskloom import Logger
from taskloom.domain.artifact import Sample
from taskloom.journal import layout
from taskloom.journal.reader import Reader
from taskloom.journal.writer import Writer
from taskloom.sdk.notices import Notices
from taskloom.sdk.reports import samples as module
from taskloom.wire.records import Record, Sampled

PIXELS = np.zeros((2, 3), np.uint8)


class Bench:
    """A logger over a journal, what it recorded, and the spool."""

    def __init__(self, root: Path) -> None:
        self.notices = Notices()
        self.writer = Writer.create(root, "a" * 32, role="main", name="a task", project="shelf/below")
        self.logger = Logger(self.writer, self.notices)
        self.spool = self.writer.task_folder / "files"

    def records(self) -> list[Sampled]:
        found: list[Record] = []
        for folder in layout.writer_folders(self.writer.task_folder):
            found += Reader(folder).records(0)
        return [record for record in found if isinstance(record, Sampled)]

    def samples(self) -> list[Sample]:
        return [record.sample for record in self.records()]

    def spooled(self, digest: str) -> bytes:
        return (self.spool / digest).read_bytes()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.writer.close()


def test_bytes_are_spooled_before_the_record_names_them(bench: Bench) -> None:
    bench.logger.iteration_offset = 100
    bench.logger.report_image("shown", "an image", 3, image=PIXELS)
    (sample,) = bench.samples()
    data = bench.spooled(sample.digest)
    assert hashlib.sha256(data).hexdigest() == sample.digest
    assert np.asarray(Image.open(io.BytesIO(data))).tolist() == PIXELS.tolist()
    told = (sample.title, sample.series, sample.iteration, sample.name, sample.size, sample.media_type, sample.uri)
    assert told == ("shown", "an image", 103, "an image_00000103.png", len(data), "image/png", "")
    assert bench.logger.newest_iteration() == 103


def test_the_same_bytes_are_spooled_once(bench: Bench) -> None:
    for step in range(3):
        bench.logger.report_image("shown", "image", step, image=PIXELS)
    assert len({sample.digest for sample in bench.samples()}) == len(list(bench.spool.iterdir())) == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (io.BytesIO(b"bytes"), b"bytes"),
        (io.StringIO("täxt"), "täxt".encode()),
        (b"bytes", b"bytes"),
        (bytearray(b"bytes"), b"bytes"),
        ("täxt", "täxt".encode()),
    ],
)
def test_streams_of_every_kind_are_taken_whole(bench: Bench, given: Any, expected: bytes) -> None:
    if hasattr(given, "read"):
        given.read(2)  # wherever it stands
    bench.logger.report_media("shown", "stream", 0, stream=given, file_extension="HTML")
    (sample,) = bench.samples()
    assert (bench.spooled(sample.digest), sample.media_type, sample.name) == (
        expected,
        "text/html",
        "stream_00000000.HTML",
    )


def test_an_open_file_is_taken_from_where_it_stands(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(b"head and body")
    with path.open("rb") as file:
        file.seek(9)
        bench.logger.report_media("shown", "file", 0, stream=file, file_extension=".wav")
    assert bench.spooled(bench.samples()[0].digest) == b"body"


def test_a_file_is_copied_and_deleted_only_by_wish(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "film.MP4"
    path.write_bytes(b"film")
    bench.logger.report_media("shown", "film", 1, local_path=str(path))
    path.write_bytes(b"changed")
    bench.logger.report_image("shown", "film", 2, image=path, delete_after_upload=True)
    first, second = bench.samples()
    assert [bench.spooled(one.digest) for one in (first, second)] == [b"film", b"changed"]
    assert (first.media_type, path.exists()) == ("video/mp4", False)


def test_an_address_is_only_named(bench: Bench) -> None:
    bench.logger.report_image("shown", "far", 1, url="s3://bucket/a%20b.jpg?versionId=1")
    (sample,) = bench.samples()
    assert (sample.uri, sample.digest, sample.media_type) == (
        "s3://bucket/a%20b.jpg?versionId=1",
        "",
        "image/jpeg",
    )


def test_how_many_iterations_are_kept(bench: Bench) -> None:
    bench.logger.report_image("t", "by default", 0, image=PIXELS)
    bench.logger.report_image("t", "by call", 0, image=PIXELS, max_image_history=7)
    bench.logger.report_media("t", "all", 0, stream=b"x", file_extension="bin", max_history=-1)
    bench.logger.set_default_debug_sample_history(5)
    bench.logger.report_image("t", "by setting", 0, image=PIXELS)
    assert {record.sample.series: record.history for record in bench.records()} == {
        "by default": 100,
        "by call": 7,
        "all": 0,
        "by setting": 5,
    }
    assert bench.logger.get_default_debug_sample_history() == 5


def test_at_a_destination_the_newest_take_the_places_of_the_oldest(bench: Bench, tmp_path: Path) -> None:
    bench.logger.set_default_upload_destination(str(tmp_path / "far"))
    for step in (10, 20, 20, 30, 5, 40):
        bench.logger.report_image("t/x", "a/b", step, image=PIXELS, max_image_history=2)
    samples = bench.samples()
    folder = (tmp_path / "far/shelf/below" / f"a task.{'a' * 32}" / "metrics/t/x/a/b").as_uri()
    stem = f"a_b_{bench.writer.meta.writer[:8]}"
    assert [(s.iteration, s.uri) for s in samples] == [
        (step, f"{folder}/{stem}_0000000{slot}.png")
        for step, slot in ((10, 0), (20, 1), (20, 1), (30, 0), (5, 2), (40, 1))
    ]
    assert {(s.digest, s.fingerprint) for s in samples} == {("", samples[0].fingerprint)}
    assert (bench.spool / samples[0].fingerprint).is_file()


def test_an_unusable_destination_leaves_the_old_one(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.logger.set_default_upload_destination(str(tmp_path))
    bench.logger.set_default_upload_destination("ftp://host/x")
    assert bench.logger.get_default_upload_destination() == tmp_path.as_uri()
    assert "destination 'ftp://host/x': expected" in capsys.readouterr().err
    bench.logger.set_default_upload_destination("")
    assert bench.logger.get_default_upload_destination() == ""


def test_names_of_any_text_are_kept_and_make_a_file_name_that_every_system_takes(bench: Bench) -> None:
    series = 'a/b\\c:*?"<>|\0.. '
    bench.logger.report_image("t", series, -1, image=PIXELS)
    (sample,) = bench.samples()
    assert sample.series == series.replace("\0", "�")
    assert sample.name == "a_b_c_________-0000001.png"


def test_too_many_bytes_are_refused_and_leave_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    bench.logger.report_media("t", "s", 0, stream=b"x" * 11, file_extension=".bin")
    assert "a sample of more than 10 bytes; upload it as an artifact" in capsys.readouterr().err
    assert (bench.samples(), list(bench.spool.iterdir())) == ([], [])


def test_after_the_end_nothing_is_written(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.writer.close()
    bench.logger.report_image("t", "s", 0, image=PIXELS)
    assert "image 't' / 's' is not recorded: the task is closed" in capsys.readouterr().err
    assert not bench.spool.exists()
