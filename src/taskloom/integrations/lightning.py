"""A logger for Lightning: `Trainer(logger=TaskloomLogger())`.

Metrics become scalars, hyperparameters the section `Hparams`, checkpoints models with their scores. Beside it no
TensorBoardLogger is needed. Works with `lightning` and with `pytorch_lightning`, whichever the script has imported.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from taskloom.integrations.recording import Recording, split
from taskloom.sdk.task import Task

__all__ = ["TaskloomLogger"]

SECTION = "Hparams"
FRAMEWORK = "PyTorch"  # as the binding calls it, so that a checkpoint is one model


def _package() -> str:
    names = ("lightning.pytorch", "pytorch_lightning")
    for name in names:
        if name in sys.modules:
            return name
    try:
        import_module(names[0])
    except ImportError:
        return names[1]
    return names[0]


if TYPE_CHECKING:
    _Logger = object

    def _only_first(function: Any) -> Any: ...

    def _experiment(function: Any) -> Any: ...
else:
    _loggers = import_module(f"{_package()}.loggers.logger")
    _Logger = _loggers.Logger
    _experiment = _loggers.rank_zero_experiment
    _only_first = import_module(f"{_package()}.utilities.rank_zero").rank_zero_only


class TaskloomLogger(_Logger):
    """Metrics, hyperparameters and checkpoints of a Trainer, in the process of rank zero.

    task: by default the one that runs in this process. prefix: put before the names of metrics, with a `/`.
    checkpoints: whether checkpoints are recorded as models, with the score that they were saved for.
    BadInput when no task is given and none runs.
    """

    def __init__(self, task: Task | None = None, prefix: str = "", checkpoints: bool = True) -> None:
        super().__init__()
        self._prefix = f"{prefix}/" if prefix else ""
        self._checkpoints = checkpoints
        self._recording = Recording(task, "TaskloomLogger")
        self._known: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """The task's name, as it can stand in a path."""
        return self._recording.name

    @property
    def version(self) -> str:
        """The task's id."""
        return self._recording.id

    @property
    @_experiment
    def experiment(self) -> Task:
        """The task, for what a module wants to record itself: `self.logger.experiment.get_logger()`."""
        return self._recording.task

    @_only_first
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Scalars at this step; `val/loss` is the curve `loss` of the graph `val`."""
        for name, value in metrics.items():
            self._recording.scalar(*split(f"{self._prefix}{name}"), value, step or 0)

    @_only_first
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Parameters of a dictionary, namespace or data class; metrics given with them are single values."""
        with self._recording.guard("hyperparameters"):
            self._recording.parameters(SECTION, _dictionary(params))
            metrics: Mapping[str, Any] = (args[0] if args else kwargs.get("metrics")) or {}
            for name, value in metrics.items():
                self._recording.logger.report_single_value(name, value)

    @_only_first
    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Nothing: graphs of modules are not recorded."""

    @_only_first
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Checkpoints of a ModelCheckpoint as models; their scores stand in the models' metadata."""
        if not self._checkpoints:
            return
        with self._recording.guard("checkpoints"):
            scores = {str(path): float(score) for path, score in checkpoint_callback.best_k_models.items()}
            monitored = str(getattr(checkpoint_callback, "monitor", None) or "score")
            step = int(getattr(checkpoint_callback, "_last_global_step_saved", 0))
            for path in dict.fromkeys((*scores, str(checkpoint_callback.last_model_path))):
                score = scores.get(path)
                if path and (path not in self._known or self._known[path] != score):
                    self._known[path] = score
                    told = {} if score is None else {monitored: score}
                    self._recording.saved(path, FRAMEWORK, step, told)

    @_only_first
    def save(self) -> None:
        """Have what is recorded sent now."""
        with self._recording.guard("what was logged"):
            self._recording.task.flush()

    @_only_first
    def finalize(self, status: str) -> None:
        """The end of a fit. The task goes on until its script ends: that decides its status."""
        self.save()


def _dictionary(params: Any) -> dict[str, Any]:
    if isinstance(params, Namespace):
        return vars(params)
    return asdict(params) if is_dataclass(params) else dict(params or {})  # pyright: ignore[reportArgumentType, reportCallIssue]
