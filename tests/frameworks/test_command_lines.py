"""Command lines of every framework: what a run read is told in full, and an edited clone reads the edits."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.frameworks.conftest import EXAMPLES, Bench

from taskloom.domain.parameters import flatten
from taskloom.domain.task import Task

FOLDER = EXAMPLES / "02-command-lines"


def example(bench: Bench, name: str) -> Path:
    """A copy outside of the repository, so that a worker need not check the whole of it out."""
    copy = bench.work / name
    copy.write_text((FOLDER / name).read_text())
    return copy


def said(bench: Bench, task: Task, *beginnings: str) -> list[str]:
    """The lines of its console that begin so."""
    return [line for line in bench.console(task.id).splitlines() if line.startswith(beginnings)]


def given(task: Task) -> set[str]:
    return {name for name, one in flatten(task.parameters).items() if one.given}


def test_a_click_command_is_told_and_reads_edited_values(bench: Bench):
    words = ["digits", "--lr", "0.3", "--layer", "8", "--no-augment", "-vv", "--api-key", "hunter2"]
    task = bench.record(example(bench, "click_single.py"), *words, project="examples/click")
    assert bench.parameters(task) == {
        "Args/data": ("digits", "str"),
        "Args/lr": ("0.3", "float"),
        "Args/epochs": ("3", "int"),
        "Args/optimizer": ("sgd", "str"),
        "Args/layers": ("[8]", "tuple"),
        "Args/size": ("[28, 28]", "tuple"),
        "Args/augment": ("False", "bool"),
        "Args/verbose": ("2", "int"),
        "Args/limit": ("", "none"),
    }
    assert given(task) == {"Args/data", "Args/lr", "Args/layers", "Args/augment", "Args/verbose"}
    assert task.execution.arguments == ()
    assert "hunter2" not in str(task)
    assert bench.bindings(task)["click"]["hooks"] == ["click.Command.make_context"]

    edits = {
        "Args/data": "-faces",
        "Args/epochs": "7",
        "Args/optimizer": "adam",
        "Args/layers": "[4, 2]",
        "Args/size": "[32, 16]",
        "Args/augment": "True",
        "Args/verbose": "1",
        "Args/limit": "5",
    }
    copy = bench.clone(task, edits)
    assert said(bench, copy, "train") == [
        "train -faces lr=0.3 epochs=7 optimizer='adam' layers=(4, 2) size=(32, 16) augment=True verbose=1 limit=5"
    ]
    assert bench.parameters(copy) == {
        **bench.parameters(task),
        "Args/data": ("-faces", "str"),
        "Args/epochs": ("7", "int"),
        "Args/optimizer": ("adam", "str"),
        "Args/layers": ("[4, 2]", "tuple"),
        "Args/size": ("[32, 16]", "tuple"),
        "Args/augment": ("True", "bool"),
        "Args/verbose": ("1", "int"),
        "Args/limit": ("5", "int"),
    }
    assert given(copy) == set(bench.parameters(task)) - {"Args/augment"}  # edited to its default


def test_commands_of_a_click_group_begin_again_with_edited_values(bench: Bench):
    """Task.init stands inside the command: its variables are bound when the edits are known."""
    words = ["--seed", "3", "train", "--lr", "0.2", "--tag", "a b", "--tag=c"]
    task = bench.record(example(bench, "click_multi.py"), *words, project="examples/click groups")
    assert bench.parameters(task) == {
        "Args/seed": ("3", "int"),
        "Args/command": ("train", "str"),
        "Args/train/lr": ("0.2", "float"),
        "Args/train/tags": ('["a b", "c"]', "tuple"),
        "Args/train/fast": ("False", "bool"),
    }
    assert given(task) == {"Args/seed", "Args/command", "Args/train/lr", "Args/train/tags"}
    assert task.execution.arguments == tuple(words)

    same = bench.clone(task)
    assert said(bench, same, "train", "seed", "taskloom: edited") == [
        "seed=3",
        "train lr=0.2 tags=('a b', 'c') fast=False",
    ]

    copy = bench.clone(task, {"Args/seed": "5", "Args/train/fast": "True", "Args/train/lr": "0.50"})
    assert said(bench, copy, "train", "seed") == ["seed=3", "seed=5", "train lr=0.5 tags=('a b', 'c') fast=True"]
    assert said(bench, copy, "taskloom: edited") == [
        "taskloom: edited values: the script begins again with the command line "
        "\"--seed=5 train --lr=0.50 '--tag=a b' --tag=c --fast\""
    ]
    assert bench.parameters(copy)["Args/train/lr"] == ("0.5", "float")

    other = bench.clone(task, {"Args/command": "data fetch", "Args/data/fetch/name": "faces"})
    assert said(bench, other, "fetch") == ["fetch faces rows=100"]
    assert bench.parameters(other)["Args/data/fetch/rows"] == ("100", "int")


def test_a_fire_function_is_told_and_reads_edited_values(bench: Bench):
    words = ["digits", "0.2", "a", "b", "--epochs", "5"]
    task = bench.record(example(bench, "fire_function.py"), *words, project="examples/fire function")
    assert said(bench, task, "train") == [
        "train digits lr=0.2 words=('a', 'b') epochs=5 layers=(64, 32) name='007' fast=False"
    ]
    assert bench.parameters(task) == {
        "Args/data": ("digits", "str"),
        "Args/lr": ("0.2", "float"),
        "Args/words": ('["a", "b"]', "list"),
        "Args/epochs": ("5", "int"),
        "Args/layers": ("[64, 32]", "tuple"),
        "Args/name": ("007", "str"),
        "Args/fast": ("False", "bool"),
    }
    assert given(task) == {"Args/data", "Args/lr", "Args/words", "Args/epochs"}
    assert task.execution.arguments == ()

    edits = {"Args/lr": "0.5", "Args/words": '["c"]', "Args/layers": "[4]", "Args/fast": "True", "Args/name": "12"}
    copy = bench.clone(task, edits)
    assert said(bench, copy, "train") == [
        "train digits lr=0.5 words=('c',) epochs=5 layers=(4,) name='12' fast=True"
    ]
    assert given(copy) == set(bench.parameters(task))


def test_a_fire_class_begins_again_with_edited_values(bench: Bench):
    words = ["--seed", "3", "train", "--lr", "0.2"]
    task = bench.record(example(bench, "fire_class.py"), *words, project="examples/fire class")
    assert bench.parameters(task) == {
        "Args/seed": ("3", "int"),
        "Args/folder": ("data", "str"),
        "Args/command": ("train", "str"),
        "Args/train/lr": ("0.2", "float"),
        "Args/train/epochs": ("3", "int"),
    }
    assert given(task) == {"Args/seed", "Args/command", "Args/train/lr"}
    assert task.execution.arguments == tuple(words)

    same = bench.clone(task)
    assert said(bench, same, "train", "taskloom: edited") == ["train seed=3 folder=data lr=0.2 epochs=3"]

    copy = bench.clone(task, {"Args/seed": "4", "Args/train/epochs": "9"})
    assert said(bench, copy, "train") == ["train seed=4 folder=data lr=0.2 epochs=9"]

    other = bench.clone(task, {"Args/command": "evaluate", "Args/evaluate/limit": "7"})
    assert said(bench, other, "evaluate") == ["evaluate seed=3 limit=7"]


def test_fire_groups_are_told_and_another_member_can_be_run(bench: Bench):
    words = ["data", "load", "digits", "--rows", "10"]
    task = bench.record(example(bench, "fire_grouped.py"), *words, project="examples/fire groups")
    assert bench.parameters(task) == {
        "Args/data/root": (".", "str"),
        "Args/command": ("data.load", "str"),
        "Args/data.load/name": ("digits", "str"),
        "Args/data.load/rows": ("10", "int"),
    }
    copy = bench.clone(task, {"Args/data/root": "/data", "Args/data.load/name": "faces"})
    assert said(bench, copy, "load") == ["load faces from /data rows=10"]
    other = bench.clone(task, {"Args/command": "train", "Args/train/lr": "0.7"})
    assert said(bench, other, "train") == ["train lr=0.7"]


ABSL = {
    "TF_DEFINE/lr": ("0.2", "float"),
    "TF_DEFINE/epochs": ("3", "int"),
    "TF_DEFINE/optimizer": ("sgd", "str"),
    "TF_DEFINE/augment": ("False", "bool"),
    "TF_DEFINE/classes": ('["0", "1"]', "list"),
    "TF_DEFINE/layer": ("[8, 4]", "list"),
    "TF_DEFINE/note": ("", "none"),
}


@pytest.mark.parametrize("early", [True, False])
def test_absl_flags_are_told_and_read_edited_values(bench: Bench, early: bool):
    """Parsed after Task.init and before it: `FLAGS` gives the edited values either way."""
    project = f"examples/absl {early}"
    script = bench.work / f"absl_{early}.py"
    text = (FOLDER / "absl_flags.py").read_text().replace("examples/absl", project)
    script.write_text(text.replace('os.environ.get("EARLY")', str(early)))
    words = ["--lr=0.2", "--layer=8", "--layer=4", "--noaugment", "digits"]
    task = bench.record(script, *words, project=project)
    assert bench.parameters(task) == ABSL
    assert given(task) == {"TF_DEFINE/lr", "TF_DEFINE/layer", "TF_DEFINE/augment"}
    assert task.execution.arguments == (("digits",) if early else tuple(words))

    edits = {
        "TF_DEFINE/lr": "0.5",
        "TF_DEFINE/optimizer": "adam",
        "TF_DEFINE/augment": "True",
        "TF_DEFINE/classes": '["2", "3"]',
        "TF_DEFINE/layer": "[5]",
    }
    copy = bench.clone(task, edits)
    assert said(bench, copy, "train", "with") == [
        "train ['digits'] FLAGS.lr=0.5 FLAGS.epochs=3 FLAGS.optimizer='adam' FLAGS.augment=True",
        "with FLAGS.classes=['2', '3'] FLAGS.layer=[5] FLAGS.note=None",
    ]
    assert bench.parameters(copy) == ABSL | {name: (text, ABSL[name][1]) for name, text in edits.items()}


JSONARGPARSE = {
    "Args/subcommand": ("train", "str"),
    "Args/train.data": ("digits", "str"),
    "Args/train.opt.lr": ("0.2", "float"),
    "Args/train.opt.betas": ("[0.9, 0.99]", "list"),
    "Args/train.model.class_path": ("__main__.Model", "str"),
    "Args/train.model.init_args.width": ("8", "int"),
    "Args/train.model.init_args.activation": ("", "none"),
    "Args/train.epochs": ("5", "int"),
}


def test_jsonargparse_keys_are_told_and_read_edited_values(bench: Bench):
    (bench.work / "train.yaml").write_text("epochs: 5\nopt:\n  lr: 0.3\n")
    words = ["train", "--config", "train.yaml", "digits", "--opt.lr", "0.2", "--model.width", "8"]
    task = bench.record(example(bench, "jsonargparse_cli.py"), *words, project="examples/jsonargparse")
    assert bench.parameters(task) == {**JSONARGPARSE, "Args/train.config": ("train.yaml", "str")}
    assert given(task) == {
        "Args/subcommand",
        "Args/train.config",
        "Args/train.data",
        "Args/train.opt.lr",
        "Args/train.model.init_args.width",
        "Args/train.epochs",
    }
    assert task.execution.arguments == ()

    edits = {
        "Args/train.data": "faces",
        "Args/train.opt.betas": "[0.5, 0.6]",
        "Args/train.model.init_args.width": "9",
    }
    copy = bench.clone(task, edits)
    assert said(bench, copy, "train") == [
        "train faces lr=0.2 betas=(0.5, 0.6) Model(width=9 activation=None) epochs=5"
    ]
    assert bench.parameters(copy) == {
        **bench.parameters(task), **{name: (text, JSONARGPARSE[name][1]) for name, text in edits.items()}
    }  # fmt: skip

    other = bench.clone(task, {"Args/subcommand": "evaluate", "Args/evaluate.limit": "4"})
    assert said(bench, other, "evaluate") == ["evaluate limit=4 labels=None"]


def test_argparse_subcommands_are_told_and_another_one_can_be_chosen(bench: Bench):
    words = ["--seed", "3", "--token", "hunter2", "train", "digits", "--layers", "8", "4"]
    task = bench.record(example(bench, "argparse_subcommands.py"), *words, project="examples/argparse")
    assert bench.parameters(task) == {
        "Args/seed": ("3", "int"),
        "Args/action": ("train", "str"),
        "Args/data": ("digits", "str"),
        "Args/lr": ("0.1", "float"),
        "Args/layers": ("[8, 4]", "list"),
    }
    assert given(task) == {"Args/seed", "Args/action", "Args/data", "Args/layers"}
    assert task.execution.arguments == ()
    copy = bench.clone(task, {"Args/lr": "0.5", "Args/layers": "2 1"})
    assert said(bench, copy, "run") == [
        "run {'seed': 3, 'action': 'train', 'data': 'digits', 'lr': 0.5, 'layers': [2, 1]}"
    ]
    other = bench.clone(task, {"Args/action": "export", "Args/format": "onnx", "Args/opset": "11"})
    assert said(bench, other, "run") == ["run {'seed': 3, 'action': 'export', 'format': 'onnx', 'opset': 11}"]
