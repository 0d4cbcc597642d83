"""CatBoost: metrics of each evaluation set at each iteration, feature importance, models saved and loaded.

All classes train through one method; a callback of ours goes before the script's own ones, in a copy of their list,
since the first one that ends a training is the last one that is called.
On a GPU CatBoost takes no callbacks: there the metrics are read when the training is over. Iterations count from 0,
as CatBoost prints them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import ModuleType
from typing import Any

from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.translations.boosting import Training, Trainings

FRAMEWORK = "CatBoost"
IMPORTANCE = "PredictionValuesChange"  # what CatBoost itself measures at the end of a training


def _install(hooks: Hooks, module: ModuleType) -> None:
    trainings = Trainings(hooks)
    unsupported: type[Exception] = module.CatBoostError

    def fitted(original: Callable[..., Any], model: Any, *args: Any, **kwargs: Any) -> Any:
        training = trainings.begin()
        told = _Told(hooks, training)
        with hooks.guard():
            if not _on_gpu(model):
                args, kwargs = _with_callback(original, model, args, kwargs, told)
        result = original(model, *args, **kwargs)
        with hooks.guard():
            if not told.called:
                _read(training, model)
            with suppress(unsupported):
                gains = model.get_feature_importance(type=IMPORTANCE)
                names = model.feature_names_
                training.importance(IMPORTANCE, dict(zip(names, map(float, gains), strict=False)))
        return result

    def cross_validated(result: Any, *_args: Any, **_kwargs: Any) -> None:
        columns: dict[str, list[float]] = {name: list(result[name]) for name in result}
        training = trainings.begin()
        for name, means in columns.items():
            if not name.endswith("-mean"):
                continue
            dataset, _, metric = name.removesuffix("-mean").partition("-")
            spreads = columns.get(f"{dataset}-{metric}-std") or [None] * len(means)
            for iteration, mean, spread in zip(columns["iterations"], means, spreads, strict=True):
                training.point(dataset, metric, mean, int(iteration), spread)

    def saved(_: None, model: Any, fname: Any, *rest: Any, **more: Any) -> None:
        path = trainings.file(fname)
        if path is not None:
            told = {"trees": model.tree_count_, "format": more.get("format", rest[0] if rest else "cbm")}
            hooks.weights.saved(path, FRAMEWORK, design=_plain(model.get_all_params()), metadata=told)

    def loaded(_: Any, _model: Any, fname: Any = None, *_rest: Any, **_more: Any) -> None:
        path = trainings.file(fname)
        if path is not None:
            hooks.weights.loaded(path, FRAMEWORK)

    hooks.around(module.CatBoost, "_fit", fitted)
    hooks.after(vars(module)["core"], "cv", cross_validated, also=(module,))
    hooks.outermost(module.CatBoost, "save_model", saved)
    hooks.outermost(module.CatBoost, "load_model", loaded)


class _Told:
    """The callback: what was measured in an iteration; metrics may be measured more rarely than trees are made."""

    def __init__(self, hooks: Hooks, training: Training) -> None:
        self._hooks = hooks
        self._training = training
        self._seen: dict[tuple[str, str], int] = {}
        self.called = False

    def after_iteration(self, info: Any) -> bool:
        self.called = True
        if self._hooks.active:
            with self._hooks.guard():
                found: Mapping[str, Mapping[str, list[float]]] = info.metrics or {}
                for dataset, metrics in found.items():
                    for metric, values in metrics.items():
                        if len(values) != self._seen.get((dataset, metric)):
                            self._seen[dataset, metric] = len(values)
                            self._training.point(dataset, metric, float(values[-1]), int(info.iteration) - 1)
        return True


def _with_callback(
    original: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], ours: _Told
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    signature = inspect.signature(original)
    if "callbacks" not in signature.parameters:  # before CatBoost 0.26
        return args, kwargs
    bound = signature.bind(model, *args, **kwargs)
    given = bound.arguments.get("callbacks")
    if given is None or isinstance(given, list | tuple):
        bound.arguments["callbacks"] = [ours, *(given or ())]
    return bound.args[1:], bound.kwargs


def _on_gpu(model: Any) -> bool:
    return str(model.get_param("task_type") or "").upper() == "GPU"


def _read(training: Training, model: Any) -> None:
    period = max(int(model.get_param("metric_period") or 1), 1)
    found: Mapping[str, Mapping[str, list[float]]] = model.get_evals_result() or {}
    for dataset, metrics in found.items():
        for metric, values in metrics.items():
            for number, value in enumerate(values):
                training.point(dataset, metric, float(value), number * period)


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in params.items()}


BINDING = Binding(
    switch="catboost",
    modules=("catboost",),
    package="catboost",
    since="0.26",
    hooks=("catboost.CatBoost.fit", "catboost.cv", "catboost.CatBoost.save_model", "catboost.CatBoost.load_model"),
    install=_install,
)
