"""Chosen files of a folder, packed and brought to the server: what it has by content already is not sent again."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from taskloom.domain.errors import ServerAway, Unavailable
from taskloom.journal.post import Post
from taskloom.wire import archives
from taskloom.wire import operations as op
from taskloom.wire.client import Address
from taskloom.wire.configuration import data_folder

TRIES = 4

Advance = Callable[[int], None]
Progress = Callable[[str, int], AbstractContextManager[Advance]]  # what is done, of how many bytes


def quietly(_what: str, _total: int) -> AbstractContextManager[Advance]:
    """Progress that nobody sees."""
    return nullcontext(_pass_over)


def _pass_over(_count: int) -> None:
    pass


@dataclass(frozen=True)
class Uploaded:
    digest: str
    size: int
    new: bool  # False: the server had it


def upload(
    members: Sequence[tuple[str, Path]], total: int, address: Address, progress: Progress = quietly
) -> Uploaded:
    """Pack, and bring to the server what it does not have: equal folders are uploaded once. It blocks."""
    place = data_folder() / "packing"
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=place, suffix=".zip") as file:
        with progress("packing", total) as advance:

            def counted() -> Iterator[tuple[str, Path]]:
                for name, path in members:
                    yield name, path
                    advance(path.stat().st_size)

            archives.pack(counted(), file)
        file.flush()
        packed = Path(file.name)
        with packed.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        size = packed.stat().st_size
        post = Post(address, timeout=120.0)
        try:
            if post.call(op.BLOB_STATUS, digest=digest).complete:
                return Uploaded(digest, size, new=False)
            with progress("uploading", size) as advance:
                _bring(post, packed, digest, advance)
        finally:
            post.close()
    return Uploaded(digest, size, new=True)


def _bring(post: Post, path: Path, digest: str, advance: Callable[[int], None]) -> None:
    """With a few tries; each goes on where the one before was cut."""
    for attempt in range(TRIES):
        try:
            post.put_file(path, digest, advance)
            return
        except (ServerAway, Unavailable):
            if attempt == TRIES - 1:
                raise
            time.sleep(2.0**attempt)
