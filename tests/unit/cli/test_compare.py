"""What differs between tasks."""

from typing import Any

from taskloom.cli.compare import compare_tasks, read_packages
from taskloom.domain.execution import Execution
from taskloom.domain.metrics import SeriesSummary
from taskloom.domain.parameters import encode
from taskloom.domain.task import Task


def task(letter: str, **fields: Any) -> Task:
    return Task(id=letter * 32, name=f"task {letter}", project="shelf", **fields)


def metric(title: str, series: str, last: Any) -> SeriesSummary:
    return SeriesSummary(title, series, 1, last, 0, last, 0, last, 0)


def test_only_parameters_that_differ_are_kept() -> None:
    a = task("a", parameters={"Args": {"lr": encode(0.1), "epochs": encode(3), "only": encode("a")}})
    b = task("b", parameters={"Args": {"lr": encode(0.2), "epochs": encode(3)}})
    told = compare_tasks([a, b])
    assert told.parameters == {"Args/lr": ["0.1", "0.2"], "Args/only": ["a", None]}
    assert set(compare_tasks([a, b], everything=True).parameters) == {"Args/lr", "Args/epochs", "Args/only"}


def test_metrics_stand_side_by_side_without_the_machine() -> None:
    a = task("a", metrics=(metric("loss", "train", 0.5), metric(":monitor:machine", "cpu", 9.0)))
    b = task("b", metrics=(metric("loss", "train", "NaN"), metric("accuracy", "test", 0.9)))
    assert compare_tasks([a, b]).metrics == {"accuracy/test": [None, 0.9], "loss/train": [0.5, "NaN"]}


def test_code_and_packages_that_differ_are_named() -> None:
    a = task("a", execution=Execution(commit="one", branch="main", packages="numpy==1.0\nsame==2\n"))
    b = task("b", execution=Execution(commit="two", branch="main", packages="NumPy==2.0\nsame==2\n", diff="+x\n"))
    told = compare_tasks([a, b])
    assert told.execution["commit"] == ["one", "two"]
    assert "branch" not in told.execution
    assert told.execution["changes"][0] is None
    assert told.packages == {"numpy": ["1.0", "2.0"]}


def test_packages_are_read_from_requirement_lines() -> None:
    text = "# a comment\nA_b.c==1.0  # why\nd @ git+https://host/d.git#egg=d\n-r other.txt\n\ne\n"
    assert read_packages(text) == {"a-b-c": "1.0", "d": "@ git+https://host/d.git#egg=d", "e": "any"}


def test_the_command_prints_tables_and_json(taskloom: Any, finished: Any) -> None:
    first = finished("first run", last=0.25, lr=0.1)
    second = finished("second run", last=0.125, lr=0.2)
    out = taskloom("task", "compare", first.task, second.task).out
    for part in ("first run", "second run", "Args/lr", "0.1", "0.2", "loss/train", "0.25", "0.125"):
        assert part in out
    told = taskloom("task", "compare", first.task, second.task, "--json").json
    assert [item["id"] for item in told["tasks"]] == [first.task, second.task]
    assert told["parameters"] == {"Args/lr": ["0.1", "0.2"]}
    assert told["metrics"] == {"loss/train": [0.25, 0.125]}


def test_one_task_is_nothing_to_compare(taskloom: Any, finished: Any) -> None:
    assert taskloom("task", "compare", finished().task).code == 2
