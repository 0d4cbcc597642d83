"""Bodies as ClearML's clients send them: JSON also on GET, packed or not, with the words NaN and Infinity.

Python's clients write what strict JSON does not know (NaN, lone surrogates); it is read all the same, because a
client that is refused sends the same again for ever. What is no JSON at all is refused.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, cast

import msgspec

from taskloom.domain.errors import BadInput, TooLarge

_decode = msgspec.json.Decoder().decode
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


def unpacked(data: bytes, encoding: str, limit: int) -> bytes:
    """The plain body; TooLarge as soon as it grows over `limit`."""
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"}:
        return data
    if encoding not in _WINDOWS:
        raise BadInput(f"content encoding {encoding[:40]!r}: expected gzip, deflate or none")
    opened = zlib.decompressobj(_WINDOWS[encoding])
    try:
        plain = opened.decompress(data, limit + 1)
    except zlib.error as error:
        raise BadInput(f"the body is no valid {encoding}: {error}") from None
    if len(plain) > limit:
        raise TooLarge(f"the unpacked body has more than {limit} bytes", limit=limit)
    if not opened.eof:
        raise BadInput(f"the {encoding} body is cut off")
    return plain


def decode(data: bytes) -> Any:
    """One JSON value; BadInput when it is none."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return storable(json.loads(data.decode("utf-8", "replace")))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the body is no JSON: {str(error)[:200]}") from None


def fields(data: bytes) -> dict[str, Any]:
    """A JSON object; nothing at all counts as an empty one."""
    if not data.strip():
        return {}
    found = decode(data)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise BadInput("the body is no JSON object")
    return cast("dict[str, Any]", found)


def storable(value: Any) -> Any:
    """The same value without lone surrogates, which no database and no UTF-8 can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode() if _broken(value) else value
    if isinstance(value, list):
        return [storable(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {storable(name): storable(item) for name, item in items}
    return value


def _broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
