"""Uploads beside the records: what replaces what, what is brought once, and what is told while they last."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from tests.conftest import House

from taskloom.domain.artifact import Artifact, Model
from taskloom.journal import layout
from taskloom.journal.storage import Folder
from taskloom.journal.uploads import Need, Uploads, bring_now, diverted, need_of
from taskloom.sdk import progress
from taskloom.sdk.progress import told
from taskloom.wire.client import Address
from taskloom.wire.records import ArtifactStored, ModelStored

NO_SERVER = Address("http://127.0.0.1:9")


def spooled(folder: Path, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    (folder / layout.FILES_FOLDER).mkdir(parents=True, exist_ok=True)
    (folder / layout.FILES_FOLDER / digest).write_bytes(data)
    return digest


def settled(uploads: Uploads, *needs: Need) -> None:
    while not all(uploads.settled(need) for need in needs):
        uploads.want(needs)
        uploads.wait(5.0)


def test_of_several_bytes_for_one_address_the_last_ones_wanted_lie_there(tmp_path: Path):
    target = (tmp_path / "there" / "x.bin").as_uri()
    uploads = Uploads(tmp_path, NO_SERVER, print)
    first, second = (Need(spooled(tmp_path, data), target) for data in (b"first", b"second"))
    settled(uploads, first)
    settled(uploads, second)
    assert (tmp_path / "there" / "x.bin").read_bytes() == b"second"
    assert not uploads.settled(first)  # its bytes are not there any more
    settled(uploads, first)
    assert (tmp_path / "there" / "x.bin").read_bytes() == b"first"
    assert not list((tmp_path / "there").glob("*.tmp"))


def test_bytes_that_are_there_already_are_not_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = tmp_path / "there" / "x.bin"
    target.parent.mkdir()
    target.write_bytes(b"here before")
    monkeypatch.setattr(Folder, "put", lambda *words: pytest.fail("it was sent"))
    uploads = Uploads(tmp_path, NO_SERVER, print)
    settled(uploads, Need(spooled(tmp_path, b"here before"), target.as_uri()))


def test_a_destination_that_does_not_answer_for_long_is_given_up(house: House, tmp_path: Path):
    (tmp_path / "full").write_text("")
    record = ArtifactStored(
        artifact=Artifact("x", uri="s3://127.0.0.1:9/bucket/x", fingerprint=spooled(tmp_path, b"kept"))
    )
    need = need_of(record)
    assert need is not None
    notes: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "tester")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        uploads = Uploads(tmp_path, house.client.address, notes.append, patience=0.0)
        settled(uploads, need)
    changed = uploads.settle(record)
    assert isinstance(changed, ArtifactStored)
    assert (changed.artifact.digest, changed.artifact.uri) == (need.digest, "")
    assert changed.artifact.metadata["wanted_uri"] == need.uri
    assert "s3://127.0.0.1:9/bucket" in changed.artifact.metadata["refusal"]
    # A later shipper knows it, too, and so does the script.
    assert Uploads(tmp_path, NO_SERVER, print).settle(record) == changed
    assert list(layout.read_fallbacks(tmp_path)) == [need.uri]


def test_what_is_not_spooled_here_is_nobodys_business(tmp_path: Path):
    uploads = Uploads(tmp_path, NO_SERVER, print)
    need = Need("0" * 64, "s3://bucket/somebody/elses")
    uploads.want([need])
    assert uploads.settled(need) and not uploads.busy()


def test_an_edit_of_a_model_says_that_its_bytes_are_elsewhere_than_it_thought():
    record = ModelStored(model=Model("m", tags=("new",), uri="s3://b/x", fingerprint="f"), changed=("tags",))
    changed = diverted(record, layout.Fallback("f", "no"))
    assert isinstance(changed, ModelStored)
    assert changed.changed == ("tags", "digest", "uri", "fingerprint", "metadata")


def test_bytes_of_a_task_that_runs_elsewhere_are_brought_at_once(house: House, tmp_path: Path):
    (tmp_path / "file").write_text("")
    digest = spooled(tmp_path, b"at once")
    refused = (tmp_path / "file" / "x").as_uri()
    record = ArtifactStored(artifact=Artifact("x", uri=refused, fingerprint=digest))
    sent = bring_now(record, tmp_path / layout.FILES_FOLDER, house.client.address)
    assert isinstance(sent, ArtifactStored)
    assert (sent.artifact.digest, sent.artifact.uri) == (digest, "")
    assert not (tmp_path / layout.FILES_FOLDER / digest).exists()


def test_a_fault_of_the_storage_library_is_tried_again_and_the_threads_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    failed = threading.Event()
    plain = Folder.put

    def put(self: Folder, *words: object) -> None:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("a bug")
        plain(self, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(Folder, "put", put)
    notes: list[str] = []
    target = tmp_path / "there" / "x.bin"
    uploads = Uploads(tmp_path, NO_SERVER, notes.append)
    settled(uploads, Need(spooled(tmp_path, b"bytes"), target.as_uri()))
    assert target.read_bytes() == b"bytes"
    assert len(notes) == 1 and "RuntimeError: a bug; tried again later" in notes[0]


def test_what_a_waiting_person_is_told():
    half = layout.Uploading(files=2, bytes=1_000_000_000, sent=500_000_000)
    assert told(half, 5.0, 250_000_000) == (
        "taskloom: uploading 2 files [############------------] 50% of 1 GB, 50 MB/s, 10 s left"
    )
    assert told(layout.Uploading(1, 0, 0), 0.0, 0).startswith("taskloom: uploading 1 file [####")


def test_a_person_who_waits_sees_a_bar_on_a_terminal_and_lines_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    layout.write_whole(tmp_path / layout.UPLOADING_FILE, layout.Uploading(files=1, bytes=2_000, sent=500))
    monkeypatch.setattr(progress, "QUIET", 0.0)
    for terminal in (True, False):
        monkeypatch.setattr(progress, "_is_terminal", lambda terminal=terminal: terminal)
        shown = progress.UploadProgress(tmp_path)
        shown.look()
        shown.look()  # too soon for another
        shown.close()
    bar = "taskloom: uploading 1 file [######------------------] 25% of 2 kB"
    assert capsys.readouterr().err == f"\r\033[K{bar}\r\033[K{bar}\n"


def test_addresses_that_are_no_destination_need_nothing():
    assert need_of(ArtifactStored(artifact=Artifact("x", uri="https://x/y", fingerprint="f" * 64))) is None
    unspooled = ArtifactStored(artifact=Artifact("x", digest="f" * 64))
    assert bring_now(unspooled, Path("/nowhere"), NO_SERVER) is unspooled
