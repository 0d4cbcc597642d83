"""A script hands work to a worker: itself with `execute_remotely`, one of its functions as a function task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.scenarios.stage import Stage

from taskloom.domain.parameters import Parameter, flatten
from taskloom.domain.status import Status
from taskloom.domain.task import TaskEdit
from taskloom.wire import messages as m
from taskloom.wire import operations as ops

EXAMPLES = Path(__file__).parents[2] / "examples" / "10-handed-over"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path / "data", tmp_path / "work")
    made.work.mkdir()
    made.serve()
    yield made
    made.close()


def write(stage: Stage, text: str) -> Path:
    """Away from the repository of this checkout, so that the script's own text is what is recorded."""
    script = stage.work / "script.py"
    script.write_text(text)
    return script


def example(stage: Stage, name: str, *changes: tuple[str, str]) -> Path:
    text = (EXAMPLES / name).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return write(stage, text)


def find(stage: Stage, name: str) -> str:
    query = m.TaskQuery(project="handed over", name=name, exact_name=True)
    return stage.client.call(ops.QUERY_TASKS, query).tasks[0].id


def test_execute_remotely_ends_the_run_here_and_a_worker_does_the_rest(stage: Stage) -> None:
    here = stage.run(example(stage, "execute_remotely.py"))
    assert (here.returncode, here.stdout.decode()) == (0, "a look at the data, here or there\n")
    task = stage.only_task("handed over")
    assert task.status is Status.PENDING
    stage.worker("w1", "--packages", "reuse")
    ended = stage.ended(task.id)
    assert ended.status is Status.COMPLETED, stage.console(task.id)
    assert stage.points(task.id, "loss", "train").value == [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    said = stage.console(task.id)
    assert "trained 5 steps" in said and said.count("a look at the data") == 1


def test_execute_remotely_with_clone_leaves_the_first_task_completed(stage: Stage) -> None:
    here = stage.run(example(stage, "execute_remotely.py", ("clone=False", "clone=True")))
    assert here.returncode == 0, here.stderr.decode()
    first, copy = find(stage, "moved to a worker"), find(stage, "Clone Of moved to a worker")
    assert stage.ended(first).status is Status.COMPLETED
    assert stage.task(copy).status is Status.PENDING
    stage.worker("w1", "--packages", "reuse")
    assert stage.ended(copy).status is Status.COMPLETED, stage.console(copy)
    assert "trained 5 steps" in stage.console(copy)


def test_a_function_task_runs_its_function_with_edited_arguments_and_nothing_behind_it(stage: Stage) -> None:
    here = stage.run(example(stage, "function_task.py", ('    Task.enqueue(made, queue_name="default")\n', "")))
    assert here.returncode == 0, here.stderr.decode()
    one, two = (line.split()[1] for line in here.stdout.decode().splitlines())
    made = stage.task(one)
    assert (made.name, made.status, made.parent) == ("training", Status.DRAFT, find(stage, "the main task"))
    assert {k: p.value for k, p in flatten(made.parameters).items()} == {
        "Function/rate": "0.5", "Function/layers": "[2, 3]",
    }  # fmt: skip
    assert stage.task(two).name == "the main task: __main__.check"
    edit = TaskEdit(parameters={"Function": {"rate": Parameter("0.25"), "name": Parameter("added", "str")}})
    stage.client.call(ops.EDIT_TASK, m.TaskEditRequest(edit=edit), task=one)
    for task in (one, two):
        stage.client.call(ops.ENQUEUE_TASK, m.Enqueue(), task=task)
    stage.worker("w1", "--packages", "reuse")
    assert stage.ended(one).status is Status.COMPLETED, stage.console(one)
    assert stage.ended(two).status is Status.COMPLETED, stage.console(two)
    assert "train with 0.25 [2, 3] added" in stage.console(one) and "queued" not in stage.console(one)
    assert "check with 0.5" in stage.console(two) and "train with" not in stage.console(two)
    assert [s.last for s in stage.task(one).metrics if s.series == "rate"] == [0.25]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("task.create_function_task(f, a=object(), b=1)", "argument 'a' is a object; expected text, a number"),
        ("task.create_function_task(f, a=1)", "cannot be called so: missing a required argument: 'b'"),
        ("[task.create_function_task(f, a=1, b=2) for _ in range(2)]", "give another func_name"),
    ],
)
def test_a_function_task_that_could_not_run_is_refused_at_once(stage: Stage, call: str, said: str) -> None:
    text = "def f(a, b): pass\nfrom taskloom import Task\ntask = Task.init('handed over', 'refused')\n" + call
    done = stage.run(write(stage, text))
    assert done.returncode == 1 and said in done.stderr.decode(), done.stderr.decode()
