"""ClearML's file server: files stored by forms under paths of the client's choice, read back in ranges, deleted."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from tests.conftest import House

from taskloom.domain.artifact import Artifact, Model, Sample
from taskloom.server.blobs import FileUpload
from taskloom.server.settings import Settings, read_settings
from taskloom.wire.messages import ModelCreate, MoveRequest, SamplesQuery, TaskCreate, TaskDelete
from taskloom.wire.operations import (
    CREATE_MODEL,
    CREATE_TASK,
    DELETE_TASK,
    GET_MODEL,
    LIST_ARTIFACTS,
    LIST_SAMPLES,
    PUBLISH_MODEL,
    PUT_ARTIFACT,
    RESET_TASK,
    SHIP_JOURNAL,
)

Eventually = Callable[[Callable[[], object]], None]


class FileHost:
    """What a client does with a files host."""

    def __init__(self, house: House, key: str = "") -> None:
        self.house, self.url = house, f"{house.url}/files"
        self.http = httpx.Client(headers={"authorization": f"Bearer {key or house.key}"}, timeout=60)

    def put(self, *files: tuple[str, bytes], **headers: str) -> httpx.Response:
        parts = [(path, (path, data, "text/html")) for path, data in files]
        return self.http.post(self.url, files=parts, headers=headers)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.http.get(self.url + quote(path), headers={k.replace("_", "-"): v for k, v in headers.items()})

    def stored(self) -> list[str]:
        """Digests of the bytes on the server's disk."""
        folder = self.house.data / "server" / "blobs"
        return sorted(path.name for path in folder.glob("[0-9a-f][0-9a-f]/*"))

    def partial(self) -> list[Path]:
        return list((self.house.data / "server" / "blobs" / "partial").iterdir())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileHost]:
    """One house for the tests that do not look at all of its bytes."""
    running = House(tmp_path_factory.mktemp("shared") / "house")
    yield FileHost(running)
    running.stop()


@pytest.fixture
def files(house: House) -> FileHost:
    return FileHost(house)


def unique(name: str = "file.bin") -> str:
    return f"/project/task.{uuid.uuid4().hex}/artifacts/a/{name}"


def draft(house: House) -> str:
    return house.client.call(CREATE_TASK, TaskCreate(name="a task", project="files")).id


def told(answer: httpx.Response) -> int:
    assert answer.json()["meta"]["result_code"] == answer.status_code
    return answer.status_code


def test_a_file_is_stored_under_the_name_of_its_field_and_read_back(shared: FileHost) -> None:
    path = unique("ä name; with 100% & # ?.txt")
    answer = shared.put((path, b"what was sent"))
    assert (answer.status_code, answer.json()) == (200, [path])
    assert shared.get(path).content == b"what was sent"


def test_several_files_in_one_form_are_stored_each(shared: FileHost) -> None:
    named = [(unique(str(n)), os.urandom(n)) for n in (0, 1, 65_535, 3_000_000)]
    assert shared.put(*named).json() == [path for path, _ in named]
    for path, data in named:
        assert shared.get(path).content == data


def test_a_field_without_a_name_is_stored_under_its_file_name_and_other_fields_pass_by(shared: FileHost) -> None:
    path = unique()
    boundary = "b" * 16
    form = (
        f'--{boundary}\r\ncontent-disposition: form-data; name="note"\r\n\r\nno file\r\n'
        f'--{boundary}\r\ncontent-disposition: form-data; name=""; filename="{path}"\r\n\r\nits data\r\n'
        f"--{boundary}--\r\n"
    )
    kind = f"multipart/form-data; boundary={boundary}"
    answer = shared.http.post(shared.url + "/", content=form.encode(), headers={"content-type": kind})
    assert answer.json() == [path]
    assert shared.get(path).content == b"its data"


def test_a_download_is_nothing_that_a_browser_would_run(shared: FileHost) -> None:
    path = unique("page.html")
    shared.put((path, b"<script>alert(1)</script>"))
    headers = shared.get(path).headers
    assert headers["content-disposition"] == "attachment"
    assert headers["content-type"] == "application/octet-stream"
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]


def test_ranges_and_heads_are_answered(shared: FileHost) -> None:
    path, data = unique(), os.urandom(100_000)
    shared.put((path, data))
    part = shared.get(path, range="bytes=10-99")
    assert (part.status_code, part.content) == (206, data[10:100])
    assert part.headers["content-range"] == "bytes 10-99/100000"
    assert shared.get(path, range="bytes=-5").content == data[-5:]
    assert shared.get(path, range="bytes=200000-").status_code == 416
    head = shared.http.head(shared.url + path)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "100000", b"")
    same = shared.get(path, if_none_match=head.headers["etag"])
    assert same.status_code == 304


