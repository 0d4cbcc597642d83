"""What a queue and a worker may be: names, tags, numbers. Raises BadInput that says what was expected."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from typing import Any

from taskloom.domain.errors import BadInput
from taskloom.domain.project import check_tag, check_text
from taskloom.domain.queue import Queue
from taskloom.server.queues.agents import check_worker
from taskloom.wire.messages import QueueCreate, QueueEdit, QueuePage, WorkerRegister

DEFAULT_QUEUE = "default"
MAX_NAME, MAX_SLOTS, MAX_QUEUES, MAX_ATTEMPTS, MAX_TAGS = 256, 1024, 256, 1000, 256
MAX_TASKS = 1_000_000_000  # of a limit that a queue can have
MAX_HOLD = 366 * 86_400.0
MAX_PAGE = 1000
_NUMBERS = ("max_running", "max_running_per_user", "max_waiting_per_user")


def new_queue(wanted: QueueCreate, now: float) -> Queue:
    return Queue(
        id=uuid.uuid4().hex,
        name=_name(wanted.name),
        description=check_text(wanted.description, "description"),
        on_lost=wanted.on_lost,
        max_attempts=_attempts(wanted.max_attempts),
        tags=_tags(wanted.tags),
        created=now,
        hold_after=_hold(wanted.hold_after),
        max_running=_tasks(wanted.max_running, "max_running"),
        max_running_per_user=_tasks(wanted.max_running_per_user, "max_running_per_user"),
        max_waiting_per_user=_tasks(wanted.max_waiting_per_user, "max_waiting_per_user"),
    )


def checked_edit(edit: QueueEdit) -> dict[str, Any]:
    """The columns that change."""
    columns: dict[str, Any] = {}
    if edit.name is not None:
        columns["name"] = _name(edit.name)
    if edit.description is not None:
        columns["description"] = check_text(edit.description, "description")
    if edit.tags is not None:
        columns["tags"] = _tags(edit.tags)
    if edit.paused is not None:
        columns["paused"] = edit.paused
    if edit.on_lost is not None:
        columns["on_lost"] = edit.on_lost
    if edit.max_attempts is not None:
        columns["max_attempts"] = _attempts(edit.max_attempts)
    if edit.hold_after is not None:
        columns["hold_after"] = _hold(edit.hold_after)
    for name in _NUMBERS:
        if (number := getattr(edit, name)) is not None:
            columns[name] = _tasks(number, name)
    return columns


def check_page(page: QueuePage) -> QueuePage:
    if not 1 <= page.limit <= MAX_PAGE:
        raise BadInput(f"limit {page.limit}: expected 1 to {MAX_PAGE}")
    if not 0 <= page.offset < 2**31:
        raise BadInput(f"offset {page.offset}: expected a number from 0 on")
    return page


def check_registration(wanted: WorkerRegister) -> None:
    check_worker(wanted.id)
    if not 1 <= len(check_text(wanted.name, "worker name")) <= MAX_NAME:
        raise BadInput(f"worker name: expected 1 to {MAX_NAME} characters")
    if not 1 <= wanted.slots <= MAX_SLOTS:
        raise BadInput(f"slots {wanted.slots}: expected 1 to {MAX_SLOTS}")
    if not 1 <= len(wanted.queues) <= MAX_QUEUES:
        raise BadInput(f"queues: expected 1 to {MAX_QUEUES} names or ids")


def _name(name: str) -> str:
    name = check_text(name.strip(), "queue name")
    if not 1 <= len(name) <= MAX_NAME:
        raise BadInput(f"queue name {name[:80]!r}: expected 1 to {MAX_NAME} characters")
    return name


def _tags(tags: Sequence[str]) -> tuple[str, ...]:
    if len(tags) > MAX_TAGS:
        raise BadInput(f"{len(tags)} tags; expected at most {MAX_TAGS}")
    return tuple(dict.fromkeys(check_tag(tag) for tag in tags))


def _attempts(number: int) -> int:
    if not 1 <= number <= MAX_ATTEMPTS:
        raise BadInput(f"max_attempts {number}: expected 1 to {MAX_ATTEMPTS}")
    return number


def _tasks(number: int, what: str) -> int:
    if not 0 <= number <= MAX_TASKS:
        raise BadInput(f"{what} {number}: expected 0 for no limit, or up to {MAX_TASKS}")
    return number


def _hold(seconds: float) -> float:
    if not (math.isfinite(seconds) and 0 <= seconds <= MAX_HOLD):
        raise BadInput(f"hold_after {seconds}: expected 0 to {MAX_HOLD:.0f} seconds")
    return seconds
