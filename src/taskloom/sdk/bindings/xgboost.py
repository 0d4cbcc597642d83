"""XGBoost: metrics of each evaluation set at each round, feature importance, models saved and loaded.

Every training (`train`, `cv`, the scikit-learn classes) keeps its metrics in a container of callbacks; its methods
are hooked, so that the script's own callbacks are neither changed nor joined by one of ours.
"""

from __future__ import annotations

import weakref
from importlib import import_module
from types import ModuleType
from typing import Any

from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.translations.boosting import Training, Trainings

FRAMEWORK = "XGBoost"


def _install(hooks: Hooks, module: ModuleType) -> None:
    trainings = Trainings(hooks)
    running: weakref.WeakKeyDictionary[Any, Training] = weakref.WeakKeyDictionary()
    unsupported: type[Exception] = import_module("xgboost.core").XGBoostError

    def training_of(container: Any) -> Training:
        found = running.get(container)
        if found is None:
            found = running[container] = trainings.begin()
        return found

    def evaluated(_stop: bool, container: Any, _model: Any, epoch: int, *_rest: Any, **_more: Any) -> None:
        training = training_of(container)
        for dataset, metrics in container.history.items():
            for metric, values in metrics.items():
                newest: Any = values[-1]
                if container.is_cv:
                    training.point(dataset, metric, float(newest[0]), int(epoch), float(newest[1]))
                else:
                    training.point(dataset, metric, float(newest), int(epoch))

    def trained(model: Any, container: Any, *_rest: Any, **_more: Any) -> None:
        if container.is_cv:
            return
        for kind in ("gain", "weight"):  # a linear booster has weights only
            try:
                scores = model.get_score(importance_type=kind)
            except (unsupported, ValueError):
                continue
            training_of(container).importance(kind, {name: _one(score) for name, score in scores.items()})
            return

    container: Any = import_module("xgboost.callback").CallbackContainer
    hooks.after(container, "after_iteration", evaluated)
    hooks.after(container, "after_training", trained)

    def saved(_: None, booster: Any, fname: Any, *_rest: Any, **_more: Any) -> None:
        path = trainings.file(fname)
        if path is not None:
            told = booster.attributes() | {"features": booster.num_features()}
            hooks.weights.saved(path, FRAMEWORK, design=booster.save_config(), metadata=told)

    def loaded(_: None, _booster: Any, fname: Any, *_rest: Any, **_more: Any) -> None:
        path = trainings.file(fname)
        if path is not None:
            hooks.weights.loaded(path, FRAMEWORK)

    hooks.outermost(module.Booster, "save_model", saved)
    hooks.outermost(module.Booster, "load_model", loaded)


def _one(score: float | list[float]) -> float:
    """A linear booster of several classes has a weight for each."""
    return sum(map(abs, score)) if isinstance(score, list) else score


BINDING = Binding(
    switch="xgboost",
    modules=("xgboost",),
    package="xgboost",
    since="1.3",
    hooks=(
        "xgboost.callback.CallbackContainer.after_iteration",
        "xgboost.callback.CallbackContainer.after_training",
        "xgboost.Booster.save_model",
        "xgboost.Booster.load_model",
    ),
    install=_install,
)