def test_the_same_path_again_replaces_and_forgets_the_old_bytes(files: FileHost) -> None:
    path = unique()
    files.put((path, b"old"))
    files.put((path, b"new"))
    assert files.get(path).content == b"new"
    assert files.stored() == [hashlib.sha256(b"new").hexdigest()]


def test_the_same_bytes_twice_are_stored_once_and_go_with_their_last_name(files: FileHost) -> None:
    first, second = unique("1"), unique("2")
    files.put((first, b"same"), (second, b"same"))
    assert files.stored() == [hashlib.sha256(b"same").hexdigest()]
    assert files.http.delete(files.url + first).status_code == 200
    assert files.get(second).content == b"same"
    assert files.http.delete(files.url + second).status_code == 200
    assert told(files.get(second)) == 404
    assert files.stored() == []


def test_deleting_what_is_not_there_is_no_error(shared: FileHost) -> None:
    assert shared.http.delete(shared.url + unique()).status_code == 200
    assert shared.http.delete(f"{shared.url}/blobs/{'0' * 64}/x").status_code == 200


def test_many_are_deleted_at_once_and_what_could_not_be_is_told(files: FileHost) -> None:
    first, second, absent = unique("1"), unique("2 ü"), unique("3")
    files.put((first, b"1"), (second, b"2"))
    wanted = [first, f"{files.url}{quote(second)}", absent, "\0", ""]
    answer = files.http.post(f"{files.url}/delete_many", json={"files": wanted}).json()
    assert answer["deleted"] == {first: first, wanted[1]: second}
    assert sorted(name for names in answer["errors"].values() for name in names) == ["", "\0", absent]
    assert files.stored() == []


@pytest.mark.parametrize(
    "path", ["", "/", "/a%00b", "/a%0Ab", "/%ff", "/" + "x" * 5000, "/%2e%2e", "/a%C2%85", "/%ED%A0%80"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_path_that_cannot_be_is_refused(shared: FileHost, method: str, path: str) -> None:
    assert shared.http.request(method, shared.url + path).status_code == 400


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("/../../../etc/passwd", "/etc/passwd"),
        ("//a//b/./c", "/a/b/c"),
        ("relative/name", "/relative/name"),
        ("C:\\windows\\system32", "/C:\\windows\\system32"),
        ("/a/../../b", "/b"),
        ("/~root/$HOME/`id`", "/~root/$HOME/`id`"),
        ("/%2e%2e/x", "/%2e%2e/x"),
    ],
)
def test_a_hostile_path_is_only_a_name(shared: FileHost, given: str, stored: str) -> None:
    answer = shared.put((given, given.encode()))
    assert answer.json() == [stored]
    assert shared.get(stored).content == given.encode()
    server = shared.house.data / "server"
    kept = [path for path in server.rglob("*") if path.is_file() and path.read_bytes() == given.encode()]
    assert [path.parent.parent for path in kept] == [server / "blobs"]


@pytest.mark.parametrize("path", ["", "/", "a\x01b", "x" * 4097, f"/blobs/{'a' * 64}/x"])
def test_a_form_with_a_path_that_cannot_be_is_refused_and_nothing_of_it_kept(files: FileHost, path: str) -> None:
    good = unique()
    boundary = b"b" * 16
    form = b"".join(
        b'--%s\r\ncontent-disposition: form-data; name="%s"; filename="%s"\r\n\r\ndata\r\n'
        % (boundary, name.encode(), name.encode())
        for name in (good, path)
    )
    kind = f"multipart/form-data; boundary={boundary.decode()}"
    form += b"--" + boundary + b"--\r\n"
    answer = files.http.post(files.url, content=form, headers={"content-type": kind})
    assert answer.status_code == 400, answer.text
    assert told(files.get(good)) == 404
    assert files.partial() == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"--x--"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--x--\r\n"),
        ("multipart/form-data; boundary=x", b"nothing like a form"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\ncontent-disposition: form-data; name="/a/b"\r\n\r\n1\r\n--x--',
        ),
        ("multipart/form-data; boundary=" + "x" * 500, b"--x--"),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"a: " + b"b" * 100_000 + b"\r\n\r\n1\r\n--x--"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\ncontent-disposition: form-data; name="/\xff"; filename="a"\r\n\r\n',
        ),
    ],
)
def test_what_is_no_form_with_files_is_refused(shared: FileHost, kind: str, body: bytes) -> None:
    assert told(shared.http.post(shared.url, content=body, headers={"content-type": kind})) == 400


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/some/file"), ("PUT", "/x"), ("PATCH", "/x"), ("OPTIONS", "")]
)
def test_other_methods_are_refused(shared: FileHost, method: str, path: str) -> None:
    assert told(shared.http.request(method, shared.url + path)) == 405


