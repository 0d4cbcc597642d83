"""An archive is data from somewhere else: only what a session holds is unpacked, and never more than it may be."""

from __future__ import annotations

import os
import stat
import time
import zipfile
from pathlib import Path

import pytest

from taskloom.domain.errors import BadInput
from taskloom.journal.writer import Writer
from taskloom.sdk import offline
from taskloom.sdk.identity import new_id
from taskloom.wire.client import Address
from taskloom.wire.records import Opened

NOWHERE = Address("http://127.0.0.1:9", "tl_none")
WRITER = "b" * 32


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """A session as a script leaves it, before it is packed."""
    writer = Writer.create(
        tmp_path / "offline", new_id(), role="main", offline=True, name="a run", project="tests"
    )
    writer.record(Opened(mode="new", name="a run", project="tests", time=time.time()))
    writer.scalar(writer.name_series("loss", "train"), 1, 1.0, 0.0)
    writer.close()
    return writer.task_folder


def test_what_is_packed_is_what_is_unpacked(session: Path, tmp_path: Path) -> None:
    before = {p.relative_to(session).as_posix(): p.read_bytes() for p in session.rglob("*") if p.is_file()}
    archive = offline.pack(session)
    assert not session.exists()
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert archive.stat().st_size < 20_000  # a mostly empty segment of rows costs next to nothing
    offline.unpack(archive, tmp_path / "back")
    back = {
        p.relative_to(tmp_path / "back").as_posix(): p.read_bytes()
        for p in (tmp_path / "back").rglob("*")
        if p.is_file()
    }
    assert back == {name: data for name, data in before.items() if not name.endswith("/lock")}


def archive_with(path: Path, name: str, data: bytes = b"x", mode: int = stat.S_IFREG | 0o644) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        file.writestr(entry, data)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../evil", "/etc/evil", "a/../../evil", f"{WRITER}/../evil", f"{WRITER}\\..\\evil", "evil", "files/evil",
        f"{WRITER}/evil", f"{WRITER}/lock", f"files/{'a' * 63}", f"{WRITER}/rows.000000/x", f"x/{WRITER}/events",
    ],
)  # fmt: skip
def test_a_file_that_no_session_has_is_refused(tmp_path: Path, name: str) -> None:
    archive = archive_with(tmp_path / "a.zip", name)
    with pytest.raises(BadInput, match="no offline session"):
        offline.unpack(archive, tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    archive = archive_with(tmp_path / "a.zip", f"{WRITER}/events", b"/etc/passwd", kind | 0o777)
    with pytest.raises(BadInput, match="no offline session"):
        offline.unpack(archive, tmp_path / "target")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "RATIO_FROM", 1 << 20)
    monkeypatch.setattr(offline, "MAX_RATIO", 500)
    archive = archive_with(tmp_path / "a.zip", f"{WRITER}/stdout", bytes(20 << 20))
    with pytest.raises(BadInput, match="refused"):
        offline.unpack(archive, tmp_path / "target")
    monkeypatch.setattr(offline, "MAX_BYTES", 1000)
    with pytest.raises(BadInput, match="refused"):
        offline.unpack(archive, tmp_path / "target")
    monkeypatch.setattr(offline, "MAX_FILES", 0)
    with pytest.raises(BadInput, match="at most 0"):
        offline.unpack(archive, tmp_path / "target")


def test_what_is_no_archive_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(BadInput, match="not the archive of an offline session"):
        offline.import_session(tmp_path / "text.zip", NOWHERE)
    with pytest.raises(BadInput, match="there is no offline session"):
        offline.import_session(tmp_path / "none.zip", NOWHERE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds no journal"):
        offline.import_session(tmp_path / "empty", NOWHERE)


def test_links_in_a_folder_are_not_followed(session: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (session / "files").mkdir()
    os.symlink(secret, session / "files" / ("c" * 64))
    archive = offline.pack(session)
    assert all("files" not in name for name in zipfile.ZipFile(archive).namelist())
