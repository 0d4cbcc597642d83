"""`taskloom eval` as the command of a queued task: the job is the worker's task."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.evals.evaluations import Folder
from tests.unit.worker.conftest import Field

from taskloom.domain.execution import Execution
from taskloom.domain.status import Status
from taskloom.wire import messages as m
from taskloom.wire import operations as op

pytestmark = pytest.mark.evals


def test_a_queued_evaluation_is_its_own_task(field: Field, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "mine", None)
    words = [sys.executable, "-m", "taskloom.cli.main", "eval", str(folder.path / "env.py")]
    command = (*words, "--agent", f"{folder.path / 'agent.py'}:solve", "--group", "2")
    field.worker()
    task = field.enqueue(Execution(command=command), queue="default")
    ended = field.ended(task)

    assert ended.status is Status.COMPLETED, field.console(task)
    record = field.client.call(op.GET_JOB, job=task)
    assert (record.counts, record.reward, record.job.expected) == ({"completed": 12}, 1.0, 12)
    runs = field.client.call(op.LIST_RUNS, query=m.RunQuery(), job=task).runs
    assert [run.position for run in runs] == list(range(12))
    steps = field.client.call(op.GET_STEPS, query=m.StepsQuery(), run=runs[0].id).steps
    assert [step.source for step in steps] == ["task", "user", "task"]
