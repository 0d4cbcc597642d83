"""Where an import reads a task's results from: a running server or an unpacked offline session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Protocol

from taskloom.cli.clearml.source import Source


class Origin(Protocol):
    """`events`: JSON lines of one kind, in the order of their times, in pieces that fit into memory."""

    def events(self, task: str, kind: str) -> Iterator[bytes]: ...

    def holds(self, uri: str) -> bool:
        """Whether its bytes belong to this origin; others stay where they are."""
        ...

    def fetch(self, uri: str, into: IO[bytes]) -> None:
        """Write the bytes of an address that it holds; NotFound when they are gone."""
        ...


class ServerOrigin:
    def __init__(self, source: Source) -> None:
        self._source = source

    def events(self, task: str, kind: str) -> Iterator[bytes]:
        return self._source.events(task, kind)

    def holds(self, uri: str) -> bool:
        return self._source.fetchable(uri) is not None

    def fetch(self, uri: str, into: IO[bytes]) -> None:
        self._source.fetch(self._source.fetchable(uri) or uri, into)
