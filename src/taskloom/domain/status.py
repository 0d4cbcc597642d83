"""The states of a task and the one table of legal moves between them.

Source: the task states of the seeds; the moves that ClearML's clients make without `force` are a part of
it. A move that the table does not hold is an `IllegalMove` (409) that names the state it found. End states
are final but for `reset`, `resume` and `publish`; nothing leaves `published`.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from functools import cache

from taskloom.domain.errors import IllegalMove


class Status(StrEnum):
    DRAFT = "draft"
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"
    PUBLISHED = "published"


class Move(StrEnum):
    ENQUEUE = "enqueue"
    DEQUEUE = "dequeue"
    START = "start"
    RESUME = "resume"
    REQUEUE = "requeue"
    COMPLETE = "complete"
    FAIL = "fail"
    ABORT = "abort"
    RESET = "reset"
    PUBLISH = "publish"


_D, _P, _R = Status.DRAFT, Status.PENDING, Status.RUNNING
_C, _F, _A = Status.COMPLETED, Status.FAILED, Status.ABORTED

MOVES: dict[Move, tuple[frozenset[Status], Status]] = {
    Move.ENQUEUE: (frozenset({_D, _A, _F}), _P),
    Move.DEQUEUE: (frozenset({_P}), _D),
    Move.START: (frozenset({_D, _P}), _R),
    Move.RESUME: (frozenset({_C, _F, _A}), _R),  # continue_last_task: results stay
    Move.REQUEUE: (frozenset({_R}), _P),  # the lease ran out and the queue allows another attempt
    Move.COMPLETE: (frozenset({_R, _A}), _C),
    Move.FAIL: (frozenset({_R, _A}), _F),
    Move.ABORT: (frozenset({_P, _R, _F}), _A),
    Move.RESET: (frozenset({_D, _C, _F, _A}), _D),
    Move.PUBLISH: (frozenset({_C, _F, _A}), Status.PUBLISHED),
}

ENDED: frozenset[Status] = frozenset({_C, _F, _A, Status.PUBLISHED})
EDITABLE: frozenset[Status] = frozenset({_D})


def after(move: Move, found: Status) -> Status:
    """The state that `move` leads to from `found`; raises `IllegalMove` when the table does not allow it."""
    sources, target = MOVES[move]
    if found not in sources:
        allowed = ", ".join(sorted(sources))
        raise IllegalMove(
            f"cannot {move.value} a task that is {found.value}; it must be: {allowed}",
            move=move.value,
            status=found.value,
            allowed=sorted(sources),
        )
    return target


# In the order in which they are tried; the others give up results or a place in a queue.
_STEPS = (Move.START, Move.COMPLETE, Move.FAIL, Move.ABORT, Move.RESUME, Move.PUBLISH)


@cache
def way(found: Status, target: Status) -> tuple[Move, ...] | None:
    """The fewest moves that lead from one state to another and lose nothing; None when none do."""
    reached: dict[Status, tuple[Move, ...]] = {found: ()}
    waiting = deque([found])
    while waiting:
        here = waiting.popleft()
        for step in _STEPS:
            sources, there = MOVES[step]
            if here in sources and there not in reached:
                reached[there] = (*reached[here], step)
                waiting.append(there)
    return reached.get(target)
