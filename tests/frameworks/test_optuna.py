"""A study of Optuna with `TaskloomCallback`: its trials as curves and a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.frameworks.conftest import Bench

from taskloom.domain.task import Task

EXAMPLE = "04-metrics/optuna_study.py"


def trials(low: float, count: int) -> list[Any]:
    import optuna

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", low, 10)
        shape = trial.suggest_categorical("shape", ["parabola", "tent"])
        if trial.number == 3:
            raise optuna.TrialPruned
        return (x - 2) ** 2 if shape == "parabola" else abs(x - 2)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, count)
    return study.trials


def expected_scalars(made: list[Any]) -> dict[str, list[tuple[int, float]]]:
    values = [(one.number, one.value) for one in made if one.value is not None]
    return {
        "optuna/best": [(n, min(v for other, v in values if other <= n)) for n, _ in values],
        "optuna/value": values,
        "optuna parameters/x": [(one.number, one.params["x"]) for one in made],
    }


def table(bench: Bench, task: Task) -> dict[str, list[Any]]:
    (plot,) = bench.plots(task)
    assert (plot.title, plot.series, plot.kind) == ("optuna", "trials", "table")
    (trace,) = json.loads(plot.figure)["data"]
    return dict(zip(trace["header"]["values"], trace["cells"]["values"], strict=True))


def test_trials_arrive_as_curves_and_a_table_and_an_edited_clone_searches_elsewhere(bench: Bench) -> None:
    task = bench.record(EXAMPLE, "--project", "optuna", project="optuna")

    assert bench.parameters(task) == {
        "Args/trials": ("12", "int"),
        "Args/low": ("-10.0", "float"),
        "Args/project": ("optuna", "str"),
        "Optuna/study": ("parabola or tent", "str"),
        "Optuna/direction": ('["minimize"]', "list"),
        "Optuna/sampler": ("RandomSampler", "str"),
        "Optuna/pruner": ("MedianPruner", "str"),
    }
    made = trials(-10.0, 12)
    assert bench.scalars(task) == expected_scalars(made)
    assert table(bench, task) == {
        "trial": list(range(12)),
        "state": ["pruned" if n == 3 else "complete" for n in range(12)],
        "value": ["" if one.value is None else one.value for one in made],
        "shape": [one.params["shape"] for one in made],
        "x": [one.params["x"] for one in made],
    }

    clone = bench.clone(task, {"Args/low": "1.0", "Args/trials": "5"})

    assert bench.scalars(clone) == expected_scalars(trials(1.0, 5))


ODD = """
import sys
import optuna
from taskloom import Task
from taskloom.integrations.optuna import TaskloomCallback

try:
    TaskloomCallback()
except ValueError as error:
    print("REFUSED", error)
Task.init(sys.argv[1], "odd", reuse_last_task_id=False)
optuna.logging.disable_default_handler()

def fails(trial):
    x = trial.suggest_float("x", 0, 1)
    if trial.number == 1:
        raise ValueError("no value")
    return x, -x

study = optuna.create_study(directions=["minimize", "maximize"], sampler=optuna.samplers.RandomSampler(seed=0))
study.optimize(fails, 60, callbacks=[TaskloomCallback()], catch=ValueError, n_jobs=2)
"""


def test_two_objectives_threads_and_a_failing_trial(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "odd.py"
    script.write_text(ODD)
    task = bench.record(script, "optuna odd", project="optuna odd")
    assert "REFUSED TaskloomCallback: no task runs in this process: call Task.init first, or give task=" in (
        bench.stdout
    )
    assert bench.parameters(task)["Optuna/direction"] == ('["minimize", "maximize"]', "list")
    counts = {name: len(points) for name, points in bench.scalars(task).items()}
    assert counts == {"optuna/value 0": 59, "optuna/value 1": 59, "optuna parameters/x": 60}
    told = table(bench, task)
    assert told["trial"] == list(range(60))  # the whole study, though the last ones came after the last drawing
    assert told["state"] == ["fail" if n == 1 else "complete" for n in range(60)]
    assert told["value 1"] == ["" if n == 1 else -value for n, value in enumerate(told["value 0"])]
