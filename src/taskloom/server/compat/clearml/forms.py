"""Files in a multipart form, piece by piece as they come: nothing is gathered in memory or beside its place.

A part with a file name is a file; other fields pass by. A form that ends before its last boundary is cut.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from taskloom.domain.errors import BadInput

MAX_FILES = 1000  # files of one form
MAX_HEADER = 65_536  # bytes of a part's header; a path may be long
MULTIPART = b"multipart/form-data"


@dataclass(frozen=True)
class Begun:
    """A file begins. `name` is the field's, `filename` what the sender calls the file."""

    name: str
    filename: str
    media_type: str


@dataclass(frozen=True)
class Piece:
    data: memoryview


@dataclass(frozen=True)
class Ended:
    """The file is whole."""


Event = Begun | Piece | Ended


async def read_form(content_type: str, body: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """For each file: that it begins, its pieces, that it ended. Raises BadInput."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != MULTIPART or not boundary:
        raise BadInput(f"content type {content_type[:80]!a}: expected multipart/form-data with a boundary")
    noted = _Noted(parse_options_header)
    callbacks: Any = {name: getattr(noted, name) for name in _Noted.CALLBACKS}
    try:
        parser = MultipartParser(boundary, callbacks, max_header_size=MAX_HEADER)
        async for chunk in body:
            parser.write(chunk)
            for event in noted.taken():
                yield event
        parser.finalize()
    except FormParserError as error:
        raise BadInput(f"the form cannot be read: {str(error)[:200]}") from None
    if not noted.whole:
        raise BadInput("the form is cut off; nothing of it was kept")


class _Noted:
    """What the parser called out since the last time, in order."""

    CALLBACKS = (
        "on_part_begin",
        "on_header_field",
        "on_header_value",
        "on_header_end",
        "on_headers_finished",
        "on_part_data",
        "on_part_end",
        "on_end",
    )

    def __init__(self, parse: Callable[[str], tuple[bytes, dict[bytes, bytes]]]) -> None:
        self._parse = parse
        self._events: list[Event] = []
        self._headers: dict[bytes, bytes] = {}
        self._field = self._value = b""
        self._is_file = False
        self._files = 0
        self.whole = False

    def taken(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def on_part_begin(self) -> None:
        self._headers = {}
        self._is_file = False

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def on_headers_finished(self) -> None:
        _, options = self._parse(self._headers.get(b"content-disposition", b"").decode("latin-1"))
        if b"filename" not in options:
            return
        self._files += 1
        if self._files > MAX_FILES:
            raise BadInput(f"more than {MAX_FILES} files in one form")
        self._is_file = True
        kind = self._headers.get(b"content-type", b"").decode("latin-1")
        self._events.append(Begun(_text(options.get(b"name", b"")), _text(options[b"filename"]), kind))

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._events.append(Piece(memoryview(data)[start:end]))

    def on_part_end(self) -> None:
        if self._is_file:
            self._events.append(Ended())
        self._is_file = False

    def on_end(self) -> None:
        self.whole = True


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BadInput(f"the name of a field is not UTF-8: {raw[:80]!r}") from None
