"""Uploads and downloads over a real socket: cut, resumed, wrong, in parallel, by ranges, on a full disk."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec
import pytest
from tests.conftest import Clock, House
from tests.contracts.test_blobs import disk_of

from taskloom.domain.artifact import Model
from taskloom.domain.errors import BadInput, BlobMissing, DigestMismatch, NotFound
from taskloom.wire.messages import BlobStatus, ModelCreate
from taskloom.wire.operations import BLOB_STATUS, CREATE_MODEL, DELETE_MODEL

HOUR = 3600.0
DATA = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One house for the tests that leave nothing behind which another would see."""
    running = House(tmp_path_factory.mktemp("lasting") / "house")
    yield running
    running.stop()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(house: House, data: bytes, name: str = "", content_range: str = "") -> httpx.Response:
    headers = {**house.client.address.headers()}
    if content_range:
        headers["Content-Range"] = content_range
    return house.client.http.put(f"{house.url}/api/blobs/{name or digest(data)}", content=data, headers=headers)


def get(house: House, name: str, method: str = "GET", **headers: str) -> httpx.Response:
    told = {key.replace("_", "-"): value for key, value in headers.items()}
    return house.client.http.request(
        method, f"{house.url}/api/blobs/{name}", headers={**house.client.address.headers(), **told}
    )


def status(house: House, name: str) -> BlobStatus:
    return house.client.call(BLOB_STATUS, digest=name)


def files(house: House) -> set[str]:
    return {path.name for path in (house.data / "server" / "blobs").rglob("*") if path.is_file()}


def cut_off(house: House, name: str, data: bytes, total: int) -> None:
    """Announce `total` bytes, send `data`, and vanish."""
    host, port = house.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as raw:
        head = f"PUT /api/blobs/{name} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {house.key}\r\n"
        raw.sendall(f"{head}Content-Length: {total}\r\n\r\n".encode() + data)


# --- uploads --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", DATA, os.urandom(3 * 2**20 + 7)])
def test_what_was_uploaded_is_downloaded(lasting: House, data: bytes) -> None:
    assert not status(lasting, digest(data)).complete
    answer = put(lasting, data)
    assert answer.status_code == 200
    told = msgspec.json.decode(answer.content, type=BlobStatus)
    assert told == status(lasting, digest(data))
    assert (told.complete, told.size) == (True, len(data))
    assert get(lasting, digest(data)).content == data
    assert put(lasting, data).status_code == 200, "again is harmless"


def test_an_upload_without_a_length_is_taken_whole(house: House) -> None:
    address = f"{house.url}/api/blobs/{digest(DATA)}"
    parts = iter([DATA[:5000], DATA[5000:]])
    answer = house.client.http.put(address, content=parts, headers=house.client.address.headers())
    assert answer.status_code == 200
    assert get(house, digest(DATA)).content == DATA


def test_a_cut_upload_is_invisible_and_goes_on(
    house: House, eventually: Callable[[Callable[[], object]], None]
) -> None:
    data = os.urandom(4 * 2**20)
    name = digest(data)
    cut_off(house, name, data[: 3 * 2**20], len(data))
    eventually(lambda: status(house, name).received == 3 * 2**20)
    assert not status(house, name).complete
    assert get(house, name).status_code == 404
    first = status(house, name).received
    house.restart()
    answer = put(house, data[first:], name, f"bytes {first}-{len(data) - 1}/{len(data)}")
    assert answer.status_code == 200
    assert get(house, name).content == data


def test_parts_make_a_whole(house: House) -> None:
    name, size = digest(DATA), len(DATA)
    for first in range(0, size, 4096):
        part = DATA[first : first + 4096]
        answer = put(house, part, name, f"bytes {first}-{first + len(part) - 1}/{size}")
        told = msgspec.json.decode(answer.content, type=BlobStatus)
        assert told.received == first + len(part)
        assert told.complete == (first + len(part) == size)
    assert get(house, name).content == DATA


def test_a_part_that_does_not_follow_is_refused_with_the_place(house: House) -> None:
    name, size = digest(DATA), len(DATA)
    put(house, DATA[:100], name, f"bytes 0-99/{size}")
    answer = put(house, DATA[200:], name, f"bytes 200-{size - 1}/{size}")
    assert (answer.status_code, answer.json()["error"]["details"]["received"]) == (409, 100)
    assert put(house, DATA[100:], name, f"bytes 100-{size - 1}/{size}").status_code == 200


def test_wrong_bytes_are_refused_and_gone(house: House) -> None:
    answer = put(house, b"other bytes", digest(DATA))
    assert answer.status_code == DigestMismatch.http_status
    assert answer.json()["error"]["code"] == "digest_mismatch"
    assert status(house, digest(DATA)) == BlobStatus(digest=digest(DATA), complete=False)
    assert files(house) == set()
    assert put(house, DATA).status_code == 200


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 0-9/10",
        "bytes 5-1/10",
        "bytes 0-10239/5",
        "bytes */10",
        "items 0-1/2",
        "bytes 0-x/9",
        "bytes -1-5/9",
    ],
)
def test_a_range_that_does_not_fit_the_bytes_is_refused(lasting: House, content_range: str) -> None:
    answer = put(lasting, DATA, digest(DATA + b"more"), content_range)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_input")
    assert digest(DATA + b"more") not in files(lasting)


def test_uploads_of_the_same_bytes_at_once_all_succeed(house: House) -> None:
    data = os.urandom(2 * 2**20)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: put(house, data).status_code, range(12)))
    assert answers == [200] * 12
    assert get(house, digest(data)).content == data
    assert files(house) == {digest(data)}


