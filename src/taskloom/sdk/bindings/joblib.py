"""joblib: what `dump` and `load` write and read, as models of the library that the object comes from.

joblib writes for itself, too: results that `Memory` caches, and arrays that it shares with its workers. Those are
not told, nor are the data sets that scikit-learn caches with it. Everything else that the script dumps is, as in
ClearML; of an object of no known library the framework is `Joblib`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, cast

from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.capture.whose import caller_outside, package_of
from taskloom.sdk.translations.model_files import ModelFiles

# The package that a class comes from: the framework, and its switch.
LIBRARIES = {
    "sklearn": ("ScikitLearn", "scikit"),
    "imblearn": ("ScikitLearn", "scikit"),
    "xgboost": ("XGBoost", "xgboost"),
    "lightgbm": ("LightGBM", "lightgbm"),
    "catboost": ("CatBoost", "catboost"),
}
OTHER = ("Joblib", "")
FEW = 20  # elements of a container that are looked at


def _install(hooks: Hooks, module: ModuleType) -> None:
    files = ModelFiles(hooks, "Joblib")

    def dumped(_: Any, value: Any, filename: Any, *_rest: Any, **_more: Any) -> None:
        if not _of_a_dataset():
            framework, switch = library_of(value)
            files.saved(filename, framework=framework, switch=switch)

    def loaded(value: Any, filename: Any, *_rest: Any, **_more: Any) -> None:
        if not _of_a_dataset():
            framework, switch = library_of(value)
            files.loaded(filename, framework=framework, switch=switch)

    def nothing(*_: Any, **_more: Any) -> None: ...

    hooks.outermost(module, "dump", dumped)
    hooks.outermost(module, "load", loaded)
    cache: Any = import_module("joblib._store_backends").StoreBackendMixin
    hooks.outermost(cache, "dump_item", nothing)
    hooks.outermost(cache, "load_item", nothing)


def library_of(value: Any) -> tuple[str, str]:
    """Of an object, else of the first model in a container: `{"model": ..., "scaler": ...}`."""
    looked_at: list[Any] = [value]
    if isinstance(value, Mapping):
        looked_at += list(cast("Mapping[Any, Any]", value).values())[:FEW]
    elif isinstance(value, list | tuple):
        looked_at += list(cast("list[Any]", value)[:FEW])
    for one in looked_at:
        found = _library(one.__class__)
        if found is not None:
            return found
    return OTHER


def _library(kind: type) -> tuple[str, str] | None:
    """A class of the script that derives from one of scikit-learn's counts as that."""
    packages = (str(one.__module__).partition(".")[0] for one in kind.__mro__)
    return next((LIBRARIES[package] for package in packages if package in LIBRARIES), None)


def _of_a_dataset() -> bool:
    frame = caller_outside("joblib")
    return frame is not None and package_of(frame) == "sklearn"


BINDING = Binding(
    switch="joblib",
    modules=("joblib",),
    package="joblib",
    since="1.0",
    hooks=("joblib.dump", "joblib.load"),
    install=_install,
)
