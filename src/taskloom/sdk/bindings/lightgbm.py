"""LightGBM: metrics of each evaluation set at each round, feature importance, models saved and loaded.

`train` and `cv` tell what they measured to callbacks only, so that one of ours comes into a copy of the script's
list: first, and called first, so that the others keep their order and a callback that stops early hides nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Any

from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.translations.boosting import Training, Trainings

FRAMEWORK = "LightGBM"
FIRST = -(10**9)  # the order of our callback


def _install(hooks: Hooks, module: ModuleType) -> None:
    trainings = Trainings(hooks)
    unsupported: type[Exception] = import_module("lightgbm.basic").LightGBMError

    def watched(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        training = trainings.begin()
        bound: inspect.BoundArguments | None = None
        with hooks.guard(), suppress(TypeError):  # arguments that do not fit: LightGBM says so itself
            bound = inspect.signature(original).bind(*args, **kwargs)
            bound.arguments["callbacks"] = [_Told(hooks, training), *(bound.arguments.get("callbacks") or ())]
        if bound is None:
            return original(*args, **kwargs)
        result = original(*bound.args, **bound.kwargs)
        with hooks.guard():
            path = trainings.file(bound.arguments.get("init_model"))
            if path is not None:
                hooks.weights.loaded(path, FRAMEWORK)
            if isinstance(result, module.Booster):
                with suppress(unsupported):
                    names, gains = result.feature_name(), result.feature_importance("gain")
                    training.importance("gain", dict(zip(names, gains.tolist(), strict=False)))
        return result

    users: list[Any] = [module]
    with suppress(ImportError):  # there may be no scikit-learn
        users.append(import_module("lightgbm.sklearn"))
    for name in ("train", "cv"):
        hooks.around(import_module("lightgbm.engine"), name, watched, also=users)

    def saved(_: Any, booster: Any, filename: Any, *_rest: Any, **_more: Any) -> None:
        path = trainings.file(filename)
        if path is not None:
            told = {"trees": booster.num_trees(), "best_iteration": booster.best_iteration}
            design = {str(name): value for name, value in booster.params.items()}
            hooks.weights.saved(path, FRAMEWORK, design=design, metadata=told)

    def made(_: None, _booster: Any, *given: Any, **named: Any) -> None:
        source = named.get("model_file", given[2] if len(given) > 2 else None)
        path = trainings.file(source)
        if path is not None:
            hooks.weights.loaded(path, FRAMEWORK)

    hooks.outermost(module.Booster, "save_model", saved)
    hooks.outermost(module.Booster, "__init__", made)


class _Told:
    """The callback: what was measured in a round."""

    order = FIRST
    before_iteration = False

    def __init__(self, hooks: Hooks, training: Training) -> None:
        self._hooks = hooks
        self._training = training

    def __call__(self, env: Any) -> None:
        if not self._hooks.active:
            return
        with self._hooks.guard():
            for result in env.evaluation_result_list or ():
                dataset, metric, value, _, *spread = result
                if dataset == "cv_agg":  # before LightGBM 4.7: the set stands before the metric's name
                    dataset, _, metric = metric.partition(" ")
                told = spread[0] if spread else None
                self._training.point(dataset, metric, float(value), int(env.iteration), told)


BINDING = Binding(
    switch="lightgbm",
    modules=("lightgbm",),
    package="lightgbm",
    since="3.3",
    hooks=("lightgbm.train", "lightgbm.cv", "lightgbm.Booster.save_model", "lightgbm.Booster"),
    install=_install,
)
