"""Files that others made, read within limits: JSON, lines of JSON, and archives whose members may be packed with zstd.

Nothing is unpacked to the disk, so that no name in an archive can point anywhere.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from taskloom.evals.formats.contract import MOST_MEMBER, MOST_RATIO, MOST_TOTAL

ZSTD = 93  # the archive's number of the method
_SMALL = 2**20


def read_json(data: bytes, what: str) -> Any:
    """Also with NaN and Infinity, as Python writes them. ValueError for what is no JSON, or too deep."""
    try:
        value = json.loads(data)
        return _repaired(value) if b"\\ud" in data.lower() else value
    except RecursionError:
        raise ValueError(f"{what} is nested too deep: expected JSON of at most some hundred levels") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{what}: expected JSON, {error}") from None


def _repaired(value: Any) -> Any:
    """Halves of letters, which JSON may escape alone and nothing can store, as the sign for what is unreadable."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_repaired(key): _repaired(one) for key, one in cast("dict[str, Any]", value).items()}
    return [_repaired(one) for one in cast("list[Any]", value)] if isinstance(value, list) else value


def read_json_file(path: Path) -> Any:
    size = path.stat().st_size
    if size > MOST_MEMBER:
        raise ValueError(f"{path.name} has {size} bytes: expected at most {MOST_MEMBER}")
    return read_json(path.read_bytes(), path.name)


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The lines' numbers and values; empty lines are skipped. ValueError with the number of a wrong one."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MOST_MEMBER + 1):
            number += 1
            if len(line) > MOST_MEMBER:
                raise ValueError(f"{path.name}, line {number}: expected at most {MOST_MEMBER} bytes")
            if line.strip():
                yield number, read_json(line, f"{path.name}, line {number}")


class Archive:
    """An archive's JSON members by name. Use it in a `with`."""

    def __init__(self, path: Path) -> None:
        self._module = _zip_module()
        self._name, self._left = path.name, MOST_TOTAL
        try:
            self._zip: Any = self._module.ZipFile(path)
        except (zipfile.BadZipFile, self._module.BadZipFile, EOFError, ValueError) as error:
            raise ValueError(f"{path.name}: expected a whole zip archive, {error}") from None
        self._members: dict[str, Any] = {one.filename: one for one in self._zip.infolist()}

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def json(self, name: str) -> Any:
        """One member's value; ValueError for one that is not there, too large, packed too tightly, or damaged."""
        what = f"{self._name}, {name}"
        member = self._members.get(name)
        if member is None:
            raise ValueError(f"{what}: expected such a member in the archive")
        if member.file_size > _SMALL and member.file_size > MOST_RATIO * max(1, member.compress_size):
            raise ValueError(
                f"{what} unpacks to {member.file_size} bytes from {member.compress_size}: this is no log"
            )
        return read_json(self._bytes(member, what), what)

    def _bytes(self, member: Any, what: str) -> bytes:
        most = min(MOST_MEMBER, self._left)
        try:
            with self._zip.open(member) as file:
                data: bytes = file.read(most + 1)
        except NotImplementedError:
            raise ValueError(_no_method(what, member.compress_type)) from None
        except (zipfile.BadZipFile, self._module.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
            raise ValueError(f"{what} is damaged: {error}") from None
        except Exception as error:
            if type(error).__name__ != "ZstdError":  # its module may not be there to name it by
                raise
            raise ValueError(f"{what} is damaged: {error}") from None
        if len(data) > most:
            raise ValueError(f"{what}: expected at most {MOST_MEMBER} bytes, and {MOST_TOTAL} of all members")
        self._left -= len(data)
        return data


def _zip_module() -> Any:
    """The one that knows zstd, where it is installed; Python's own learns it with 3.14."""
    try:
        return import_module("backports.zstd.zipfile")
    except ImportError:
        return zipfile


def _no_method(what: str, method: int) -> str:
    if method == ZSTD:
        return f"{what} is packed with zstd: expected Python 3.14, or the package backports.zstd (pip install backports.zstd)"
    return f"{what} is packed with method {method}: expected none, deflate or zstd"