def test_viewers_read_and_members_write(shared: FileHost) -> None:
    viewer = FileHost(shared.house, shared.house.make_key("viewer"))
    member = FileHost(shared.house, shared.house.make_key("member"))
    path = unique()
    assert told(viewer.put((path, b"x"))) == 403
    assert member.put((path, b"x")).status_code == 200
    assert viewer.get(path).content == b"x"
    assert told(viewer.http.delete(viewer.url + path)) == 403
    assert told(viewer.http.post(f"{viewer.url}/delete_many", json={"files": [path]})) == 403
    assert member.http.delete(member.url + path).status_code == 200
    assert told(httpx.get(shared.url + path)) == 401


def test_an_upload_that_is_cut_leaves_nothing(files: FileHost, eventually: Eventually) -> None:
    whole, cut = unique("whole"), unique("cut")
    head = '--x\r\ncontent-disposition: form-data; name="{0}"; filename="f"\r\n\r\n'  # the form of each part
    body = f"{head.format(whole)}all of it\r\n{head.format(cut)}".encode() + b"x" * 3_000_000
    request = (
        f"POST /files HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {files.house.key}\r\n"
        f"content-type: multipart/form-data; boundary=x\r\ncontent-length: {len(body) + 100}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", int(files.house.url.rpartition(":")[2]))) as connection:
        connection.sendall(request + body)
        eventually(files.partial)
    eventually(lambda: not files.partial())
    for path in (whole, cut):
        assert told(files.get(path)) == 404


def test_a_form_whose_end_is_missing_leaves_nothing(files: FileHost) -> None:
    path = unique()
    form = f'--x\r\ncontent-disposition: form-data; name="{path}"; filename="f"\r\n\r\nits data\r\n--x'
    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert told(files.http.post(files.url, content=form.encode(), headers=kind)) == 400
    assert told(files.get(path)) == 404
    assert files.partial() == []


def test_a_file_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def limited(*given: Any) -> Settings:
        return msgspec.structs.replace(read_settings(*given), max_blob=1000)

    monkeypatch.setattr("tests.conftest.read_settings", limited)
    running = House(tmp_path / "house")
    files, path = FileHost(running), unique()
    assert told(files.put((path, b"x" * 2000))) == 413

    def pieces() -> Iterator[bytes]:
        yield f'--x\r\ncontent-disposition: form-data; name="{path}"; filename="f"\r\n\r\n'.encode()
        for _ in range(10):
            yield b"x" * 1000
        yield b"\r\n--x--\r\n"

    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert told(files.http.post(files.url, content=pieces(), headers=kind)) == 413
    assert told(files.get(path)) == 404
    assert (files.partial(), files.stored()) == ([], [])
    running.stop()


def test_a_full_disk_is_told_and_nothing_kept(files: FileHost, monkeypatch: pytest.MonkeyPatch) -> None:
    path = unique()
    real = FileUpload.seal

    def full(self: FileUpload) -> None:
        monkeypatch.setattr(os, "fsync", _no_space)
        try:
            real(self)
        finally:
            monkeypatch.undo()

    monkeypatch.setattr(FileUpload, "seal", full)
    assert told(files.put((path, b"too much"))) == 507
    assert told(files.get(path)) == 404
    assert files.partial() == []


def _no_space(_: int) -> None:
    raise OSError(errno.ENOSPC, "no space left on device")


# --- whose file it is -------------------------------------------------------------------------------------


def of_task(task: str, name: str = "weights.pt") -> str:
    return f"/files/a task.{task}/models/{name}"


def test_the_files_of_a_task_go_with_it(files: FileHost) -> None:
    task, other = draft(files.house), draft(files.house)
    files.put((of_task(task), b"mine"), (of_task(other), b"theirs"))
    files.house.client.call(DELETE_TASK, query=TaskDelete(force=True), task=task)
    assert told(files.get(of_task(task))) == 404
    assert files.get(of_task(other)).content == b"theirs"
    assert files.stored() == [hashlib.sha256(b"theirs").hexdigest()]
    assert files.http.delete(files.url + quote(of_task(task))).status_code == 200


def test_the_files_of_a_task_go_with_a_reset_but_for_a_published_models(files: FileHost) -> None:
    task = draft(files.house)
    kept, gone = of_task(task), of_task(task, "other.pt")
    files.put((kept, b"kept"), (gone, b"gone"))
    model = Model(id="", name="net", task=task, uri=f"http://elsewhere.example/files{quote(kept)}")
    made = files.house.client.call(CREATE_MODEL, ModelCreate(model=model))
    files.house.client.call(PUBLISH_MODEL, model=made.id)
    files.house.client.call(RESET_TASK, MoveRequest(), task=task)
    assert told(files.get(gone)) == 404
    assert files.get(kept).content == b"kept"


