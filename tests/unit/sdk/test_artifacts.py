"""Artifacts read back from a real server: cached, resumed, checked, unpacked, and safe to open."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.conftest import House

from taskloom.domain import artifact as domain
from taskloom.domain.errors import BadInput, DigestMismatch, Forbidden, NotFound, ServerAway
from taskloom.journal.post import Post
from taskloom.sdk import downloads
from taskloom.sdk.artifacts import Artifact
from taskloom.sdk.downloads import Cache, Wanted, fetch
from taskloom.sdk.serialise import prepare
from taskloom.sdk.sources import at_server
from taskloom.wire.client import Address
from taskloom.wire.messages import TaskCreate
from taskloom.wire.operations import CREATE_TASK, GET_TASK, PUT_ARTIFACT
from taskloom.wire.send import Client


class Shelf:
    """A task on a real server, artifacts put there, and this machine's cache."""

    def __init__(self, house: House, base: Path) -> None:
        self.house = house
        self.spool, self.cache = base / "spool", base / "cache"
        self.spool.mkdir()
        self.task = house.client.call(CREATE_TASK, TaskCreate(name="with artifacts", project="tests")).id
        self.asked = 0

    def client(self) -> Client:
        self.asked += 1
        return self.house.client

    def put(self, obj: Any, name: str = "thing", **options: Any) -> Artifact:
        made = prepare(name, obj, spool=self.spool, **options)
        if made.digest:
            post = Post(self.house.client.address)
            post.put_file(self.spool / made.digest, made.digest)
            post.close()
        self.house.client.call(PUT_ARTIFACT, made, task=self.task)
        (found,) = [one for one in self.house.client.call(GET_TASK, task=self.task).artifacts if one.name == name]
        return Artifact(self.client, found, self.cache)


@pytest.fixture
def shelf(house: House, tmp_path: Path) -> Shelf:
    return Shelf(house, tmp_path)


def test_what_is_known_of_an_artifact_needs_no_download(shelf: Shelf):
    found = shelf.put({"name": "Erik", "age": 30}, "person dictionary", metadata={"source": "seed"})
    assert (found.name, found.type, found.mode) == ("person dictionary", "dict", "output")
    assert found.metadata == {"source": "seed"}
    assert "Erik" in found.preview
    assert abs(found.timestamp.timestamp() - time.time()) < 3600
    assert found.timestamp.tzinfo is not None
    assert found.url == f"{shelf.house.url}/api/blobs/{found.hash}"
    assert found.size > 0
    assert not shelf.cache.exists()


def test_objects_come_back(shelf: Shelf):
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert shelf.put({"a": [1]}).get() == {"a": [1]}
    assert shelf.put({"a": [1]}, extension_name="yaml").get() == {"a": [1]}
    assert shelf.put("text").get() == "text"
    pd.testing.assert_frame_equal(shelf.put(table).get(), table)
    np.testing.assert_array_equal(shelf.put(np.eye(3)).get(), np.eye(3))


def test_a_pickle_is_not_even_fetched_unless_asked_for(shelf: Shelf):
    found = shelf.put({1, 2, 3})
    with pytest.raises(Forbidden, match="allow_pickle=True"):
        found.get()
    assert shelf.asked == 0
    assert found.get(allow_pickle=True) == {1, 2, 3}


def test_the_caller_may_read_the_bytes_itself(shelf: Shelf):
    assert shelf.put({1, 2}).get(deserialization_function=len) == len(
        shelf.put({1, 2}).get(deserialization_function=bytes)
    )


def test_a_file_has_its_own_name_and_is_fetched_once(shelf: Shelf, tmp_path: Path):
    path = tmp_path / "größe table.csv"
    path.write_text("1,2\n")
    found = shelf.put(path)
    copy = Path(found.get_local_copy() or "")
    assert (copy.name, copy.read_text()) == ("größe table.csv", "1,2\n")
    asked = shelf.asked
    assert found.get_local_copy() == str(copy)
    assert found.get() == copy
    assert shelf.asked == asked
    found.get_local_copy(force_download=True)
    assert shelf.asked > asked


def test_two_names_for_the_same_bytes(shelf: Shelf, tmp_path: Path):
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).write_text("same")
    one, two = (Path(shelf.put(tmp_path / name, name).get_local_copy() or "") for name in ("one.txt", "two.txt"))
    assert (one.name, two.name) == ("one.txt", "two.txt")
    assert one.read_text() == two.read_text() == "same"


@pytest.mark.parametrize(
    "filename", ["../../out.txt", "/etc/out.txt", "..", "a\\..\\out.txt", "", "bytes", "x" * 500]
)
def test_a_file_name_never_leaves_the_cache(shelf: Shelf, filename: str):
    found = shelf.put("text")
    known = domain.Artifact("x", kind="file", digest=found.hash, size=4, filename=filename)
    copy = Path(Artifact(shelf.client, known, shelf.cache).get_local_copy(raise_on_error=True) or "")
    assert copy.resolve().parent == (shelf.cache / found.hash / "files").resolve()
    assert copy.read_text() == "text"


def test_a_changed_copy_is_fetched_again(shelf: Shelf):
    found = shelf.put("right")
    copy = Path(found.get_local_copy() or "")
    copy.write_text("wrong")
    assert found.get() == "right"


def test_a_folder_comes_back_unpacked_or_packed(shelf: Shelf, tmp_path: Path):
    (tmp_path / "folder/sub").mkdir(parents=True)
    (tmp_path / "folder/sub/a.txt").write_text("a")
    found = shelf.put(tmp_path / "folder")
    assert (Path(found.get_local_copy() or "") / "sub/a.txt").read_text() == "a"
    assert (Path(str(found.get())) / "sub/a.txt").read_text() == "a"
    assert (found.get_local_copy(extract_archive=False) or "").endswith("thing.zip")


