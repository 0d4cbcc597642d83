"""The classes that a script hands to Lightning, transformers and Keras: what arrives through them."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.frameworks.conftest import HeavyBench, needs

pytestmark = pytest.mark.frameworks

Points = list[tuple[int, float]]


def fitted(lr: float, epochs: int) -> tuple[Points, Points, Points, Points, float]:
    """A line through 3x in two batches an epoch: squared errors of batches and validation, absolute ones, weight."""
    x = np.linspace(-1, 1, 32)
    weight, bias = 1.0, 0.0
    squares: Points = []
    absolutes: Points = []
    valid: Points = []
    valid_absolutes: Points = []
    for epoch in range(epochs):
        for part in (x[:16], x[16:]):
            error = weight * part + bias - 3 * part
            squares.append((len(squares), float((error**2).mean())))
            absolutes.append((len(absolutes), float(np.abs(error).mean())))
            weight, bias = weight - lr * 2 * (error * part).mean(), bias - lr * 2 * error.mean()
        error = weight * x + bias - 3 * x
        valid.append((epoch, float((error**2).mean())))
        valid_absolutes.append((epoch, float(np.abs(error).mean())))
    return squares, absolutes, valid, valid_absolutes, float(weight)


def about(points: Points) -> Any:
    """The frameworks count in four bytes."""
    return [(n, pytest.approx(value, rel=1e-4)) for n, value in points]


def so_far(points: Points) -> Points:
    """Means over the batches of an epoch until each: what Keras tells of a batch."""
    found: Points = []
    for n, value in points:
        found.append((n, value if n % 2 == 0 else (points[n - 1][1] + value) / 2))
    return found


def test_lightning_tells_metrics_hyperparameters_and_checkpoints(heavy: HeavyBench) -> None:
    needs(heavy, "lightning")

    def expected(lr: float, epochs: int) -> dict[str, Any]:
        squares, _, valid, _, _ = fitted(lr, epochs)
        ends = [(2 * epoch + 1, value) for epoch, value in valid]  # steps count on over the epochs
        steps = [0, 1, 1]  # the epoch comes with each step's metrics, and with the validation's
        numbers = [(2 * epoch + step, float(epoch)) for epoch in range(epochs) for step in steps]
        return {"epoch/epoch": numbers, "train/loss": about(squares), "val_loss/val_loss": about(ends)}

    task = heavy.record("04-metrics/lightning_logger.py", "--project", "lightning", project="lightning")

    assert heavy.parameters(task) == {
        "Args/lr": ("0.1", "float"),
        "Args/epochs": ("3", "int"),
        "Args/project": ("lightning", "str"),
        "Hparams/lr": ("0.1", "float"),
    }
    assert heavy.scalars(task) == expected(0.1, 3)
    (model,) = heavy.models(task).values()  # told by the binding and by the logger
    assert (model.name, model.framework, model.filename, model.iteration) == (
        "Lightning - best",
        "PyTorch",
        "best.ckpt",
        6,
    )
    assert model.metadata == {"val_loss": pytest.approx(fitted(0.1, 3)[2][-1][1], rel=1e-4)}

    clone = heavy.clone(task, {"Args/lr": "0.3", "Args/epochs": "1"})

    assert heavy.scalars(clone) == expected(0.3, 1)
    assert heavy.parameters(clone)["Hparams/lr"] == ("0.3", "float")


LIGHTNING_ODD = """
import copy, os, pickle, sys
from argparse import Namespace
from dataclasses import dataclass
import torch
from taskloom import Task
from taskloom.integrations.lightning import TaskloomLogger

try:
    TaskloomLogger()
except ValueError as error:
    print("REFUSED", error)
os.environ["RANK"] = "1"
second = TaskloomLogger()  # of several that train together only the first one needs a task
second.log_metrics({"loss": 1.0}, 1)
assert (second.name, second.version) == ("", "")
del os.environ["RANK"]
task = Task.init(sys.argv[1], "odd/values", reuse_last_task_id=False, auto_connect_frameworks=False)

@dataclass
class Options:
    size: int = 3

logger = TaskloomLogger(prefix="fold")
logger.log_metrics({"val/loss": float("nan"), "acc": torch.tensor(0.5), "name": "no number", "none": None}, 2)
logger.log_hyperparams({"nested": {"a": 1}, "layer": torch.nn.ReLU(), "list": [1, 2]}, {"hp_metric": 0.25})
logger.log_hyperparams(Namespace(flag=True))
logger.log_hyperparams(Options())
logger.log_hyperparams(None)
copy.deepcopy(logger).log_metrics({"copied": 1.0}, 1)
again = pickle.loads(pickle.dumps(logger))
again.log_metrics({"sent": 1.0}, 1)
assert (again.name, again.version, again.experiment) == ("odd_values", task.id, task), again.name
logger.after_save_checkpoint(Namespace())  # not what Lightning gives: told, and the script goes on
with open(sys.argv[2], "wb") as file:
    file.write(b"weights")
