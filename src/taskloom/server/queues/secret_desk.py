"""What queues ask of whoever keeps the secrets: which are missing when a task is enqueued, their values at a claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import Connection

from taskloom.domain.execution import Execution
from taskloom.wire.messages import Credential


class SecretDesk(Protocol):
    """Both are steps of the caller's transaction. `project` is a path; the user's secrets win over the project's."""

    def missing(self, tx: Connection, names: Sequence[str], user: str, project: str) -> list[str]:
        """Those of the names that neither the user nor the project has."""
        ...

    def for_lease(
        self, tx: Connection, names: Sequence[str], user: str, project: str, execution: Execution
    ) -> tuple[dict[str, str], tuple[Credential, ...]]:
        """The values that are there, and what git may answer where the execution's code comes from."""
        ...
