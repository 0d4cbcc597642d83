"""Optuna: every trial of a study, its values, the best so far and a table of all, in one task.

Run it: `python optuna_study.py [--trials 12] [--low -10]`; needs optuna.
"""

import argparse

import optuna

from taskloom import Task
from taskloom.integrations.optuna import TaskloomCallback


def objective(trial: optuna.Trial, low: float) -> float:
    x = trial.suggest_float("x", low, 10)
    shape = trial.suggest_categorical("shape", ["parabola", "tent"])
    if trial.number == 3:
        raise optuna.TrialPruned
    return (x - 2) ** 2 if shape == "parabola" else abs(x - 2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--low", type=float, default=-10.0)
    parser.add_argument("--project", default="examples/metrics")
    args = parser.parse_args()
    Task.init(project_name=args.project, task_name="Optuna", reuse_last_task_id=False)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name="parabola or tent", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: objective(trial, args.low), args.trials, callbacks=[TaskloomCallback()])
    print(f"best {study.best_value:.4f} of {len(study.trials)} trials")


if __name__ == "__main__":
    main()