saved = {"monitor": "val", "last_model_path": sys.argv[2], "_last_global_step_saved": 4}
logger.after_save_checkpoint(Namespace(best_k_models={sys.argv[2]: torch.tensor(0.5)}, **saved))
logger.finalize("success")
other = Task.create("other", "target")
elsewhere = TaskloomLogger(task=other)
elsewhere.log_hyperparams({"from": "elsewhere"})
"""


def test_a_logger_takes_odd_values_is_copied_and_sent_and_writes_to_other_tasks(
    heavy: HeavyBench, tmp_path: Path
) -> None:
    needs(heavy, "lightning")
    script = tmp_path / "odd.py"
    script.write_text(LIGHTNING_ODD)
    task = heavy.record(script, "lightning odd", str(tmp_path / "best.ckpt"), project="lightning odd")

    assert (
        "REFUSED TaskloomLogger: no task runs in this process: call Task.init first, or give task=" in heavy.stdout
    )
    assert {name: [(n, str(v)) for n, v in points] for name, points in heavy.scalars(task).items()} == {
        "fold/acc": [(2, "0.5")],
        "fold/val/loss": [(2, "NaN")],
        "fold/copied": [(1, "1.0")],
        "fold/sent": [(1, "1.0")],
        "Summary/hp_metric": [(-(2**31), "0.25")],
    }
    assert heavy.parameters(task) == {
        "Hparams/nested/a": ("1", "int"),
        "Hparams/layer": ("ReLU()", "str"),
        "Hparams/list": ("[1, 2]", "list"),
        "Hparams/flag": ("True", "bool"),
        "Hparams/size": ("3", "int"),
    }
    assert heavy.stderr.count("TaskloomLogger: checkpoints could not be recorded") == 1
    (model,) = heavy.models(task).values()  # though bindings are switched off
    assert (model.filename, model.iteration, model.metadata) == ("best.ckpt", 4, {"val": 0.5})
    assert heavy.parameters(heavy.only_task("other")) == {"Hparams/from": ("elsewhere", "str")}


def test_the_trainer_of_transformers_tells_arguments_configuration_logs_and_checkpoints(heavy: HeavyBench) -> None:
    needs(heavy, "transformers", "accelerate")
    task = heavy.record("04-metrics/transformers_trainer.py", "--project", "trainer", project="trainer")

    parameters = heavy.parameters(task)
    assert {name: value for name, value in parameters.items() if not name.startswith("Transformers/")} == {
        "Args/lr": ("0.01", "float"),
        "Args/steps": ("4", "int"),
        "Args/project": ("trainer", "str"),
    }
    assert {name: parameters[f"Transformers/{name}"] for name in ("learning_rate", "max_steps", "report_to")} == {
        "learning_rate": ("0.01", "float"),
        "max_steps": ("4", "int"),
        "report_to": ("[]", "list"),
    }
    configuration = json.loads(task.configuration["Model Configuration"].value)
    assert (configuration["model_type"], configuration["hidden_size"]) == ("bert", 8)

    logs = [ast.literal_eval(line) for line in heavy.stdout.splitlines() if line.startswith("{'")]
    steps, evaluation, total = logs[:4], logs[4], logs[5]
    scalars = heavy.scalars(task)
    last = -(2**31)
    assert scalars.pop("Summary/epoch") == [(last, epoch) for epoch in (1.0, 2.0, 3.0, 4.0, 4.0, 4.0)]
    assert scalars.pop("Summary/total_flos") == [(last, 437760.0)]
    assert scalars == {
        **{
            f"train/{name}": [(n + 1, near(one[name])) for n, one in enumerate(steps)]
            for name in ("loss", "grad_norm", "learning_rate")
        },
        **{
            f"eval/{name}": [(4, near(evaluation[f"eval_{name}"]))]
            for name in ("loss", "runtime", "samples_per_second", "steps_per_second")
        },
        **{
            f"Summary/train_{name}": [(last, near(total[f"train_{name}"]))]
            for name in ("loss", "runtime", "samples_per_second", "steps_per_second")
        },
    }
    (model,) = heavy.models(task).values()  # told by the binding and by the callback
    assert (model.name, model.framework, model.filename, model.iteration) == (
        "Transformers - checkpoint-4",
        "PyTorch",
        "checkpoint-4",
        4,
    )
    assert model.metadata["eval_loss"] == near(evaluation["eval_loss"])

    clone = heavy.clone(task, {"Args/lr": "0.5", "Args/steps": "2"})

    assert heavy.scalars(clone)["train/learning_rate"] == [(1, 0.5), (2, 0.25)]
    assert heavy.parameters(clone)["Transformers/learning_rate"] == ("0.5", "float")


def near(printed: str) -> Any:
    """The trainer prints four digits."""
    return pytest.approx(float(printed), rel=6e-4)


def test_keras_tells_epochs_batches_the_learning_rate_and_saved_models(heavy: HeavyBench) -> None:
    needs(heavy, "keras", "tensorflow")

    def expected(lr: float, epochs: int) -> dict[str, Any]:
        squares, absolutes, valid, valid_absolutes, _ = fitted(lr, epochs)
        return {
            "batch loss/train": about(so_far(squares)),
            "batch mae/train": about(so_far(absolutes)),
            "learning rate/learning rate": about([(n, lr) for n in range(epochs)]),
            "loss/train": about([(n // 2, value) for n, value in so_far(squares) if n % 2]),
            "loss/validation": about(valid),
            "mae/train": about([(n // 2, value) for n, value in so_far(absolutes) if n % 2]),
            "mae/validation": about(valid_absolutes),
        }

    task = heavy.record("04-metrics/keras_callback.py", "--project", "keras", project="keras")

    assert heavy.scalars(task) == expected(0.1, 3)
    (model,) = heavy.models(task).values()  # told by the binding and by the callback
    assert (model.name, model.framework, model.filename, model.iteration) == (
        "Keras - line",
        "Keras",
        "line.keras",
        2,
    )

    clone = heavy.clone(task, {"Args/lr": "0.2", "Args/epochs": "2"})

    assert heavy.scalars(clone) == expected(0.2, 2)
