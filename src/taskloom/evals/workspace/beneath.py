"""Files of one folder, reached so that nothing leads out of it: no `..`, no absolute path, no symbolic link.

The agent's shell makes links as it likes, and changes them while we look; so a path is walked a name at a time over
open folders, and every operation names its file in the folder that was reached, without following. Links that stay
inside are followed. Nothing here knows of SSH: see `files`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

MAX_LINKS = 40  # symbolic links on the way to one file, as the kernel has it
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Beneath:
    """The files of `root`, which its users know as the absolute path `guest`.

    OSError as the system gives it; PermissionError for a path that leads out.
    """

    def __init__(self, root: Path, guest: str) -> None:
        self._root = os.open(root, _FOLDER)
        self._guest = _names(os.fsencode(guest))

    def close(self) -> None:
        os.close(self._root)

    @contextmanager
    def place(self, path: bytes, *, follow: bool) -> Generator[tuple[int, bytes]]:
        """The open folder that holds the file and its name there; b"." for the root itself.

        follow: a symbolic link at the end is followed too. The name must not be followed by who uses it: it may have
        become a link meanwhile.
        """
        walk = _Walk(self._root, self._guest)
        try:
            yield walk.to(path, follow)
        finally:
            walk.close()

    def open(self, path: bytes, flags: int, mode: int = 0o666) -> int:
        """A descriptor of a regular file; PermissionError for pipes, devices and the like, which could block us."""
        with self.place(path, follow=not flags & os.O_EXCL) as (folder, name):
            found = os.open(
                name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode & 0o777, dir_fd=folder
            )
        if not stat.S_ISREG(os.fstat(found).st_mode):
            os.close(found)
            raise PermissionError(errno.EACCES, "not a regular file", os.fsdecode(path))
        return found

    def open_folder(self, path: bytes) -> int:
        with self.place(path, follow=True) as (folder, name):
            return os.open(name, _FOLDER, dir_fd=folder)

    def read(self, path: bytes, limit: int) -> bytes:
        """A file's bytes; OSError (EFBIG) when it has more than `limit`."""
        with os.fdopen(self.open(path, os.O_RDONLY), "rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise OSError(errno.EFBIG, f"larger than {limit} bytes", os.fsdecode(path))
        return data

    def real(self, path: bytes) -> bytes:
        """The path as `guest` has it, without dots and links; of what is not there only the dots go."""
        walk = _Walk(self._root, self._guest)
        try:
            _, name = walk.to(path, True)
            return walk.path(name)
        except FileNotFoundError:
            return b"/" + b"/".join([*self._guest, *_inside(path, self._guest)])
        finally:
            walk.close()


class _Walk:
    """The open folders from the root down to where a path has led so far."""

    def __init__(self, root: int, guest: list[bytes]) -> None:
        self._root, self._guest = root, guest
        self._folders: list[int] = []
        self._trail: list[bytes] = []

    def close(self) -> None:
        self._back_to_root()

    def path(self, name: bytes) -> bytes:
        last = [] if name == b"." else [name]
        return b"/" + b"/".join([*self._guest, *self._trail, *last])

    def to(self, path: bytes, follow: bool) -> tuple[int, bytes]:
        left = _inside(path, self._guest, dots=True)
        links = 0
        while left:
            name = left.pop(0)
            if name == b"..":
                self._up(path)
                continue
            target = self._link(name) if left or follow else None
            if target is not None:
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsdecode(path))
                if target.startswith(b"/"):
                    self._back_to_root()
                left = [*_inside(target, self._guest, dots=True), *left]
            elif left:
                self._folders.append(os.open(name, _FOLDER, dir_fd=self._here()))
                self._trail.append(name)
            else:
                return self._here(), name
        return self._here(), b"."

    def _here(self) -> int:
        return self._folders[-1] if self._folders else self._root

    def _link(self, name: bytes) -> bytes | None:
        """Where a symbolic link points; None for what is none."""
        try:
            return os.readlink(name, dir_fd=self._here())
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            raise

    def _up(self, path: bytes) -> None:
        if not self._folders:
            raise _outside(path)
        os.close(self._folders.pop())
        self._trail.pop()

    def _back_to_root(self) -> None:
        while self._folders:
            os.close(self._folders.pop())
        self._trail.clear()


def _names(path: bytes) -> list[bytes]:
    return [name for name in path.split(b"/") if name not in {b"", b"."}]


def _inside(path: bytes, guest: list[bytes], *, dots: bool = False) -> list[bytes]:
    """The names below the root; PermissionError for an absolute path elsewhere. Without `dots` these are taken out."""
    if b"\0" in path:
        raise OSError(errno.EINVAL, "a zero byte in a path")
    names = _names(path)
    if path.startswith(b"/"):
        if names[: len(guest)] != guest:
            raise _outside(path)
        names = names[len(guest) :]
    if dots:
        return names
    kept: list[bytes] = []
    for name in names:
        if name != b"..":
            kept.append(name)
        elif kept:
            kept.pop()
        else:
            raise _outside(path)
    return kept


def _outside(path: bytes) -> PermissionError:
    return PermissionError(errno.EACCES, "outside of the workspace", os.fsdecode(path))
