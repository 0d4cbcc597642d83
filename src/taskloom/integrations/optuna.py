"""A callback for Optuna: `study.optimize(objective, callbacks=[TaskloomCallback()])`.

One task for a study: its curves run over the numbers of trials, a table has them all.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from taskloom.integrations.recording import Recording
from taskloom.sdk.task import Task

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

__all__ = ["TaskloomCallback"]

SECTION = "Optuna"
TITLE = "optuna"
PARAMETERS = "optuna parameters"
ALWAYS = 50  # trials; of a longer study the table is told when a twentieth has come, and at the end


class TaskloomCallback:
    """What became of each trial: its value, the best so far, its numeric parameters, and a table of all trials.

    With several objectives the curves are `value 0`, `value 1`, and there is no best. A trial without a value
    (pruned, failed) stands in the table only. Direction, sampler and pruner are the section `Optuna`.
    task: by default the one that runs in this process. BadInput when no task is given and none runs.
    """

    def __init__(self, task: Task | None = None) -> None:
        self._recording = Recording(task, "TaskloomCallback")
        self._lock = threading.Lock()  # of studies with several threads
        self._told = 0
        self._study: Study | None = None

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        with self._recording.guard(f"trial {trial.number}"), self._lock:
            if self._study is not study:
                self._begin(study)
            values: list[float] = list(trial.values) if trial.values else []
            for number, value in enumerate(values):
                self._recording.scalar(
                    TITLE, "value" if len(values) == 1 else f"value {number}", value, trial.number
                )
            for name, value in trial.params.items():
                if isinstance(value, int | float):
                    self._recording.scalar(PARAMETERS, name, value, trial.number)
            if len(values) == 1 and len(study.directions) == 1:
                self._recording.scalar(TITLE, "best", study.best_value, trial.number)
            if trial.number < ALWAYS or trial.number >= self._told * 1.05:
                self._table(study)

    def stop(self, timeout: float) -> None:
        """The end of the task: the table as it is at last."""
        del timeout
        if self._study is not None:
            self._table(self._study)

    def _begin(self, study: Study) -> None:
        if self._study is None:
            self._recording.at_end(self)
        self._study, self._told = study, 0
        self._recording.parameters(
            SECTION,
            {
                "study": study.study_name,
                "direction": [one.name.lower() for one in study.directions],
                "sampler": type(study.sampler).__name__,
                "pruner": type(study.pruner).__name__,
            },
        )

    def _table(self, study: Study) -> None:
        trials = study.get_trials(deepcopy=False)
        self._told = len(trials)
        names = sorted({name for trial in trials for name in trial.params})
        several = len(study.directions) > 1
        heads = [f"value {n}" for n in range(len(study.directions))] if several else ["value"]
        rows: list[list[Any]] = [["trial", "state", *heads, *names]]
        for trial in trials:
            values: list[Any] = list(trial.values or [""] * len(heads))
            cells = [trial.params.get(name, "") for name in names]
            rows.append([trial.number, trial.state.name.lower(), *values, *cells])
        self._recording.logger.report_table(TITLE, "trials", table_plot=rows)
