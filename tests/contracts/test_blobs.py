"""What every keeper of bytes promises: whole and right, or not there. Today files; an object store joins the list."""

from __future__ import annotations

import errno
import hashlib
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskloom.domain.errors import BadInput, Conflict, DigestMismatch, NotFound, StorageFull
from taskloom.server.blobs import Blobs, FileBlobs

KEEPERS: dict[str, Callable[[Path], Blobs]] = {"files": FileBlobs}
DATA = bytes(range(256)) * 5000


@pytest.fixture(params=sorted(KEEPERS))
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return KEEPERS[request.param](tmp_path / "blobs")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def send(blobs: Blobs, data: bytes, first: int = 0) -> None:
    upload = blobs.begin(digest(data), first, len(data))
    upload.write(data[first:])
    upload.seal()
    upload.place()


def read(blobs: Blobs, data: bytes) -> bytes:
    with blobs.open(digest(data)) as file:
        return file.read()


@pytest.mark.parametrize("data", [b"", b"x", DATA])
def test_what_was_placed_is_read(blobs: Blobs, data: bytes) -> None:
    send(blobs, data)
    assert read(blobs, data) == data
    assert [name for name, _ in blobs.stored()] == [digest(data)]


def test_nothing_is_visible_before_it_is_placed(blobs: Blobs) -> None:
    upload = blobs.begin(digest(DATA), 0, len(DATA))
    upload.write(DATA)
    upload.seal()
    assert list(blobs.stored()) == []
    with pytest.raises(NotFound):
        blobs.open(digest(DATA))
    upload.place()
    assert read(blobs, DATA) == DATA


def test_a_cut_upload_goes_on_where_it_stopped(blobs: Blobs) -> None:
    upload = blobs.begin(digest(DATA), 0, len(DATA))
    upload.write(DATA[:1000])
    upload.leave()
    assert blobs.received(digest(DATA)) == 1000
    upload = blobs.begin(digest(DATA), 1000, len(DATA))
    upload.write(DATA[1000:2000])
    upload.leave()
    send(blobs, DATA, first=2000)
    assert read(blobs, DATA) == DATA
    assert blobs.received(digest(DATA)) == 0


@pytest.mark.parametrize("first", [1, 999, 1001])
def test_going_on_elsewhere_is_refused_with_the_place(blobs: Blobs, first: int) -> None:
    upload = blobs.begin(digest(DATA), 0, len(DATA))
    upload.write(DATA[:1000])
    upload.leave()
    with pytest.raises(Conflict) as refused:
        blobs.begin(digest(DATA), first, len(DATA))
    assert refused.value.details["received"] == blobs.received(digest(DATA)) == 1000
    send(blobs, DATA, first=1000)


def test_beginning_anew_forgets_the_cut_upload(blobs: Blobs) -> None:
    upload = blobs.begin(digest(DATA), 0, len(DATA))
    upload.write(b"wrong from the beginning")
    upload.leave()
    send(blobs, DATA)
    assert read(blobs, DATA) == DATA


def test_other_bytes_than_announced_are_dropped(blobs: Blobs) -> None:
    send(blobs, DATA)
    upload = blobs.begin(digest(DATA), 0, len(DATA))
    upload.write(DATA[:-1])
    with pytest.raises(DigestMismatch):
        upload.seal()
    assert blobs.received(digest(DATA)) == 0
    assert read(blobs, DATA) == DATA, "the older copy stays"


def test_two_uploads_of_one_digest_do_not_meet(blobs: Blobs) -> None:
    first = blobs.begin(digest(DATA), 0, len(DATA))
    second = blobs.begin(digest(DATA), 0, len(DATA))
    with pytest.raises(Conflict):
        blobs.begin(digest(DATA), 10, len(DATA))
    for at in range(0, len(DATA), 100_000):
        first.write(DATA[at : at + 100_000])
        second.write(DATA[at : at + 100_000])
    first.seal()
    second.seal()
    second.place()
    assert read(blobs, DATA) == DATA
    first.place()
    assert read(blobs, DATA) == DATA
    assert len(list(blobs.stored())) == 1


def test_a_second_upload_that_is_left_leaves_nothing(blobs: Blobs) -> None:
    first = blobs.begin(digest(DATA), 0, len(DATA))
    second = blobs.begin(digest(DATA), 0, len(DATA))
    first.write(DATA[:10])
    second.write(DATA[:20])
    second.leave()
    first.leave()
    assert blobs.received(digest(DATA)) == 10


def test_deleting_does_not_disturb_who_reads(blobs: Blobs) -> None:
    send(blobs, DATA)
    with blobs.open(digest(DATA)) as file:
        blobs.delete(digest(DATA))
        blobs.delete(digest(DATA))
        assert file.read() == DATA
    with pytest.raises(NotFound):
        blobs.open(digest(DATA))


def test_partials_that_nobody_goes_on_with_are_forgotten(blobs: Blobs) -> None:
    upload = blobs.begin(digest(DATA), 0, len(DATA))
    upload.write(DATA[:10])
    blobs.forget(time.time() + 60)
    assert blobs.received(digest(DATA)) == 10, "it is under way"
    upload.leave()
    blobs.forget(time.time() - 60)
    assert blobs.received(digest(DATA)) == 10, "it is young"
    blobs.forget(time.time() + 60)
    assert blobs.received(digest(DATA)) == 0


@pytest.mark.parametrize(
    "name", ["", "..", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 65, "a" * 63 + "/", "a" * 64 + "\n"]
)
def test_only_a_digest_becomes_a_place(blobs: Blobs, name: str) -> None:
    for ask in (blobs.received, blobs.open, blobs.delete, lambda n: blobs.begin(n, 0, 1)):
        with pytest.raises(BadInput, match="64 lower-case hexadecimal digits"):
            ask(name)


@contextmanager
def disk_of(limit: int) -> Iterator[None]:
    """No file of this process grows beyond `limit` bytes: what a full disk looks like, without filling one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_refuses_the_upload_and_keeps_nothing_of_it(blobs: Blobs) -> None:
    send(blobs, b"before")
    with disk_of(100_000):
        upload = blobs.begin(digest(DATA), 0, len(DATA))
        with pytest.raises(StorageFull) as refused:
            for at in range(0, len(DATA), 30_000):
                upload.write(DATA[at : at + 30_000])
        assert refused.value.__cause__.errno == errno.EFBIG  # pyright: ignore[reportOptionalMemberAccess]
        assert blobs.received(digest(DATA)) == 0
        assert read(blobs, b"before") == b"before"
    send(blobs, DATA)
    assert read(blobs, DATA) == DATA


def test_what_cannot_fit_is_refused_before_it_begins(blobs: Blobs) -> None:
    with pytest.raises(StorageFull, match="bytes left"):
        blobs.begin(digest(DATA), 0, 2**60)
    send(blobs, DATA)
