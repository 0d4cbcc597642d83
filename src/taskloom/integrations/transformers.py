"""A callback for the Trainer of Hugging Face's transformers: `Trainer(..., callbacks=[TaskloomCallback()])`.

With `report_to="none"` it is all that reports; TensorBoard's callback beside it would tell the same twice.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskloom.integrations.recording import Recording
from taskloom.sdk.task import Task

__all__ = ["TaskloomCallback"]

SECTION = "Transformers"
CONFIGURATION = "Model Configuration"
FRAMEWORK = "PyTorch"  # as the binding calls it, so that a checkpoint is one model
SETS = ("eval", "test")  # the prefixes of evaluation's metrics; everything else is training's
OF_THE_RUN = frozenset(
    {"train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos", "epoch"}
)

if TYPE_CHECKING:
    _Callback = object
else:
    _Callback = import_module("transformers.trainer_callback").TrainerCallback


class TaskloomCallback(_Callback):
    """Arguments, the model's configuration, logs and checkpoints of a Trainer, in the world's first process.

    Arguments become the section `Transformers`, the configuration `Model Configuration`; logs are scalars of the
    graphs `train`, `eval` and `test` over steps, the totals at the end single values, checkpoints models.
    task: by default the one that runs in this process. checkpoints: whether they are recorded as models.
    BadInput when no task is given and none runs.
    """

    def __init__(self, task: Task | None = None, checkpoints: bool = True) -> None:
        self._recording = Recording(task, "TaskloomCallback")
        self._checkpoints = checkpoints

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        with self._recording.guard("arguments"):
            self._recording.parameters(SECTION, args.to_dict())  # without tokens: the library blanks them
        config = getattr(model, "config", None)
        if config is not None:
            with self._recording.guard("the model's configuration"):
                self._recording.configuration(CONFIGURATION, config.to_dict())

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        for name, value in dict(logs or {}).items():
            if name in OF_THE_RUN:
                with self._recording.guard(f"{name}"):
                    self._recording.logger.report_single_value(name, value)
                continue
            title, _, series = name.partition("_")
            if title not in SETS:
                title, series = "train", name
            self._recording.scalar(title, series, value, int(state.global_step))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not (self._checkpoints and state.is_world_process_zero):
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if folder.exists():
            newest = dict(state.log_history[-1]) if state.log_history else {}
            self._recording.saved(folder, FRAMEWORK, int(state.global_step), newest)
