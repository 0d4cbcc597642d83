"""The seam between `Task` and everything that adds to it: artifacts, models, captured arguments.

A recorder is one task as this process may change it. A live one journals; one of a task that does not run
here asks the server. What is recorded, and in which words, is the caller's business.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from taskloom.domain.task import Task
    from taskloom.sdk.weight_files import WeightFiles
    from taskloom.wire.records import Record
    from taskloom.wire.send import Client


class Recorder(Protocol):
    """One task, live in this process or elsewhere."""

    @property
    def id(self) -> str:
        """The task's id."""
        ...

    @property
    def project_name(self) -> str:
        """The path of its project."""
        ...

    @property
    def live(self) -> bool:
        """Whether this process runs the task: records are then journalled and shipped behind its back."""
        ...

    @property
    def spool(self) -> Path:
        """The folder for bytes on their way to the server: a file named by its SHA-256 is uploaded from here.

        Exists when it is returned. For a live task the shipper uploads a file before it sends the record
        that names it; for another task `record` uploads it before it calls the server.
        """
        ...

    @property
    def weight_files(self) -> WeightFiles:
        """The weights on their way out of this task."""
        ...

    def record(self, record: Record) -> None:
        """Journal it when live, else make the API call that does the same; in order, never twice."""
        ...

    def client(self) -> Client:
        """A client of the configured server; raises BadInput that says how to configure one when none is."""
        ...

    def project_destination(self) -> str:
        """The `output_uri` of the task's project or of one above it; '' when there is none or nobody can be asked."""
        ...

    def tell(self, text: str) -> None:
        """Say something to the person at the script, the same sentence once."""
        ...

    def wait_shipped(self, timeout: float, *, while_moving: bool = False) -> bool:
        """Wait until the server has everything recorded so far; False when the time ran out first.

        while_moving: the time begins anew whenever an upload has got on.
        """
        ...

    def document(self) -> Task:
        """The task as it is known here: the live copy with every edit applied, else as last read."""
        ...
