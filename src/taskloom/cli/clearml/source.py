"""A running ClearML server, read from outside: logged in, asked in pages, patient with its bad days.

Speaks ClearML's own forms over HTTP with no more than the source's user may see, and changes nothing there. Files
are fetched only from the hosts that the person named or that belong to the source, whatever an address in its
data says. What answers mean is translating's business.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, TypeVar, cast
from urllib.parse import urlsplit

import httpx
import msgspec

from taskloom.cli.clearml.patience import Patience
from taskloom.domain.errors import BadInput, NotFound, ServerAway, TaskloomError, Unauthorized, Unavailable
from taskloom.domain.version import VERSION

Document = dict[str, Any]
T = TypeVar("T")

OLDEST_API = "2.13"
PAGE = 500  # documents in one answer; ClearML gives no more
PIECE = 1 << 20
PASSING = frozenset({429, 502, 503, 504})
FAULTS = 3  # times that a 500 is believed to pass
EVENT_PAGES = {"training_stats_scalar": 5000, "log": 500}
FEW_EVENTS = 50  # of kinds whose events can be large
GUESSES = {"8008": "8081", "api.": "files."}


class Refused(TaskloomError):
    """The source answered with an error that trying again does not cure."""

    code = "source_refused"
    http_status = 400


class _Meta(msgspec.Struct):
    result_code: int = 0
    result_subcode: int = 0
    result_msg: str = ""


class _Answer(msgspec.Struct):
    meta: _Meta = msgspec.field(default_factory=_Meta)
    data: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))


class _Events(msgspec.Struct):
    events: list[msgspec.Raw] | None = None
    scroll_id: str | None = None


@dataclass(frozen=True)
class Login:
    """Where the source is and who asks. `files`: recorded address -> address to fetch from."""

    url: str
    access_key: str
    secret_key: str
    files: Mapping[str, str] = field(default_factory=dict[str, str])


class Source:
    """Safe to share between threads. Every method raises errors of `domain.errors`."""

    def __init__(self, login: Login, patience: Patience) -> None:
        self.url = login.url.rstrip("/")
        self._login, self._patience = login, patience
        self._hosts = _hosts(login)
        verify: Any = self.url.startswith("https:") or any(u.startswith("https:") for u in self._hosts.values())
        self._http = httpx.Client(timeout=httpx.Timeout(120.0, connect=10.0), verify=verify, trust_env=True)
        self._lock = threading.Lock()
        self._token, self._version = "", OLDEST_API

    def close(self) -> None:
        self._http.close()

    # --- calls ------------------------------------------------------------------------------------------

    def call(self, name: str, **fields: Any) -> Document:
        """The `data` of the answer."""
        raw = self._call(name, fields)
        try:
            found = msgspec.json.decode(raw)
        except msgspec.DecodeError:
            found = json.loads(raw)  # with NaN, which strict JSON does not know
        if not isinstance(found, dict):
            raise Refused(f"{self.url}: {name} was answered with something that is no object")
        return cast(Document, found)

    def enter(self) -> None:
        """The first contact, tried once: ServerAway, Unauthorized, or BadInput when nobody there speaks ClearML."""
        with self._lock:
            self._enter(patient=False)

    def _enter(self, *, patient: bool = True) -> None:
        pair = f"{self._login.access_key}:{self._login.secret_key}".encode()
        headers = {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        raw = self._patiently("auth.login", f"{self.url}/auth.login", headers, b"{}", patient=patient)
        try:
            self._token = str(msgspec.json.decode(raw)["token"])
            claims = self._token.split(".")[1]
            read: Document = msgspec.json.decode(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
            self._version = str(read.get("api_version") or OLDEST_API)
        except (msgspec.DecodeError, KeyError, IndexError, ValueError, TypeError, AttributeError):
            raise BadInput(
                f"{self.url} answered, but not as a ClearML server: is it the address of its API?"
            ) from None

    def _call(self, name: str, fields: Mapping[str, Any]) -> bytes:
        body = msgspec.json.encode(fields)

        def with_token(headers: dict[str, str]) -> bytes:
            return self._patiently(name, f"{self.url}/v{self._version}/{name}", headers, body)

        return self._as_user(with_token)

    def _as_user(self, work: Callable[[dict[str, str]], T]) -> T:
        """`work` with a token; once more with a fresh one when the first one's time is over."""
        for again in (False, True):
            with self._lock:
                if not self._token:
                    self._enter()
                token = self._token
            try:
                return work({"Authorization": f"Bearer {token}"})
            except Unauthorized:
                if again:
                    raise
                with self._lock:
                    if self._token == token:
                        self._token = ""
        raise AssertionError("the second try returns or raises")

    def _patiently(
        self, name: str, url: str, headers: dict[str, str], body: bytes, *, patient: bool = True
    ) -> bytes:
        """The raw `data` of an answer; tries again what may pass."""
        sent = {**headers, "Content-Type": "application/json", "X-ClearML-Client": f"taskloom-import-{VERSION}"}

        def once() -> bytes:
            response = self._http.post(url, headers=sent, content=body)
            _raise_passing(response)
            return self._read(name, response)

        return self._trying(once, patient=patient)

    def _trying(self, once: Callable[[], T], *, patient: bool = True) -> T:
        faults = 0

        def work() -> T:
            nonlocal faults
            try:
                return once()
            except _Fault as error:  # a server that fails in the same way thrice goes on to
                faults += 1
                raise (Refused if faults >= FAULTS else Unavailable)(f"{self.url} {error}") from None
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise BadInput(f"{self.url}: {error}") from None
            except httpx.TransportError as error:
                raise ServerAway(f"no answer from {self.url}: {error or type(error).__name__}") from error

        return self._patience.keep_trying(work) if patient else work()

    def _read(self, name: str, response: httpx.Response) -> bytes:
        try:
            answer = msgspec.json.decode(response.content, type=_Answer)
            meta, data = answer.meta, bytes(answer.data)
        except msgspec.DecodeError:
            meta, data = self._read_loosely(response)
        if response.status_code >= 300 and not meta.result_code:
            raise BadInput(
                f"there is no ClearML API at {self.url} (it answers {response.status_code}); "
                "it usually listens on port 8008, or on a host whose name begins with api"
            )
        if response.status_code == 401:
            raise Unauthorized(f"{self.url} refuses the access key: {meta.result_msg or 'wrong credentials'}")
        if response.status_code >= 400 or meta.result_code >= 400:
            raise Refused(
                f"{self.url}: {name} was refused: {meta.result_msg or response.status_code}",
                status=response.status_code,
                subcode=meta.result_subcode,
            )
        return data

    def _read_loosely(self, response: httpx.Response) -> tuple[_Meta, bytes]:
        """Python's servers write NaN, which strict JSON does not know; what is no JSON at all is no ClearML."""
        try:
            found: Any = json.loads(response.content)
            return msgspec.convert(found.get("meta", {}), _Meta), json.dumps(found.get("data", {})).encode()
        except (ValueError, AttributeError, msgspec.ValidationError):
            if response.status_code >= 400:
                return _Meta(), b"{}"
            raise BadInput(
                f"{self.url} answered, but not as a ClearML server: is it the address of its API?"
            ) from None

    # --- lists ------------------------------------------------------------------------------------------

    def every(self, service: str, **fields: Any) -> Iterator[Document]:
        """Every document that `SERVICE.get_all` finds, each once. By scroll where the source has it, else by page."""
        seen: set[str] = set()
        scroll: str | None = None
        page = 0
        while True:
            place: Document = {"page": page, "page_size": PAGE} if page else {"size": PAGE, "scroll_id": scroll}
            answer = self.call(f"{service}.get_all", **fields, **place)
            found = cast("list[Document]", answer.get(service) or [])
            for document in found:
                if document.get("id") not in seen:
                    seen.add(str(document.get("id")))
                    yield document
            if scroll is not None or answer.get("scroll_id"):
                scroll = str(answer.get("scroll_id") or scroll)
                if not found:
                    return
            elif len(found) < PAGE:
                return
            else:
                page += 1

    def events(self, owner: str, kind: str) -> Iterator[bytes]:
        """All events of one kind in the order of their times, page by page, as JSON lines."""
        scroll: str | None = None
        while True:
            raw = self._call(
                "events.get_task_events",
                {
                    "task": owner,
                    "event_type": kind,
                    "order": "asc",
                    "batch_size": EVENT_PAGES.get(kind, FEW_EVENTS),
                    **({"scroll_id": scroll} if scroll else {}),
                },
            )
            lines, scroll = _event_lines(raw)
            if lines:
                yield b"\n".join(lines)
            if not lines or not scroll:
                return

    # --- files ------------------------------------------------------------------------------------------

    def fetchable(self, uri: str) -> str | None:
        """The address to fetch it from; None when it lies elsewhere."""
        for recorded, actual in self._hosts.items():
            if uri == recorded or uri.startswith(f"{recorded}/"):
                return actual + uri[len(recorded) :]
        return None

    def fetch(self, url: str, into: IO[bytes]) -> None:
        """Write the bytes into an empty file; NotFound when there are none."""

        def once(headers: dict[str, str]) -> None:
            into.seek(0)
            into.truncate()
            with self._http.stream("GET", url, headers=headers) as response:
                status = response.status_code
                _raise_passing(response)
                if status == 401:
                    raise Unauthorized(f"{url} was answered with {status}")
                if status != 200:  # what leads elsewhere is not followed
                    raise NotFound(f"{url} was answered with {status}", status=status)
                for piece in response.iter_bytes(PIECE):
                    self._patience.check()
                    into.write(piece)

        try:
            self._as_user(lambda headers: self._trying(lambda: once(headers)))
        except (BadInput, UnicodeError, Unauthorized, Refused) as error:
            raise NotFound(f"{url[:200]!a} cannot be fetched: {error}") from None


