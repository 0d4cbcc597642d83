"""fastai: learners exported, saved and loaded; loss, metrics and learning rate of every epoch.

    loss      series train and valid
    METRIC    series valid, and train where the recorder measures that, too
    lr        series lr, as it was at the end of the epoch

Epochs are counted over all calls of `fit` of a learner, as the whole training that they are. The search for a
learning rate (`lr_find`) trains and saves for itself, and is not told.
"""

from __future__ import annotations

import weakref
from pathlib import Path
from types import ModuleType
from typing import Any

from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.translations.model_files import ModelFiles, path_of


def _install(hooks: Hooks, module: ModuleType) -> None:
    files = ModelFiles(hooks, "PyTorch")
    learning: Any = module
    epochs: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def exported(_: Any, learner: Any, fname: Any = "export.pkl", *_rest: Any, **_more: Any) -> None:
        named = path_of(fname)
        if named is not None:
            files.saved(Path(learner.path) / named)

    def saved(file: Any, learner: Any, *_rest: Any, **_more: Any) -> None:
        if not _searches(learner):
            files.saved(file)

    def loaded(_: Any, learner: Any, file: Any, *_rest: Any, **_more: Any) -> None:
        if not _searches(learner):
            files.loaded(learning.join_path_file(file, learner.path / learner.model_dir, ext=".pth"))

    def loaded_whole(_: Any, fname: Any, *_rest: Any, **_more: Any) -> None:
        files.loaded(fname)

    def epoch_over(_: Any, recorder: Any) -> None:
        learner = recorder.learn
        if not hooks.session.owner or _searches(learner):
            return
        epoch = epochs.get(learner, 0)
        epochs[learner] = epoch + 1
        # Names: epoch, then what is measured, perhaps the time; of a cancelled epoch only the first are there.
        for name, value in list(zip(recorder.metric_names, recorder.log, strict=False))[1:]:
            number = _number(value)
            if number is not None:
                hooks.logger.report_scalar(*_titled(str(name)), number, epoch)
        if recorder.lrs:
            hooks.logger.report_scalar("lr", "lr", float(recorder.lrs[-1]), epoch)

    hooks.outermost(learning.Learner, "export", exported)
    hooks.outermost(learning.Learner, "save", saved)
    hooks.outermost(learning.Learner, "load", loaded)
    hooks.outermost(learning, "load_learner", loaded_whole)
    hooks.after(learning.Recorder, "after_epoch", epoch_over)


def _searches(learner: Any) -> bool:
    """While `lr_find` runs the learner has a callback of this name."""
    return hasattr(learner, "lr_finder")


def _titled(name: str) -> tuple[str, str]:
    """Title and series of what fastai measures: `valid_loss`, `train_accuracy`, or a metric's bare name."""
    for series in ("train", "valid"):
        if name.startswith(f"{series}_"):
            return name.removeprefix(f"{series}_"), series
    return name, "valid"


def _number(value: Any) -> float | None:
    """None of the time, which is text, and of a metric that could not be measured."""
    try:
        return None if value is None or isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        return None


BINDING = Binding(
    switch="fastai",
    modules=("fastai.learner",),
    package="fastai",
    since="2.0",
    hooks=(
        "fastai.learner.Learner.export",
        "fastai.learner.Learner.save",
        "fastai.learner.Learner.load",
        "fastai.learner.load_learner",
        "fastai.learner.Recorder.after_epoch",
    ),
    install=_install,
)
