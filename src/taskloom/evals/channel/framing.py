"""Frames of the control channel: one JSON object a line, JSON-RPC 2.0 shapes. Source: HUD 0.6.21.

Both sides cut lines here and read and write frames here; what a frame means stands in `connection` and `client`.
msgspec does the work. Python's own JSON comes in where the wire allows what msgspec does not read: NaN, which
Python's clients send, and halves of surrogate pairs, which language models write.
"""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec
from msgspec import UNSET

from taskloom.evals.channel.contract import MAX_FRAME
from taskloom.evals.encoding import encode

PARSE_FAULT = -32700
WRONG_MOMENT = -32600  # the request is none that this session can make now
NO_METHOD = -32601
WRONG_PARAMS = -32602
FAILED = -32000


class NotAFrame(ValueError):
    """A line that holds no JSON object."""


class Request(msgspec.Struct, gc=False):
    """`id` None: a notification, which is never answered. Nothing is checked but that it is an object."""

    id: Any = None
    method: Any = ""
    params: Any = None


class Reply(msgspec.Struct, gc=False):
    """One of `result` and `error` is set, where the other side keeps to the protocol."""

    id: Any = None
    result: Any = UNSET
    error: Any = UNSET


class LineBuffer:
    """Cuts what arrives into lines, without their ends. `overflowed`: a line is longer than a frame may be."""

    __slots__ = ("_held", "_looked", "overflowed")

    def __init__(self) -> None:
        self._held = bytearray()
        self._looked = 0  # bytes of `_held` that have no line end
        self.overflowed = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are whole now. After an overflow nothing comes any more."""
        if self.overflowed:
            return []
        end = len(data) - 1
        if not self._held and 0 <= end <= MAX_FRAME and data.find(b"\n") == end:  # the usual case: one whole line
            return [data[:-1]]
        self._held += data
        if self._held.find(b"\n", self._looked) < 0:
            self._looked = len(self._held)
            self._check(self._looked)
            return []
        *lines, rest = bytes(self._held).split(b"\n")
        self._held = bytearray(rest)
        self._looked = len(rest)
        for number, line in enumerate(lines):
            if len(line) > MAX_FRAME:
                self._check(len(line))
                return lines[:number]
        self._check(len(rest))
        return lines

    def rest(self) -> bytes:
        """What has come of the next line; the buffer is empty then."""
        rest = bytes(self._held)
        self._held, self._looked = bytearray(), 0
        return rest

    def _check(self, length: int) -> None:
        if length > MAX_FRAME:
            self.overflowed = True
            self._held = bytearray()


_REQUESTS = msgspec.json.Decoder(Request)
_REPLIES = msgspec.json.Decoder(Reply)


def read_request(line: bytes) -> Request:
    """NotAFrame for a line without an object."""
    try:
        return _REQUESTS.decode(line)
    except (msgspec.DecodeError, RecursionError):
        found = _read_loosely(line)
        return Request(found.get("id"), found.get("method", ""), found.get("params"))


def read_reply(line: bytes) -> Reply:
    """NotAFrame for a line without an object."""
    try:
        return _REPLIES.decode(line)
    except (msgspec.DecodeError, RecursionError):
        found = _read_loosely(line)
        return Reply(found.get("id"), found.get("result", UNSET), found.get("error", UNSET))


def _read_loosely(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NotAFrame(f"{line[:120]!r} is no JSON object")
    return cast("dict[str, Any]", found)


def request_frame(id: int, method: str, params: dict[str, Any]) -> bytes:
    return encode({"jsonrpc": "2.0", "id": id, "method": method, "params": params}) + b"\n"


def result_frame(id: Any, result: Any) -> bytes:
    return encode({"jsonrpc": "2.0", "id": id, "result": result}) + b"\n"


def error_frame(id: Any, code: int, message: str) -> bytes:
    return encode({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}) + b"\n"


def as_object(value: Any) -> dict[str, Any] | None:
    """A JSON object as such; None for other values."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None
