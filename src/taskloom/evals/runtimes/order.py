"""What a hosted run is told: one document in its task's configuration, written by `hosted`, read by `within`."""

from __future__ import annotations

from typing import Any

import msgspec

CONFIGURATION = "evaluation run"  # name of the object
SOURCE, AGENT = "source", "agent"  # folders of the task's home


class Order(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One run of a job.

    row      of the taskset, as its file has it; `source`: what serves its environment, below the task's home
    agent    its spec; a path in it is one below the task's home
    limits   as `Limits` has them
    attempt  of the run: 1 for the first
    """

    job: str
    run: str
    position: int
    row: dict[str, Any]
    source: str
    agent: dict[str, Any]
    agent_name: str = ""
    model: str = ""
    group: str = ""
    try_number: int = 0
    attempt: int = 1
    limits: dict[str, float | None] = {}