@pytest.mark.parametrize(
    "name",
    [
        "A" * 64,
        "a" * 63,
        "a" * 65,
        "..%2F..%2Fmain.db",
        "%2e%2e%2f%2e%2e%2fmain.db",
        "..",
        "a" * 62 + "..",
        "partial",
    ],
)
def test_only_a_digest_names_bytes(lasting: House, name: str) -> None:
    for method in ("PUT", "GET"):
        host, port = lasting.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(
                f"{method} /api/blobs/{name} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
                f"Authorization: Bearer {lasting.key}\r\nContent-Length: 1\r\n\r\nx".encode()
            )
            answer = b"".join(iter(lambda: raw.recv(65536), b""))
        assert answer.split()[1] in {b"400", b"404", b"405"}
    assert all(len(file) == 64 for file in files(lasting))


def test_a_full_disk_is_told_and_the_server_goes_on(house: House) -> None:
    put(house, DATA)
    big = os.urandom(16 * 2**20)
    with disk_of(8 * 2**20):
        answer = put(house, big)
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "storage_full")
        assert get(house, digest(DATA)).content == DATA
        assert files(house) == {digest(DATA)}
    assert put(house, big).status_code == 200


# --- downloads ------------------------------------------------------------------------------------------------


def test_a_download_never_runs_in_a_browser(lasting: House) -> None:
    page = b"<html><script>alert(1)</script></html>"
    put(lasting, page)
    headers = get(lasting, digest(page)).headers
    assert headers["content-disposition"] == "attachment"
    assert headers["content-type"] == "application/octet-stream"
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    assert headers["etag"] == f'"{digest(page)}"'


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=5-9", 5, 9),
        ("bytes=10000-", 10000, 10239),
        ("bytes=10239-10239", 10239, 10239),
        ("bytes=0-99999999", 0, 10239),
        ("bytes=-1", 10239, 10239),
        ("bytes=-99999", 0, 10239),
    ],
)
def test_a_range_is_answered_with_its_bytes(lasting: House, asked: str, first: int, last: int) -> None:
    put(lasting, DATA)
    answer = get(lasting, digest(DATA), Range=asked)
    assert answer.status_code == 206
    assert answer.content == DATA[first : last + 1]
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(DATA)}"


@pytest.mark.parametrize("asked", ["bytes=10240-", "bytes=99999-100000", "bytes=-0"])
def test_a_range_outside_is_told(lasting: House, asked: str) -> None:
    put(lasting, DATA)
    answer = get(lasting, digest(DATA), Range=asked)
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(DATA)}")
    assert answer.content == b""


@pytest.mark.parametrize(
    "asked",
    ["bytes=0-1,3-4", "bytes=9-5", "bytes=-", "bytes=a-b", "lines=0-1", "bytes=" + "0-1," * 500, "bytes=--1"],
)
def test_any_other_range_means_the_whole(lasting: House, asked: str) -> None:
    put(lasting, DATA)
    answer = get(lasting, digest(DATA), Range=asked)
    assert (answer.status_code, answer.content) == (200, DATA)


def test_conditions_are_obeyed(lasting: House) -> None:
    put(lasting, DATA)
    name = digest(DATA)
    assert get(lasting, name, If_None_Match=f'"{name}"').status_code == 304
    assert get(lasting, name, If_None_Match='W/"x", "y"').status_code == 200
    assert get(lasting, name, Range="bytes=0-1", If_Range=f'"{name}"').status_code == 206
    assert get(lasting, name, Range="bytes=0-1", If_Range='"older"').content == DATA
    head = get(lasting, name, "HEAD")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(DATA)), b"")


# --- the life of bytes ----------------------------------------------------------------------------------------


def test_bytes_go_with_their_last_name(house: House) -> None:
    put(house, DATA)
    first, second = (
        house.client.call(CREATE_MODEL, ModelCreate(model=Model(id="", name=name, digest=digest(DATA))))
        for name in ("one", "two")
    )
    house.client.call(DELETE_MODEL, model=first.id)
    assert get(house, digest(DATA)).content == DATA
    house.client.call(DELETE_MODEL, model=second.id)
    assert get(house, digest(DATA)).status_code == NotFound.http_status
    assert files(house) == set()
    with pytest.raises(BlobMissing):
        house.client.call(CREATE_MODEL, ModelCreate(model=Model(id="", name="three", digest=digest(DATA))))
    assert put(house, DATA).status_code == 200


def test_bytes_that_nobody_names_go_after_a_day(house: House, clock: Clock) -> None:
    for data in (b"named", b"asked for", b"forgotten"):
        put(house, data)
    put(house, b"part", digest(b"part and more"), "bytes 0-3/13")
    house.client.call(CREATE_MODEL, ModelCreate(model=Model(id="", name="kept", digest=digest(b"named"))))
    stray = house.data / "server" / "blobs" / "ab" / ("ab" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"of a crash between file and row")
    clock.advance(23 * HOUR)
    assert status(house, digest(b"asked for")).complete
    house.restart()
    assert len(files(house)) == 5
    clock.advance(2 * HOUR)
    house.restart()
    kept = {digest(b"named"), digest(b"asked for")}
    for name in kept:
        assert get(house, name).status_code == 200
    assert wait_for(lambda: files(house), kept) == kept


def wait_for(ask: Callable[[], set[str]], wanted: set[str]) -> set[str]:
    """The sweep goes on behind the start."""
    import time

    deadline = time.monotonic() + 20
    while ask() != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    return ask()


def test_status_of_no_digest_is_refused(lasting: House) -> None:
    with pytest.raises(BadInput):
        status(lasting, "nonsense")


def test_uploads_are_private_files(house: House) -> None:
    put(house, DATA)
    folder = Path(house.data / "server" / "blobs")
    assert all(path.stat().st_mode & 0o077 == 0 for path in (folder, *folder.rglob("*")))
