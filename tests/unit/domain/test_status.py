"""The state table: every state against every move, the legal ones written out here by hand."""

import itertools

import pytest

from taskloom.domain.errors import IllegalMove
from taskloom.domain.status import MOVES, Move, Status, after

LEGAL = {
    ("draft", "enqueue"): "pending",
    ("aborted", "enqueue"): "pending",
    ("failed", "enqueue"): "pending",
    ("pending", "dequeue"): "draft",
    ("draft", "start"): "running",
    ("pending", "start"): "running",
    ("completed", "resume"): "running",
    ("failed", "resume"): "running",
    ("aborted", "resume"): "running",
    ("running", "requeue"): "pending",
    ("running", "complete"): "completed",
    ("aborted", "complete"): "completed",
    ("running", "fail"): "failed",
    ("aborted", "fail"): "failed",
    ("pending", "abort"): "aborted",
    ("running", "abort"): "aborted",
    ("failed", "abort"): "aborted",
    ("draft", "reset"): "draft",
    ("completed", "reset"): "draft",
    ("failed", "reset"): "draft",
    ("aborted", "reset"): "draft",
    ("completed", "publish"): "published",
    ("failed", "publish"): "published",
    ("aborted", "publish"): "published",
}


@pytest.mark.parametrize(("found", "move"), list(itertools.product(Status, Move)))
def test_a_move_leads_where_the_table_says_or_is_refused_by_name(found: Status, move: Move) -> None:
    target = LEGAL.get((found.value, move.value))
    if target is not None:
        assert after(move, found) == target
        return
    with pytest.raises(IllegalMove) as refused:
        after(move, found)
    assert refused.value.details["status"] == found.value
    assert found.value in refused.value.message
    assert move.value in refused.value.message


def test_nothing_leaves_published() -> None:
    assert all(Status.PUBLISHED not in sources for sources, _ in MOVES.values())