class _Fault(Exception):
    """The source met a fault of its own."""


def _raise_passing(response: httpx.Response) -> None:
    status = response.status_code
    if status in PASSING:
        wait = response.headers.get("Retry-After", "")
        raise Unavailable(f"the source answers {status}", **({"retry_after": wait} if wait else {}))
    if status == 500:
        raise _Fault("answers 500: it met a fault of its own")


def _event_lines(raw: bytes) -> tuple[Sequence[bytes], str | None]:
    try:
        found = msgspec.json.decode(raw, type=_Events)
        return [bytes(event) for event in found.events or ()], found.scroll_id
    except msgspec.DecodeError:
        loose: Any = json.loads(raw)
        events = cast("list[Any]", loose.get("events") or [])
        return [json.dumps(event).encode() for event in events], loose.get("scroll_id")


def _hosts(login: Login) -> dict[str, str]:
    """Beginnings of addresses whose bytes belong to the source, and where each is fetched."""
    url = login.url.rstrip("/")
    hosts = {recorded.rstrip("/"): actual.rstrip("/") for recorded, actual in login.files.items()}
    parts = urlsplit(url)
    for theirs, files in GUESSES.items():
        if parts.netloc.endswith(f":{theirs}"):
            guess = f"{parts.scheme}://{parts.netloc.removesuffix(theirs)}{files}"
            hosts.setdefault(guess, guess)
        elif parts.netloc.startswith(theirs):
            guess = f"{parts.scheme}://{files}{parts.netloc.removeprefix(theirs)}"
            hosts.setdefault(guess, guess)
    origin = f"{parts.scheme}://{parts.netloc}"
    hosts.setdefault(f"{origin}/files", f"{origin}/files")  # one port for all, as a server of ours has it
    return hosts
