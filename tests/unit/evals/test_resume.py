"""What of a job counts as done, and when it is another experiment."""

from __future__ import annotations

import pytest

from taskloom.domain.errors import Conflict
from taskloom.domain.evaluation import Boundary, EvalRun, Grade, RunStatus, Usage
from taskloom.evals.resume import check_same, is_done, restored

GRADED = Grade(reward=0.5)
BAD = Grade(is_error=True)


@pytest.mark.parametrize(
    ("status", "boundary", "grade", "done", "with_failed"),
    [
        ("completed", "", GRADED, True, True),
        ("completed", "", None, False, False),
        ("completed", "", BAD, False, False),
        ("error", "agent", GRADED, True, False),
        ("error", "agent", None, False, False),
        ("error", "infrastructure", GRADED, False, False),
        ("error", "environment", None, False, False),
        ("error", "grader", BAD, False, False),
        ("cancelled", "", None, False, False),
        ("running", "", None, False, False),
    ],
)
def test_what_says_something_of_the_model_is_done(
    status: RunStatus, boundary: Boundary, grade: Grade | None, done: bool, with_failed: bool
) -> None:
    run = EvalRun(id="r", job="j", status=status, boundary=boundary, grade=grade)

    assert is_done(run) is done
    assert is_done(run, retry_failed=True) is with_failed


def test_a_job_whose_parts_are_the_same_goes_on() -> None:
    parts = {"environment": "source " + "a" * 64, "agent": "b" * 64, "taskset": "c" * 64}

    check_same(parts, dict(parts))
    check_same({}, parts)


def test_what_differs_is_named_with_how() -> None:
    before = {"environment": "image tests:1", "agent": "b" * 64, "taskset": "c" * 64}
    now = {"environment": "image tests:2", "agent": "b" * 64, "taskset": "d" * 64}

    with pytest.raises(Conflict) as caught:
        check_same(before, now)
    said = caught.value.message
    assert "the environment is not the one that it was (image tests:1, now image tests:2)" in said
    assert "the taskset is not the one that it was (cccccccccccc, now dddddddddddd)" in said
    assert "agent" not in said


def test_a_stored_run_becomes_the_receipt_that_it_was() -> None:
    value = EvalRun(
        id="a" * 32,
        job="j",
        position=3,
        group="g",
        slug="one",
        env="e",
        template="t",
        args={"a": 1},
        columns={"level": 1},
        status="error",
        boundary="agent",
        error="it fell",
        stop_reason="timeout",
        answer="x",
        grade=GRADED,
        usage=Usage(prompt_tokens=1),
        attempt=2,
        agent="me",
        model="m",
        runtime="tcp://h:1",
        started=1.0,
        ended=2.0,
    )

    run = restored(value)

    assert run.value() == value
    assert (run.reward, run.slug, run.boundary) == (0.5, "one", "agent")
