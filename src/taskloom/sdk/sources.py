"""Where bytes are fetched from: the Taskloom server, a storage destination, an address of the web, a file.

A source is read from any position on, so that what was cut goes on; what comes is checked by `downloads`. Everything
is fetched with the rights of whoever asks: the credentials of storage destinations are this machine's (see
`journal.credentials`), and the key of the Taskloom server goes to that server only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from taskloom.domain.artifact import check_digest
from taskloom.domain.destination import CLOUDS, parse_place
from taskloom.domain.errors import BadInput, Forbidden, NotFound, ServerAway, TaskloomError, TooLarge, Unavailable
from taskloom.wire.client import build_call, read_fault
from taskloom.wire.operations import GET_BLOB

if TYPE_CHECKING:
    import httpx

    from taskloom.wire.send import Client

PIECE = 1 << 20
WEB = ("http", "https")
REDIRECTS = 10

Pieces = Iterator[tuple[int, bytes]]


@dataclass(frozen=True)
class Source:
    """key: 64 hexadecimal digits for the cache. digest: what the bytes must have; '' when nobody knows.

    read(start): the bytes from `start` on, or from the beginning where that cannot be had, each piece with its
    position. elsewhere: others may write there.
    """

    key: str
    digest: str
    name: str
    read: Callable[[int], Pieces]
    elsewhere: bool = True


def path_of(uri: str) -> Path | None:
    """The file or folder that an address on this machine names; None for other addresses."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(uri) if not parts.scheme else None


def from_file(path: Path, digest: str) -> Source:
    def read(start: int) -> Pieces:
        with path.open("rb") as file:
            file.seek(start)
            while piece := file.read(PIECE):
                yield file.tell() - len(piece), piece

    status = path.stat()
    key = digest or _key(f"{path.as_uri()}\n{status.st_size}\n{status.st_mtime_ns}")
    return Source(key, digest, str(path), read)


def at_server(client: Callable[[], Client], digest: str) -> Source:
    """Bytes that the Taskloom server holds."""
    check_digest(digest)

    def read(start: int) -> Pieces:
        asked = client()
        call = build_call(asked.address, GET_BLOB, digest=digest)
        return _streamed(asked.http, call.url, call.headers, start, digest[:12], read_fault)

    return Source(digest, digest, digest[:12], read, elsewhere=False)


def at_uri(uri: str, digest: str, client: Callable[[], Client], what: str, limit: int) -> Source:
    """Bytes at an address. limit: how many the web may send. Raises BadInput for addresses that nobody follows."""
    scheme = urlsplit(uri).scheme.lower()
    if scheme in CLOUDS:
        return _at_storage(uri, digest)
    if scheme in WEB:
        return _on_web(uri, digest, client, limit)
    raise BadInput(f"{what} is kept at {uri}, which Taskloom does not fetch: get it with the tools of its storage")


def _at_storage(uri: str, digest: str) -> Source:
    from taskloom.journal.storage import open_storage

    place = parse_place(uri)
    storage = open_storage(place)

    def read(start: int) -> Pieces:
        size, _ = storage.look(place.key)
        position = start if start < size else 0
        for piece in storage.read(place.key, position) if size else ():
            yield position, piece
            position += len(piece)

    key = digest or _key(f"{uri}\n{storage.look(place.key)[1]}")
    return Source(key, digest, uri, read)


def _on_web(uri: str, digest: str, client: Callable[[], Client], limit: int) -> Source:
    import httpx

    own = _own_server(uri, client)
    headers = own.address.headers() if own is not None else {}

    def read(start: int) -> Pieces:
        with httpx.Client(
            follow_redirects=own is None, max_redirects=REDIRECTS, timeout=httpx.Timeout(60.0, connect=10.0)
        ) as web:
            for position, piece in _streamed(web, uri, headers, start, _plain(uri), _web_fault):
                if position + len(piece) > limit:
                    raise TooLarge(f"{_plain(uri)} has more than {limit} bytes, which is all that the cache holds")
                yield position, piece

    # Without a digest nobody knows whether it is still the same: it is kept by its address until `force_download`.
    return Source(digest or _key(uri), digest, _plain(uri), read)


def _own_server(uri: str, client: Callable[[], Client]) -> Client | None:
    """The client of our server, when the address is one of its; its key goes nowhere else."""
    try:
        asked = client()
    except TaskloomError:
        return None
    ours, theirs = urlsplit(asked.address.url), urlsplit(uri)
    same = (ours.scheme, ours.netloc) == (theirs.scheme, theirs.netloc)
    return asked if same else None


def _streamed(
    http: httpx.Client,
    url: str,
    headers: dict[str, str],
    start: int,
    name: str,
    fault: Callable[[int, bytes, str, str], Exception],
) -> Generator[tuple[int, bytes]]:
    import httpx

    asked = {**headers, "Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with http.stream("GET", url, headers=asked) as answer:
            again = answer.status_code == 416 and start > 0  # more is here than there
            if not again and answer.status_code >= 400:
                raise _fault(answer, fault)
            position = start if answer.status_code == 206 else 0
            for piece in () if again else answer.iter_raw():
                yield position, piece
                position += len(piece)
        if again:
            yield from _streamed(http, url, headers, 0, name, fault)
    except httpx.TooManyRedirects:
        raise BadInput(f"{name} redirects without an end") from None
    except httpx.TransportError as error:
        raise ServerAway(f"the download of {name} broke off: {error or type(error).__name__}") from error
    except httpx.InvalidURL as error:
        raise BadInput(f"{name} is no address: {error}") from None


def _fault(answer: Any, fault: Callable[[int, bytes, str, str], Exception]) -> Exception:
    content: bytes = b"".join(answer.iter_bytes())[:PIECE]
    return fault(
        answer.status_code, content, answer.headers.get("Content-Type", ""), answer.headers.get("Retry-After", "")
    )


def _web_fault(status: int, content: bytes, kind: str, retry: str) -> Exception:
    del content, kind, retry
    if status in {401, 403}:
        return Forbidden(f"the address asks for credentials that Taskloom does not have (status {status})")
    if status in {408, 425, 429} or status >= 500:
        return Unavailable(f"the address answered with status {status}")
    return NotFound(f"the address answered with status {status}")


def _plain(uri: str) -> str:
    """Without what may be a secret: a query with a signature, a password."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
