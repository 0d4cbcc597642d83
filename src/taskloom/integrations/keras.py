"""A callback for Keras: `model.fit(..., callbacks=[TaskloomCallback()])`, with any of its backends."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from taskloom.integrations.recording import Recording
from taskloom.sdk.task import Task

__all__ = ["TaskloomCallback"]

FRAMEWORK = "Keras"
VALIDATION = "val_"

if TYPE_CHECKING:
    _Callback = object
else:
    _Callback = import_module("keras").callbacks.Callback


class TaskloomCallback(_Callback):
    """Metrics of each epoch: the graph is the metric, the curves are `train` and `validation`.

    task: by default the one that runs in this process. batches: every so many batches the metrics so far, too,
    as graphs `batch METRIC` over all batches; 0: never. learning_rate: the optimizer's, at each epoch's end.
    save_to: save the model there after each epoch and record it; `{epoch}` in it is the epoch, from 0.
    BadInput when no task is given and none runs.
    """

    model: Any

    def __init__(
        self, task: Task | None = None, batches: int = 0, learning_rate: bool = True, save_to: str = ""
    ) -> None:
        super().__init__()
        self._recording = Recording(task, "TaskloomCallback")
        self._batches = int(batches)
        self._learning_rate = learning_rate
        self._save_to = save_to
        self._seen = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not self._batches:
            return
        if self._seen % self._batches == 0:
            for name, value in dict(logs or {}).items():
                self._recording.scalar(f"batch {name}", "train", value, self._seen)
        self._seen += 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for name, value in dict(logs or {}).items():
            if name == "learning_rate":  # put there by callbacks that change it
                continue
            curve = "validation" if name.startswith(VALIDATION) else "train"
            self._recording.scalar(name.removeprefix(VALIDATION), curve, value, epoch)
        if self._learning_rate:
            with self._recording.guard("the learning rate"):
                rate = getattr(getattr(self.model, "optimizer", None), "learning_rate", None)
                if rate is not None:
                    self._recording.scalar("learning rate", "learning rate", float(rate), epoch)
        if self._save_to:
            path = self._save_to.format(epoch=epoch)
            self.model.save(path)  # the script's own wish: when it fails, the script should know
            self._recording.saved(path, FRAMEWORK, epoch, {})
