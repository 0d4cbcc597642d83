"""Folders as zip files, packed so that equal folders give equal bytes, and unpacked as if they were hostile.

Packing takes regular files only. A link counts as the file it points to when that lies inside the folder,
else it is left out; links to folders, pipes and devices are left out. Names are sorted, times are fixed.
Unpacking refuses links, absolute names, `..`, names that meet twice, and archives that grow beyond written
limits; nothing is executable or setuid that was not so for its owner.
"""

from __future__ import annotations

import glob
import os
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from taskloom.domain.errors import BadInput, TooLarge

PIECE = 1 << 20
MAX_ENTRIES = 1_000_000
MAX_BYTES = 1 << 40
MAX_RATIO = 1100  # deflate itself cannot do better than about 1030 to 1
FREE_BYTES = 64 << 20  # below this much the ratio says nothing
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that zip can tell
_PROBE = 64 << 10


def folder_members(folder: Path) -> list[tuple[str, Path]]:
    """Names and files of a folder, sorted; empty folders are members whose name ends with a slash."""
    root = folder.resolve()
    found: list[tuple[str, Path]] = []
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = [name for name in folders if not (here / name).is_symlink()]
        if not folders and not files and here != folder:
            found.append((here.relative_to(folder).as_posix() + "/", here))
        found += [
            ((here / name).relative_to(folder).as_posix(), here / name)
            for name in files
            if _is_inside(here / name, root)
        ]
    return sorted(found)


def direct_members(folder: Path) -> list[tuple[str, Path]]:
    """Names and files that lie directly in a folder, sorted."""
    root = folder.resolve()
    return sorted((file.name, file) for file in folder.iterdir() if file.is_file() and _is_inside(file, root))


def matching_members(pattern: str) -> list[tuple[str, Path]]:
    """What a wildcard path names, each by its path below the part without wildcards."""
    parts = Path(pattern).parts
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    base = Path(*parts[:fixed])
    found: dict[str, Path] = {}
    for name in glob.glob(pattern, recursive=True):  # noqa: PTH207 - Path.glob takes no absolute patterns
        path = Path(name)
        if path.is_dir():
            inner = folder_members(path) if not path.is_symlink() else []
            found |= {
                (path / member).relative_to(base).as_posix(): file for member, file in inner if file.is_file()
            }
        elif _is_inside(path, base.resolve()):
            found[path.relative_to(base).as_posix()] = path
    return sorted(found.items())


def pack(members: Iterable[tuple[str, Path]], target: IO[bytes]) -> None:
    """Write the zip file; what does not shrink is stored as it is."""
    with zipfile.ZipFile(target, "w") as archive:
        for name, path in members:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix, so that modes mean something
            if name.endswith("/"):
                entry.external_attr = (stat.S_IFDIR | 0o755) << 16
                archive.writestr(entry, b"")
                continue
            with path.open("rb") as source:
                status = os.fstat(source.fileno())
                mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
                entry.external_attr = (stat.S_IFREG | mode) << 16
                piece = source.read(PIECE)
                entry.compress_type = zipfile.ZIP_DEFLATED if shrinks(piece) else zipfile.ZIP_STORED
                with archive.open(entry, "w", force_zip64=status.st_size > (1 << 31) - PIECE) as out:
                    while piece:
                        out.write(piece)
                        piece = source.read(PIECE)


def shrinks(sample: bytes | memoryview) -> bool:
    """Whether it is worth compressing data that begins so; packed data costs time and gives nothing."""
    head = sample[:_PROBE]
    return len(head) > 0 and len(zlib.compress(head, 1)) < 0.9 * len(head)


def unpack(archive: Path, target: Path) -> None:
    """Unpack into the empty folder `target`. Raises BadInput or TooLarge before anything leaves the folder."""
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            _check_size(entries, archive.stat().st_size)
            for entry, path in _checked(entries, target):
                _unpack_entry(opened, entry, path)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise BadInput(f"{archive.name} is not a zip file that can be unpacked: {error}") from error


def _check_size(entries: list[zipfile.ZipInfo], packed: int) -> None:
    total = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_ENTRIES or total > MAX_BYTES:
        raise TooLarge(f"the archive holds {len(entries)} files of {total} bytes; too many to unpack")
    if total > FREE_BYTES and total > packed * MAX_RATIO:
        raise TooLarge(f"the archive's {packed} bytes claim to be {total}; such an archive is not unpacked")


def _checked(entries: list[zipfile.ZipInfo], target: Path) -> Iterator[tuple[zipfile.ZipInfo, Path]]:
    """Every entry with its place, all names looked at before the first byte is written."""
    placed: dict[Path, zipfile.ZipInfo] = {}
    root = target.resolve()
    for entry in entries:
        name = entry.filename
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise BadInput(f"archive entry {name!r} is a link or device; such an archive is not unpacked")
        parts = PurePosixPath(name.replace("\\", "/"))
        if (
            not name
            or parts.is_absolute()
            or ".." in parts.parts
            or ":" in (parts.parts or ("",))[0]
            or "\0" in name
        ):
            raise BadInput(f"archive entry {name!r} would leave the folder; such an archive is not unpacked")
        path = root.joinpath(*parts.parts)
        if not path.is_relative_to(root) or (path in placed and not name.endswith("/")):
            raise BadInput(f"archive entry {name!r} meets another one; such an archive is not unpacked")
        placed[path] = entry
    files = {path for path, entry in placed.items() if not entry.is_dir()}
    for path, entry in placed.items():
        if any(parent in files for parent in path.parents):
            raise BadInput(f"archive entry {entry.filename!r} lies in a file; the archive is not unpacked")
    yield from ((entry, path) for path, entry in placed.items())


def _unpack_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    if entry.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    left = entry.file_size
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with archive.open(entry) as source, os.fdopen(descriptor, "wb") as out:
        while piece := source.read(PIECE):
            left -= len(piece)
            if left < 0:
                raise TooLarge(f"archive entry {entry.filename!r} is larger than it says")
            out.write(piece)
    path.chmod(0o755 if (entry.external_attr >> 16) & stat.S_IXUSR else 0o644)


def _is_inside(path: Path, root: Path) -> bool:
    """Whether the path is a regular file that lies below `root`, by whatever links it is reached."""
    try:
        real = path.resolve(strict=True)
        return real.is_relative_to(root) and stat.S_ISREG(real.stat().st_mode)
    except (OSError, RuntimeError):
        return False  # gone, or links that go in circles
