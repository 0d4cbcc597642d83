"""`taskloom task verify` with a real worker: what reproduces, what drifts and where first, what cannot run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.frameworks.conftest import Bench

from taskloom.domain.status import Status
from taskloom.domain.task import TaskEdit
from taskloom.wire import messages as m
from taskloom.wire import operations as ops

WRITTEN = """
import os
from taskloom import Task
task = Task.init("verify/{name}", "{name}", auto_resource_monitoring=False)
{body}
"""


def verify(bench: Bench, *words: str) -> tuple[int, Any, str]:
    """Exit code, the JSON answer, what was said besides."""
    done = bench.command("task", "verify", *words, "--json", check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr.decode()


def write(bench: Bench, name: str, body: str) -> Path:
    file = bench.work / f"{name}.py"
    file.write_text(WRITTEN.format(name=name, body=body))
    return file


def test_a_deterministic_training_is_reproduced(bench: Bench) -> None:
    task = bench.record("08-reproducing/deterministic.py", "--lr", "0.3", project="reproducing")
    assert task.runtime["random_seed"] == 1337
    code, told, said = verify(bench, task.id)
    assert code == 0, (told, said)
    clone = bench.task(told["by"])
    del told["when"]
    assert told == {
        "task": task.id,
        "by": clone.id,
        "verdict": "reproduced",
        "reason": "",
        "rtol": 0.0,
        "atol": 0.0,
        "ignore": [],
        "compared": {
            "scalars": 2,
            "points": 12,
            "artifacts": 2,
            "models": 0,
            "parameters": 2,
            "configuration": 0,
            "ignored": 0,
            "unknown": [],
        },
        "total": 0,
        "differences": [],
    }
    assert (clone.name, clone.parent, clone.status) == ("Verification of deterministic", task.id, Status.COMPLETED)
    assert clone.system_tags == ("verification",)
    kept = {key: value for key, value in bench.task(task.id).runtime["verification"].items() if key != "when"}
    assert kept == {
        "task": task.id,
        "by": clone.id,
        "verdict": "reproduced",
        "rtol": 0.0,
        "atol": 0.0,
        "compared": {"scalars": 2, "points": 12, "artifacts": 2, "parameters": 2},
    }
    assert clone.runtime["verification"] == bench.task(task.id).runtime["verification"]
    shown = bench.command("task", "show", task.id).stdout.decode()
    assert f"reproduced by {clone.id[:8]}" in shown
    assert f"reproduced, verifying {task.id[:8]}" in bench.command("task", "show", clone.id).stdout.decode()


def test_a_drifting_training_differs_and_the_first_difference_is_named(bench: Bench) -> None:
    task = bench.record("08-reproducing/drifting.py", project="reproducing by chance")
    code, told, said = verify(bench, task.id)
    assert code == 1, (told, said)
    assert (told["verdict"], told["total"]) == ("differs", 2)
    loss, summary = told["differences"]
    first, second = (dict(bench.scalars(bench.task(id))["loss/train"]) for id in (task.id, told["by"]))
    assert [first[i] for i in range(3)] == [second[i] for i in range(3)]
    gaps = {i: abs(second[i] - first[i]) for i in range(3, 6)}
    assert loss == {
        "kind": "scalar",
        "name": "loss/train",
        "what": "value",
        "iteration": 3,
        "first": first[3],
        "second": second[3],
        "points": 3,
        "largest": max(gaps.values()),
        "largest_at": max(gaps, key=gaps.__getitem__),
    }
    assert (summary["kind"], summary["name"], summary["what"]) == ("artifact", "summary", "value")
    people = bench.command("task", "verify", task.id, "--against", told["by"], check=False)
    assert people.returncode == 1
    assert "iteration 3" in people.stdout.decode()
    assert repr(first[3]) in people.stdout.decode()
    code, told, _ = verify(
        bench, task.id, "--against", told["by"], "--atol", "1", "--ignore", "artifact:*", "--ignore", "learning*"
    )
    assert (code, told["verdict"], told["compared"]["ignored"]) == (0, "reproduced", 2)
    assert bench.task(task.id).runtime["verification"]["verdict"] == "reproduced"


def test_a_run_that_fails_could_not_be_compared(bench: Bench) -> None:
    body = "task.get_logger().report_scalar('a', 'b', 1.0, iteration=0)\nassert os.environ['ONLY_HERE']"
    task = bench.record(write(bench, "fails there", body), project="verify/fails there", ONLY_HERE="1")
    code, told, _ = verify(bench, task.id)
    assert code == 2
    assert told["verdict"] == "could not run"
    assert told["reason"].startswith("the second run failed")
    assert told["differences"] == [
        {
            "kind": "status",
            "name": "status",
            "what": "value",
            "iteration": None,
            "first": "completed",
            "second": "failed",
            "points": 0,
            "largest": None,
            "largest_at": None,
        }
    ]
    assert bench.task(task.id).runtime["verification"]["verdict"] == "could not run"


def test_what_is_not_there_or_not_ended_is_refused_with_2(bench: Bench) -> None:
    assert verify(bench, "0" * 32)[0] == 2
    draft = bench.client.call(ops.CREATE_TASK, m.TaskCreate(name="a draft", project="verify/none"))
    code, _, said = verify(bench, draft.id)
    assert code == 2
    assert "is draft: only a task that has ended can be compared" in said
    assert verify(bench, draft.id, "--against", draft.id)[0] == 2
    assert bench.command("task", "verify", draft.id, "--rtol", "nan", check=False).returncode == 2


def test_a_queue_that_is_not_there_leaves_no_clone(bench: Bench) -> None:
    task = bench.record(write(bench, "short run", ""), project="verify/short run")
    code, _, said = verify(bench, task.id, "--queue", "nowhere")
    assert code == 2
    assert "nowhere" in said
    assert [t.id for t in bench.client.call(ops.QUERY_TASKS, m.TaskQuery(project="verify/short run")).tasks] == [
        task.id
    ]


def test_time_that_runs_out_says_how_to_compare_later(bench: Bench) -> None:
    task = bench.record(write(bench, "patient run", ""), project="verify/patient run")
    bench.client.call(ops.CREATE_QUEUE, m.QueueCreate(name="nobody looks here"))
    code, told, said = verify(bench, task.id, "--queue", "nobody looks here", "--timeout", "0.1")
    assert (code, told) == (2, None)
    assert "is still pending after 0.1 seconds" in said
    assert f"taskloom task verify {task.id[:8]} --against" in said


def test_a_published_task_keeps_the_verdict_and_a_script_can_ask(bench: Bench) -> None:
    body = "task.get_logger().report_scalar('a', 'b', float('nan'), iteration=0)"
    task = bench.record(write(bench, "published run", body), project="verify/published run")
    bench.client.call(ops.PUBLISH_TASK, m.MoveRequest(), task=task.id)
    asking = bench.work / "asking.py"
    asking.write_text(
        f"from taskloom import Task\nprint(Task.get_task('{task.id}').verify(queue_name='default').verdict)\n"
    )
    done = bench.script(asking)
    assert done.stdout == b"reproduced\n", done.stderr.decode()
    found = bench.task(task.id)
    assert (found.status, found.runtime["verification"]["verdict"]) == (Status.PUBLISHED, "reproduced")
    edit = TaskEdit(runtime={"verification": {"verdict": 5}})  # somebody else's words
    bench.client.call(ops.EDIT_TASK, m.TaskEditRequest(edit=edit), task=task.id)
    assert "verified" not in bench.command("task", "show", task.id).stdout.decode()
