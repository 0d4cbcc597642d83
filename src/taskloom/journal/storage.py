"""Bytes at a storage destination: put there whole or not at all, looked at, read, removed.

A folder needs nothing; the clouds need `obstore` (`pip install 'taskloom[cloud]'`), which is imported when the first
of them is used. Errors are of two kinds, because the caller does different things with them:

    Forbidden, NotFound, BadInput     the destination refuses, and will do so again
    Unavailable, StorageFull          it may work later

Object stores show an object when its upload is complete, and folders get a file by renaming it: what was cut
half-way is never seen. The parts of a cut upload that a bucket may keep hidden go by a lifecycle rule of the bucket.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from taskloom.domain.destination import Place
from taskloom.domain.errors import BadInput, Forbidden, NotFound, StorageFull, TaskloomError, Unavailable
from taskloom.journal.credentials import azure_options, gs_options, has_role, s3_access
from taskloom.journal.post import CountedFile

PIECE = 1 << 20
CHUNK = 16 << 20  # of a large upload: parts of this size travel side by side; S3 takes 10,000 of them
CHUNKS_AT_ONCE = 4
MARK = "taskloomsha256"  # one word, because Azure takes no other; the object's metadata that tells its digest
_CONNECT, _READ = "5s", "60s"
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,80})</Code>")
_QUERY = re.compile(r"\?\S*")  # may hold a signature

Counted = Callable[[int], None]


class Storage(Protocol):
    """One bucket, container or file system. Keys are as in `Place`. Safe between threads."""

    def put(self, key: str, source: Path, digest: str, media_type: str = "", count: Counted = ...) -> None:
        """Whole or not at all; replaces what was there. count: told of bytes read from `source`."""
        ...

    def holds(self, key: str, size: int, digest: str) -> bool:
        """Whether exactly these bytes are there, as far as can be told without reading them from afar."""
        ...

    def look(self, key: str) -> tuple[int, str]:
        """Size in bytes, and a text that changes when the bytes do; NotFound."""
        ...

    def read(self, key: str, start: int = 0) -> Iterator[bytes]:
        """The bytes from `start` on."""
        ...

    def remove(self, key: str) -> None:
        """What is not there is removed."""
        ...


def open_storage(place: Place) -> Storage:
    """Raises BadInput when it cannot be used here (a missing library or setting), Forbidden without credentials."""
    return Folder() if place.scheme == "file" else Cloud(place)


class Folder:
    """Folders of this machine, or those that it mounts."""

    def put(
        self, key: str, source: Path, digest: str, media_type: str = "", count: Counted = lambda _: None
    ) -> None:
        path = Path(key)
        fresh = path.with_name(f".{uuid.uuid4().hex}.tmp")
        with _disk_errors(key):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with source.open("rb") as reader, fresh.open("xb") as writer:
                    while piece := reader.read(PIECE):
                        writer.write(piece)
                        count(len(piece))
                    writer.flush()
                    os.fsync(writer.fileno())
                fresh.replace(path)
            finally:
                fresh.unlink(missing_ok=True)

    def holds(self, key: str, size: int, digest: str) -> bool:
        try:
            return Path(key).stat().st_size == size and file_digest(Path(key)) == digest
        except OSError:
            return False

    def look(self, key: str) -> tuple[int, str]:
        with _disk_errors(key):
            status = Path(key).stat()
            return status.st_size, f"{status.st_size}-{status.st_mtime_ns}"

    def read(self, key: str, start: int = 0) -> Iterator[bytes]:
        with _disk_errors(key), Path(key).open("rb") as file:
            file.seek(start)
            while piece := file.read(PIECE):
                yield piece

    def remove(self, key: str) -> None:
        with _disk_errors(key):
            Path(key).unlink(missing_ok=True)


@contextlib.contextmanager
def _disk_errors(key: str) -> Generator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {key}") from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageFull(f"{key}: {error.strerror}") from error
        refused = {
            errno.EACCES,
            errno.EPERM,
            errno.EROFS,
            errno.ENOTDIR,
            errno.EISDIR,
            errno.EEXIST,
            errno.ENAMETOOLONG,
        }
        kind = Forbidden if error.errno in refused else Unavailable
        raise kind(f"{key}: {error.strerror or error}") from error


class Cloud:
    """A bucket or container, through obstore."""

    def __init__(self, place: Place) -> None:
        try:
            import obstore
        except ImportError:
            raise BadInput(
                f"{place.root} needs the package obstore: pip install 'taskloom[cloud]' (or pip install obstore)"
            ) from None
        self._obstore: Any = obstore
        self._root = place.root
        self._roleless = False
        try:
            self._store: Any = {"s3": self._s3, "gs": self._gs, "azure": self._azure}[place.scheme](place)
        except TaskloomError:
            raise
        except Exception as error:  # the library's own classes differ between its versions
            raise BadInput(f"{place.root} cannot be used: {_first_line(error)}") from error

    def _s3(self, place: Place) -> Any:
        from obstore.store import S3Store

        access = s3_access(place)
        if access.keys is None and access.endpoint and not (access.anonymous or has_role()):
            raise Forbidden(_no_credentials(place.root))
        self._roleless = access.keys is None
        options: dict[str, Any] = {"region": access.region}
        if access.endpoint:
            options |= {"endpoint": access.endpoint, "virtual_hosted_style_request": False}
        if access.anonymous:
            options["skip_signature"] = True
        elif access.keys is not None:
            key, secret, token = access.keys
            known = {"access_key_id": key, "secret_access_key": secret, "token": token, "expires_at": None}
            options["credential_provider"] = lambda: known
        client = _client(access.endpoint.startswith("http:"), access.certificates)
        return S3Store(place.bucket, client_options=client, retry_config=_RETRY, **options)

    def _gs(self, place: Place) -> Any:
        from obstore.store import GCSStore

        return GCSStore(place.bucket, client_options=_client(), retry_config=_RETRY, **gs_options(place))

    def _azure(self, place: Place) -> Any:
        from obstore.store import AzureStore

        options = azure_options(place)
        plain = str(options.get("endpoint", "")).startswith("http:")
        return AzureStore(place.bucket, client_options=_client(plain), retry_config=_RETRY, **options)

    def put(
        self, key: str, source: Path, digest: str, media_type: str = "", count: Counted = lambda _: None
    ) -> None:
        size = source.stat().st_size
        attributes = {MARK: digest} | ({"Content-Type": media_type} if media_type else {})
        chunk = max(CHUNK, size // 9_000)
        with source.open("rb") as file, self._errors():
            self._obstore.put(
                self._store,
                key,
                CountedFile(file, count),
                attributes=attributes,
                chunk_size=chunk,
                max_concurrency=CHUNKS_AT_ONCE,
            )

    def holds(self, key: str, size: int, digest: str) -> bool:
        try:
            with self._errors():
                found = self._obstore.get(self._store, key, options={"head": True})
        except (NotFound, Forbidden):
            return False  # who may only write is refused here; writing tells what is the matter
        marks = {name.lower(): value for name, value in found.attributes.items()}
        return found.meta["size"] == size and marks.get(MARK) == digest

    def look(self, key: str) -> tuple[int, str]:
        with self._errors():
            found = self._obstore.head(self._store, key)
        return found["size"], f"{found['size']}-{found['e_tag'] or found['last_modified']}"

    def read(self, key: str, start: int = 0) -> Iterator[bytes]:
        with self._errors():
            options: Any = {"range": {"offset": start}} if start else {}
            for piece in self._obstore.get(self._store, key, options=options).stream(min_chunk_size=PIECE):
                yield bytes(piece)

    def remove(self, key: str) -> None:
        with contextlib.suppress(NotFound), self._errors():
            self._obstore.delete(self._store, key)

    @contextlib.contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except (GeneratorExit, KeyboardInterrupt):
            raise
        except Exception as error:
            raise self._told(error) from None  # the library's text may hold signatures

    def _told(self, error: Exception) -> TaskloomError:
        text, line = str(error), _first_line(error)
        status = int(found.group(1)) if (found := _STATUS.search(text)) else 0
        if self._roleless and ("169.254." in text or "metadata" in text.lower()):
            return Forbidden(_no_credentials(self._root))
        if "NoSuchBucket" in text or "ContainerNotFound" in text:
            return NotFound(f"there is no {self._root}: create it first, or correct the address")
        if isinstance(error, FileNotFoundError):
            return NotFound(f"{self._root}: {line}")
        names = {kind.__name__ for kind in type(error).__mro__}
        if names & {"PermissionDeniedError", "UnauthenticatedError", "PermissionError"} or status in {401, 403}:
            code = found.group(1) if (found := _CODE.search(text)) else f"{status or ''}"
            return Forbidden(f"{self._root} refuses the access{f' ({code})' if code else ''}")
        if 300 <= status < 400 or "redirect" in line.lower():
            return BadInput(f"{self._root} lies in another region: set AWS_REGION or region in [storage]; {line}")
        if isinstance(error, ValueError) or (400 <= status < 500 and status not in {408, 409, 425, 429}):
            return BadInput(f"{self._root}: {line}")
        return Unavailable(f"{self._root}: {line}")


_RETRY: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=30)}  # the caller tries again, and later


def _client(plain: bool = False, certificates: bytes | None = None) -> Any:
    options: dict[str, Any] = {"connect_timeout": _CONNECT, "timeout": "300s", "read_timeout": _READ}
    if plain:
        options["allow_http"] = True
    if certificates:
        options["root_certificate"] = certificates
    return options


def _no_credentials(root: str) -> str:
    return (
        f"no credentials for {root}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or write "
        f'access_key and secret_key below [storage."{root}"] of the settings file'
    )


def _first_line(error: Exception) -> str:
    """What a person needs of the library's text: without the storage's XML, but for its code, and without queries."""
    line, _, rest = str(error).split("\n\nDebug", 1)[0].partition("<?xml")
    code = f"({found.group(1)})" if (found := _CODE.search(rest)) else ""
    return f"{_QUERY.sub('?...', line.splitlines()[0] if line else '')[:300]}{code}"


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_empty_folders(path: Path, last: Path) -> None:
    """`path` and what lies above it, up to `last`, as long as nothing is in them."""
    for folder in _upwards(path, last):
        try:
            folder.rmdir()
        except OSError:
            return


def _upwards(path: Path, last: Path) -> Sequence[Path]:
    return [folder for folder in (path, *path.parents) if folder == last or last in folder.parents]
