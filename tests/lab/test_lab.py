"""What a script tells Transformer Lab's package arrives in the task, and its end is told as it was."""

from __future__ import annotations

import io
import math
import zipfile
from typing import Any

from taskloom.domain.metrics import SINGLE_VALUE
from taskloom.domain.parameters import Parameter
from taskloom.domain.status import Status
from taskloom.wire import messages as m
from taskloom.wire import operations as op


def test_everything_that_a_script_hands_over_arrives(lab: Any) -> None:
    parameters = {
        "General": {
            "lr": Parameter("3e-5", "float"), "epochs": Parameter("2", "int"), "fast": Parameter("True", "bool"),
            "layers": Parameter("[1, 2]", "list"), "name": Parameter("edited", "str"),
            "status": Parameter("mine", "str"), "artifacts": Parameter("mine", "str"),
        }
    }  # fmt: skip
    task = lab.run("probe", parameters)
    said = lab.field.console(task.id)
    assert (task.status, task.status_reason, task.status_message) == (Status.COMPLETED, "", "all done"), said
    assert "('epochs', 2), ('fast', True), ('layers', [1, 2]), ('lr', 3e-05), ('name', 'edited')" in said
    assert "a line of the log\n" in lab.field.console(task.id, "report")
    assert task.progress == 100
    assert task.runtime["score"] == {"accuracy": 0.78, "note": "text", "eval/loss": 0.5}
    assert lab.points(task, "train", "loss")[:3] == [(0, 1.0), (3, "NaN"), (5, 0.5)]
    assert lab.points(task, "accuracy", "accuracy") == [(0, 0.0), (5, 0.1), (10, 0.2)]
    assert lab.points(task, "Summary", "accuracy") == [(SINGLE_VALUE, 0.78)]
    artifacts = {artifact.name: artifact for artifact in task.artifacts}
    assert set(artifacts) == {
        "hello.txt", "renamed.txt", "a_dir", "checkpoints/checkpoint-3", "evals/ev.csv", "datasets/ds1"
    } | {name for name in artifacts if name.startswith("datasets/ds1")}  # fmt: skip
    assert lab.blob(artifacts["hello.txt"].digest) == b"hello artifact"
    packed = zipfile.ZipFile(io.BytesIO(lab.blob(artifacts["checkpoints/checkpoint-3"].digest)))
    assert packed.read("w.bin") == b"12345"
    assert [link.name for link in task.models if link.direction == "output"] == ["toy"]
    model = lab.field.client.call(op.GET_MODEL, model=task.models[0].model)
    assert (model.name, model.task, model.filename) == ("toy", task.id, "toy.zip")


def test_an_error_fails_the_task_although_the_script_left_with_0(lab: Any) -> None:
    task = lab.run("fails")
    assert (task.status, task.status_reason) == (Status.FAILED, "lab.error: the data is not there")
    assert task.status_message == "the data is not there\nsecond line"
    assert task.progress == 30


def test_the_exit_code_wins_over_a_finish_and_an_end_without_words_is_a_good_one(lab: Any) -> None:
    raised, unfinished = lab.start("raises"), lab.start("unfinished")
    task = lab.field.ended(raised)
    assert (task.status, task.status_reason) == (Status.FAILED, "exit code 3")
    task = lab.field.ended(unfinished)
    assert (task.status, task.progress) == (Status.COMPLETED, 40)
    assert lab.points(task, "loss", "loss") == [(0, 1.5)]
    assert "last words without an end" in lab.field.console(task.id, "report")


def test_four_processes_at_once_lose_nothing(lab: Any) -> None:
    task = lab.run("many")
    assert task.status is Status.COMPLETED, lab.field.console(task.id)
    for number in range(4):
        assert lab.points(task, f"p{number}", "loss") == [(step, float(step)) for step in range(30)]
    said = lab.field.console(task.id, "report")
    assert sum(said.count(f"process {number} step ") for number in range(4)) == 120


def test_what_was_told_before_an_abort_is_kept(lab: Any) -> None:
    task = lab.start("waits")
    lab.field.until_says(task, "waiting")
    lab.field.client.call(op.ABORT_TASK, m.MoveRequest(reason="enough"), task=task)
    ended = lab.field.ended(task)
    assert (ended.status, ended.status_reason, ended.progress) == (Status.ABORTED, "enough", 20)
    assert not math.isnan(lab.points(ended, "loss", "loss")[0][1])
    assert [artifact.name for artifact in ended.artifacts] == ["kept.txt"]
