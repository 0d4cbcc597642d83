"""Bytes that come along: fetched from the origin into a file of this machine, digested, and sent on.

What lies elsewhere (S3, a folder of somebody's machine) keeps its address; what the origin has lost is told.
"""

from __future__ import annotations

import hashlib
import mimetypes
import tempfile
from typing import IO
from urllib.parse import urlsplit

from taskloom.cli.clearml.origins import Origin
from taskloom.cli.clearml.report import Report
from taskloom.cli.clearml.target import Target
from taskloom.domain.artifact import StoredFile
from taskloom.domain.errors import NotFound, TooLarge

SPOOLED = 4 << 20  # bytes that are kept in memory before a file is made
PIECE = 1 << 20
SMALL = 8 << 20  # bytes of a picture that is put into its plot


class Files:
    """`wanted` False: every address stays as it is."""

    def __init__(self, target: Target, origin: Origin, report: Report, wanted: bool) -> None:
        self._target, self._origin, self._report, self._wanted = target, origin, report, wanted

    def bring(self, uri: str, what: str, digest: str = "", size: int = -1) -> StoredFile | None:
        """The file as our server has it now; None when it stays where it is. `digest` and `size`: as the source
        tells them; when our server has such bytes, nothing is fetched.
        """
        if not self._comes_along(uri, what):
            return None
        if size >= 0 and self._target.has(digest, size):
            return _stored(uri, digest, size)
        with tempfile.SpooledTemporaryFile(SPOOLED) as file:
            found = self._fetch(uri, what, file)
            if found is None:
                return None
            digest, size = found
            try:
                self._target.put(file, digest, size)
            except TooLarge as error:
                self._report.leave_out(what, f"too large for the server here: {error.message}", uri)
                return None
        self._report.add("files")
        self._report.add("bytes", size)
        return _stored(uri, digest, size)

    def would_come(self, uri: str) -> bool:
        return self._wanted and self._origin.holds(uri)

    def read(self, uri: str, what: str) -> tuple[bytes, str] | None:
        """The bytes of a small file, and their media type."""
        if not self._comes_along(uri, what):
            return None
        with tempfile.SpooledTemporaryFile(SPOOLED) as file:
            found = self._fetch(uri, what, file)
            if found is None or found[1] > SMALL:
                return None
            file.seek(0)
            return file.read(), _media_type(uri)

    def _comes_along(self, uri: str, what: str) -> bool:
        if not self._wanted:
            self._report.leave_out(what, "--no-files: the address was kept")
            return False
        if not self._origin.holds(uri):
            place = urlsplit(uri)
            self._report.leave_out(
                what, "it lies elsewhere: the address was kept", f"{place.scheme}://{place.netloc}"
            )
            return False
        return True

    def _fetch(self, uri: str, what: str, file: IO[bytes]) -> tuple[str, int] | None:
        try:
            self._origin.fetch(uri, file)
        except NotFound as error:
            self._report.leave_out(what, "the source does not have its bytes (any more)", error.message)
            return None
        file.seek(0)
        checked, size = hashlib.sha256(), 0
        while piece := file.read(PIECE):
            checked.update(piece)
            size += len(piece)
        return checked.hexdigest(), size


def _stored(uri: str, digest: str, size: int) -> StoredFile:
    return StoredFile(path=uri, digest=digest, size=size, media_type=_media_type(uri))


def _media_type(uri: str) -> str:
    return mimetypes.guess_type(uri.partition("?")[0])[0] or ""