def test_an_artifact_that_is_kept_elsewhere(shelf: Shelf, tmp_path: Path):
    far = Artifact(shelf.client, domain.Artifact("far", uri="hdfs://host.example/data.csv"), shelf.cache)
    assert far.url == "hdfs://host.example/data.csv"
    assert far.get_local_copy() is None
    with pytest.raises(BadInput, match=r"host\.example"):
        far.get_local_copy(raise_on_error=True)
    (tmp_path / "near.txt").write_text("near")
    near = Artifact(shelf.client, domain.Artifact("x", uri=f"file://{tmp_path}/near.txt"), shelf.cache)
    assert near.get_local_copy() == str(tmp_path / "near.txt")


def test_bytes_that_are_gone(shelf: Shelf):
    missing = domain.Artifact("x", digest="0" * 64, size=1, filename="x")
    with pytest.raises(NotFound):
        Artifact(shelf.client, missing, shelf.cache).get_local_copy(raise_on_error=True)
    assert Artifact(shelf.client, missing, shelf.cache).get_local_copy() is None


def test_a_cut_download_goes_on_where_it_stopped(shelf: Shelf, tmp_path: Path):
    data = os.urandom(3 << 20)
    (tmp_path / "large.bin").write_bytes(data)
    found = shelf.put(tmp_path / "large.bin")
    part = shelf.cache / found.hash / "part"
    part.parent.mkdir(parents=True)
    for beginning in (data[: 2 << 20], b"x" * (2 << 20), data + b"more", data):
        part.write_bytes(beginning)
        copy = found.get_local_copy(raise_on_error=True)
        assert Path(copy or "").read_bytes() == data
        assert not part.exists()
        (part.parent / "bytes").unlink()


class Unsteady:
    """A server that breaks every answer off after some bytes, and honours ranges; counts what it sent."""

    def __init__(self, data: bytes, piece: int) -> None:
        self.data, self.piece, self.sent, self.ranges = data, piece, 0, list[str]()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = Address(f"http://127.0.0.1:{self._socket.getsockname()[1]}")
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                request = connection.recv(65536).decode()
                start = int(request.partition("bytes=")[2].partition("-")[0] or 0)
                self.ranges.append(f"{start}-")
                status = "206 Partial Content" if start else "200 OK"
                head = (
                    f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(self.data) - start}\r\n\r\n"
                )
                piece = self.data[start : start + self.piece]
                self.sent += len(piece)
                connection.sendall(head.encode() + piece)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def unsteady(monkeypatch: pytest.MonkeyPatch) -> Iterator[Unsteady]:
    monkeypatch.setattr(downloads.time, "sleep", lambda seconds: None)
    made = Unsteady(os.urandom(400_000), 100_000)
    yield made
    made.close()


def test_a_broken_connection_is_taken_up_again(unsteady: Unsteady, tmp_path: Path):
    client = Client(unsteady.address)
    digest = hashlib.sha256(unsteady.data).hexdigest()
    path = fetch(
        Wanted("x", digest=digest, size=len(unsteady.data), filename="x"), lambda: client, tmp_path / "cache"
    )
    client.close()
    assert path.read_bytes() == unsteady.data
    assert unsteady.ranges == ["0-", "100000-", "200000-", "300000-"]
    assert unsteady.sent == len(unsteady.data)


def test_it_is_given_up_in_the_end_and_what_came_is_kept(unsteady: Unsteady, tmp_path: Path):
    unsteady.piece = 10
    client = Client(unsteady.address)
    digest = hashlib.sha256(unsteady.data).hexdigest()
    with pytest.raises(ServerAway):
        fetch(Wanted("x", digest=digest, size=len(unsteady.data)), lambda: client, tmp_path / "cache")
    client.close()
    assert (tmp_path / "cache" / digest / "part").read_bytes() == unsteady.data[: 10 * downloads.ATTEMPTS]


def test_wrong_bytes_are_never_seen(unsteady: Unsteady, tmp_path: Path):
    unsteady.piece = len(unsteady.data)
    client = Client(unsteady.address)
    with pytest.raises(DigestMismatch):
        fetch(Wanted("x", digest="a" * 64, size=len(unsteady.data)), lambda: client, tmp_path / "cache")
    client.close()
    assert not any(path.is_file() for path in (tmp_path / "cache" / ("a" * 64)).rglob("*"))


def test_the_cache_stays_within_its_bounds(shelf: Shelf):
    cache = Cache(shelf.cache, limit=2500)
    made = [shelf.put(f"{n}" * 1000, f"n{n}") for n in range(3)]

    def cached(one: Artifact) -> Path:
        return cache.fetch(at_server(shelf.client, one.hash), Wanted("x", size=one.size, filename="x"))

    first, second = cached(made[0]), cached(made[1])
    os.utime(first.parents[1], (1, 1))
    third = cached(made[2])
    assert [path.exists() for path in (first, second, third)] == [False, True, True]
    big = shelf.put("b" * 5000, "big")
    assert cached(big).exists()
    assert not second.exists() and not third.exists()


def test_many_readers_download_once(shelf: Shelf, tmp_path: Path):
    (tmp_path / "large.bin").write_bytes(os.urandom(1 << 20))
    found = shelf.put(tmp_path / "large.bin")
    copies: list[str | None] = []
    threads = [threading.Thread(target=lambda: copies.append(found.get_local_copy())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(copies)) == 1 and None not in copies
    assert shelf.asked == 1
