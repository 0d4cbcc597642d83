"""Offline sessions: a journal that is zipped instead of shipped, and its way back.

Importing ships the same journal under the same writer, so importing it twice changes nothing the second
time. What the archive holds is taken as data from somewhere else: only the files that a journal has are
unpacked, with limits, and no name in it becomes a path outside of the target.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path

import msgspec

from taskloom.domain.errors import BadInput, TaskloomError
from taskloom.journal import layout
from taskloom.journal.layout import Meta
from taskloom.journal.post import Post
from taskloom.journal.reader import Reader
from taskloom.journal.shipping import Shipping
from taskloom.wire.client import Address
from taskloom.wire.records import Opened

MAX_FILES = 100_000
MAX_BYTES = 1 << 40
MAX_RATIO = 2_000  # zeros of an allocated segment shrink a thousandfold; a bomb shrinks much further
RATIO_FROM = 64 << 20  # bytes below which no ratio is looked at

_ROW_FILE = re.compile(r"rows\.\d{6}")
_WRITER = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_WRITER_FILES = {layout.META_FILE, layout.EVENTS_FILE, *layout.STREAMS}


def pack(task_folder: Path) -> Path:
    """Zip a session beside its folder and remove the folder; the archive is whole or not there."""
    target = task_folder.with_name(f"{task_folder.name}.zip")
    fresh = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for path in sorted(task_folder.rglob("*")):
                name = path.relative_to(task_folder).as_posix()
                if path.is_file() and not path.is_symlink() and _expected(name):
                    archive.write(path, name)
        fresh.chmod(0o600)
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
    shutil.rmtree(task_folder, ignore_errors=True)
    return target


def import_session(source: Path, address: Address, previous_task: str = "", iteration_offset: int = 0) -> str:
    """Ship an offline session (its zip or its folder); returns the id of the task that holds it now.

    previous_task: continue this task instead of making the session's own; iteration_offset is added to every
    iteration. Raises BadInput for what is not a session, and the server's errors.
    """
    with tempfile.TemporaryDirectory(prefix="taskloom-import-") as place:
        folder = Path(place) / "session"
        if source.is_dir():
            shutil.copytree(source, folder, symlinks=True, ignore=_ignore_unexpected)
        else:
            unpack(source, folder)
        task = _readdress(folder, previous_task, iteration_offset)
        _ship(folder, address)
        return task


def unpack(archive: Path, target: Path) -> None:
    """Unpack a session's archive; BadInput for an archive that a session would not be."""
    try:
        with zipfile.ZipFile(archive) as file:
            _check(file, archive.stat().st_size)
            for entry in file.infolist():
                if entry.is_dir():
                    continue
                path = target / entry.filename  # matched against the names of a journal: no '..', no root
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                with file.open(entry) as source, path.open("xb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
    except (zipfile.BadZipFile, FileExistsError, EOFError, zipfile.LargeZipFile) as error:
        raise BadInput(f"{archive} is not the archive of an offline session: {error}") from None
    except FileNotFoundError:
        raise BadInput(f"there is no offline session at {archive}") from None


def _check(file: zipfile.ZipFile, size: int) -> None:
    entries = file.infolist()
    if len(entries) > MAX_FILES:
        raise BadInput(f"the archive holds {len(entries)} files; at most {MAX_FILES} are possible")
    total = sum(entry.file_size for entry in entries)
    if total > MAX_BYTES or (total > RATIO_FROM and total > size * MAX_RATIO):
        raise BadInput(f"the archive of {size} bytes would become {total} bytes: refused")
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        regular = kind in {0, stat.S_IFREG} or (entry.is_dir() and kind == stat.S_IFDIR)
        if not regular or not (_expected(entry.filename) or entry.is_dir()):
            raise BadInput(f"the archive holds {entry.filename[:200]!a}, which no offline session does")


def _expected(name: str) -> bool:
    """`<writer>/<file>` or `files/<sha256>`."""
    folder, slash, file = name.partition("/")
    if not slash:
        return False
    if folder == layout.FILES_FOLDER:
        return _DIGEST.fullmatch(file) is not None
    known = file in _WRITER_FILES or _ROW_FILE.fullmatch(file) is not None
    return _WRITER.fullmatch(folder) is not None and known


def _ignore_unexpected(folder: str, names: list[str]) -> set[str]:
    place = Path(folder)
    return {
        name
        for name in names
        if (place / name).is_symlink() or ((place / name).is_file() and not _expected(f"{place.name}/{name}"))
    }


def _readdress(folder: Path, previous_task: str, iteration_offset: int) -> str:
    """Point every writer at the task that is to hold the session."""
    folders = layout.writer_folders(folder)
    if not folders:
        raise BadInput("the session holds no journal")
    task = previous_task or Reader(folders[0]).meta.task
    for path in folders:
        meta = Reader(path).meta
        changes = {"task": task, "offline": False, "lease": "", "iteration_offset": iteration_offset}
        layout.write_whole(path / layout.META_FILE, msgspec.structs.replace(meta, **changes))
        if previous_task:
            _resume_instead(path, meta)
    return task


def _resume_instead(folder: Path, meta: Meta) -> None:
    """The first record opens a task; one that is continued keeps what it has. The numbering stays."""
    records = Reader(folder).records(0)
    if not records or not isinstance(records[0], Opened):
        return
    records[0] = msgspec.structs.replace(records[0], mode="resume")
    encode = msgspec.msgpack.Encoder().encode
    with (folder / layout.EVENTS_FILE).open("wb") as file:
        for record in records:
            data = encode(record)
            file.write(layout.LENGTH.pack(len(data)) + data)


def _ship(folder: Path, address: Address) -> None:
    notes: list[str] = []
    post = Post(address)
    try:
        shipping = Shipping(folder, post, notes.append)
        shipping.finish_dead()
        step = shipping.step()
    finally:
        post.close()
    refused = [layout.read_marks(path).refused for path in layout.writer_folders(folder)]
    problem = next((text for text in refused if text), notes[-1] if step.waiting and notes else "")
    if problem:
        raise TaskloomError(f"the server did not take the offline session: {problem}")
