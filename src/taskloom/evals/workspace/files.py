"""The files of a workspace over SFTP, for those who would rather not go through the shell.

Every path goes through `beneath`, so that what the shell did to the folder cannot lead this process out of it. Owners and
the bits that lend them (setuid, setgid) are not set, however often a client asks.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from typing import BinaryIO, cast

import asyncssh
from asyncssh import SFTPAttrs, SFTPName
from asyncssh.constants import FXF_APPEND, FXF_CREAT, FXF_EXCL, FXF_READ, FXF_TRUNC, FXF_WRITE

from taskloom.evals.workspace.beneath import Beneath

MAX_OPEN = 128  # files that one session has open at once

_Channel = asyncssh.SSHServerChannel[bytes]


class Files(asyncssh.SFTPServer):
    """SFTP version 3, as clients speak it, of one session."""

    def __init__(self, channel: _Channel, files: Beneath) -> None:
        super().__init__(channel)  # pyright: ignore[reportUnknownMemberType]
        self._files = files
        self._open = 0

    # --- files --------------------------------------------------------------------------------------------

    def open(self, path: bytes, pflags: int, attrs: SFTPAttrs) -> BinaryIO:
        if self._open >= MAX_OPEN:
            raise asyncssh.SFTPFailure(f"{MAX_OPEN} files are open, close one first")
        reads, writes = bool(pflags & FXF_READ), bool(pflags & FXF_WRITE)
        flags = os.O_RDWR if reads and writes else os.O_WRONLY if writes else os.O_RDONLY
        known = {FXF_APPEND: os.O_APPEND, FXF_CREAT: os.O_CREAT, FXF_TRUNC: os.O_TRUNC, FXF_EXCL: os.O_EXCL}
        for told, flag in known.items():
            flags |= flag if pflags & told else 0
        found = self._files.open(path, flags, 0o666 if attrs.permissions is None else attrs.permissions)
        self._open += 1
        return cast(
            BinaryIO, os.fdopen(found, "r+b" if reads and writes else "wb" if writes else "rb", buffering=0)
        )

    def close(self, file_obj: object) -> None:
        self._open -= 1
        cast(BinaryIO, file_obj).close()

    def fsetstat(self, file_obj: object, attrs: SFTPAttrs) -> None:
        _change(cast(BinaryIO, file_obj).fileno(), attrs)

    # --- what is there ------------------------------------------------------------------------------------

    def lstat(self, path: bytes) -> os.stat_result:
        return self._stat(path, follow=False)

    def stat(self, path: bytes) -> os.stat_result:
        return self._stat(path, follow=True)

    def _stat(self, path: bytes, *, follow: bool) -> os.stat_result:
        with self._files.place(path, follow=follow) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False)

    async def scandir(self, path: bytes) -> AsyncIterator[SFTPName]:
        folder = self._files.open_folder(path)
        try:
            for name in (".", "..", *sorted(os.listdir(folder))):  # noqa: PTH208
                # Above the root is nothing that a client may know of.
                known = os.stat("." if name == ".." else name, dir_fd=folder, follow_symlinks=False)
                yield SFTPName(os.fsencode(name), attrs=SFTPAttrs.from_local(known))
        finally:
            os.close(folder)

    def realpath(self, path: bytes) -> bytes:
        return self._files.real(path)

    def readlink(self, path: bytes) -> bytes:
        with self._files.place(path, follow=False) as (folder, name):
            return os.readlink(name, dir_fd=folder)

    def statvfs(self, path: bytes) -> os.statvfs_result:
        folder = self._files.open_folder(b".")
        try:
            return os.fstatvfs(folder)
        finally:
            os.close(folder)

    # --- changes ------------------------------------------------------------------------------------------

    def setstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        with self._files.place(path, follow=True) as (folder, name):
            flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            found = os.open(name, flags | (os.O_RDONLY if attrs.size is None else os.O_RDWR), dir_fd=folder)
        try:
            _change(found, attrs)
        finally:
            os.close(found)

    def lsetstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        raise asyncssh.SFTPOpUnsupported("attributes of a symbolic link")

    def remove(self, path: bytes) -> None:
        with self._files.place(path, follow=False) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def mkdir(self, path: bytes, attrs: SFTPAttrs) -> None:
        mode = 0o777 if attrs.permissions is None else attrs.permissions & 0o777
        with self._files.place(path, follow=False) as (folder, name):
            os.mkdir(name, mode, dir_fd=folder)

    def rmdir(self, path: bytes) -> None:
        with self._files.place(path, follow=False) as (folder, name):
            os.rmdir(name, dir_fd=folder)

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        with self._files.place(newpath, follow=False) as (folder, name):
            try:
                os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                return self.posix_rename(oldpath, newpath)
        raise asyncssh.SFTPFailure("there is a file of that name already")

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        files = self._files
        with files.place(oldpath, follow=False) as (here, old), files.place(newpath, follow=False) as (there, new):
            os.replace(old, new, src_dir_fd=here, dst_dir_fd=there)

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        files = self._files
        with files.place(oldpath, follow=False) as (here, old), files.place(newpath, follow=False) as (there, new):
            os.link(old, new, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        with self._files.place(newpath, follow=False) as (folder, name):
            os.symlink(oldpath, name, dir_fd=folder)


def _change(file: int, attrs: SFTPAttrs) -> None:
    if attrs.size is not None:
        os.ftruncate(file, attrs.size)
    if attrs.permissions is not None:
        os.fchmod(file, stat.S_IMODE(attrs.permissions) & 0o777)
    if attrs.mtime is not None:
        accessed = attrs.atime if attrs.atime is not None else attrs.mtime
        os.utime(file, (accessed, attrs.mtime))