def test_an_artifact_at_the_address_of_a_file_has_its_bytes(shared: FileHost) -> None:
    task = draft(shared.house)
    path = of_task(task, "ä b.json")
    shared.put((path, b"{}"))
    artifact = Artifact(name="doc", kind="dict", uri=f"{shared.url}{quote(path)}")
    kept = shared.house.client.call(PUT_ARTIFACT, artifact, task=task).artifacts[0]
    assert (kept.digest, kept.size, kept.filename) == (hashlib.sha256(b"{}").hexdigest(), 2, "ä b.json")


def test_an_artifact_told_before_its_file_gets_the_bytes_when_they_come(shared: FileHost) -> None:
    task = draft(shared.house)
    path = of_task(task)
    artifact = Artifact(name="late", uri=f"{shared.url}{quote(path)}", size=4)
    assert not shared.house.client.call(PUT_ARTIFACT, artifact, task=task).artifacts[0].digest
    for data in (b"late", b"later"):
        shared.put((path, data))
        kept = shared.house.client.call(LIST_ARTIFACTS, task=task).artifacts[0]
        assert (kept.digest, kept.size) == (hashlib.sha256(data).hexdigest(), len(data))
    shared.http.delete(shared.url + quote(path))
    assert not shared.house.client.call(LIST_ARTIFACTS, task=task).artifacts[0].digest


def test_what_is_published_keeps_its_file(shared: FileHost) -> None:
    path = unique()
    shared.put((path, b"weights"))
    made = shared.house.client.call(CREATE_MODEL, ModelCreate(model=Model(id="", uri=shared.url + quote(path))))
    assert made.digest
    shared.house.client.call(PUBLISH_MODEL, model=made.id)
    assert told(shared.put((path, b"others"))) == 409
    assert told(shared.http.delete(shared.url + path)) == 409
    assert shared.put((path, b"weights")).status_code == 200  # the same again is no change
    assert shared.get(path).content == b"weights"
    assert shared.house.client.call(GET_MODEL, model=made.id).digest == made.digest


def test_bytes_that_our_sdk_stored_have_an_address_too(shared: FileHost) -> None:
    data = os.urandom(1000)
    digest = hashlib.sha256(data).hexdigest()
    client = shared.house.client
    client.http.put(f"{shared.house.url}/api/blobs/{digest}", content=data, headers=client.address.headers())
    assert shared.get(f"/blobs/{digest}/any name.npz").content == data
    assert shared.get(f"/blobs/{digest}/x", range="bytes=0-9").content == data[:10]
    assert told(shared.get(f"/blobs/{'0' * 64}/x")) == 404
    task = draft(shared.house)
    again = Artifact(name="copy", uri=f"{shared.url}/blobs/{digest}/a%20b.npz")
    kept = client.call(PUT_ARTIFACT, again, task=task).artifacts[0]
    assert (kept.digest, kept.uri, kept.filename) == (digest, "", "a b.npz")


# --- samples ----------------------------------------------------------------------------------------------


def test_samples_of_a_journal_are_listed_and_go_with_their_task(files: FileHost) -> None:
    from taskloom.wire.messages import JournalBatch
    from taskloom.wire.records import Opened, Sampled

    task, client = uuid.uuid4().hex, files.house.client
    path = of_task(task, "image.png")
    files.put((path, b"pixels"))
    records: list[Any] = [Opened(mode="new", name="a run", project="files", time=1.0)]
    for iteration in (0, 1):
        for series in ("a", "b"):
            uri = files.url + quote(path) if iteration else "s3://elsewhere/x.png"
            sample = Sample(
                title="im", series=series, iteration=iteration, time=2.0, uri=uri, media_type="image/png"
            )
            records.append(Sampled(sample=sample))
    client.call(SHIP_JOURNAL, JournalBatch(writer="w" * 32, events=records), task=task)
    newest = client.call(LIST_SAMPLES, query=SamplesQuery(), task=task)
    assert [(s.series, s.iteration, s.size) for s in newest.samples] == [("a", 1, 6), ("b", 1, 6)]
    every = client.call(LIST_SAMPLES, query=SamplesQuery(all_iterations=True, limit=3), task=task)
    assert (every.total, [(s.series, s.iteration) for s in every.samples]) == (4, [("a", 1), ("a", 0), ("b", 1)])
    files.put((path, b"other pixels"))  # what the samples showed is gone
    assert client.call(LIST_SAMPLES, query=SamplesQuery(all_iterations=True), task=task).total == 2
    client.call(DELETE_TASK, query=TaskDelete(force=True), task=task)
    assert files.stored() == []


def test_a_sample_of_nobody_is_refused(shared: FileHost) -> None:
    from taskloom.domain.errors import NotFound

    with pytest.raises(NotFound):
        shared.house.client.call(LIST_SAMPLES, query=SamplesQuery(), task=uuid.uuid4().hex)
