"""Keras 3, with any of its backends: models and weights saved, loaded and exported, also by `ModelCheckpoint`.

The design of a saved model is its architecture as Keras writes it in JSON. Keras 2, which older versions of TensorFlow
bring, is not hooked.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from types import ModuleType
from typing import Any

from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.translations.model_files import ModelFiles

# All hold the same functions.
_NAMESPACES = (
    "keras.models",
    "keras.saving",
    "tensorflow.keras.models",
    "tensorflow.keras.saving",
    "keras.src.saving",
)
_EXPORTS = {"tf_saved_model": "TensorFlow", "onnx": "ONNX", "openvino": "OpenVINO", "litert": "TensorFlow_Lite"}


def _install(hooks: Hooks, module: ModuleType) -> None:
    files = ModelFiles(hooks, "Keras")
    keras: Any = module

    def saved(_: Any, model: Any, filepath: Any, *_rest: Any, **_more: Any) -> None:
        files.saved(filepath, design=_architecture(model))

    def exported(
        _: Any, model: Any, filepath: Any, format: str = "tf_saved_model", *_rest: Any, **_m: Any
    ) -> None:
        files.saved(filepath, framework=_EXPORTS.get(format, "Keras"), design=_architecture(model))

    def loaded(_: Any, filepath: Any, *_rest: Any, **_more: Any) -> None:
        files.loaded(filepath)

    def loaded_into(_: Any, _model: Any, filepath: Any, *_rest: Any, **_more: Any) -> None:
        files.loaded(filepath)

    def nothing(*_: Any, **_more: Any) -> None: ...

    hooks.outermost(keras.Model, "save", saved)
    hooks.outermost(keras.Model, "save_weights", saved)
    hooks.outermost(keras.Model, "load_weights", loaded_into)
    if hasattr(keras.Model, "export"):  # since 3.0
        hooks.outermost(keras.Model, "export", exported)
    backup: Any = getattr(keras.callbacks, "BackupAndRestore", None)
    if hasattr(backup, "_save_model"):  # of a training that goes on after a crash; removed at its end
        hooks.outermost(backup, "_save_model", nothing)
        hooks.outermost(backup, "on_train_begin", nothing)
    others = [sys.modules[name] for name in _NAMESPACES if name in sys.modules]
    for name, then in (
        ("save_model", saved),
        ("load_model", loaded),
        ("save_weights", saved),
        ("load_weights", loaded_into),
    ):
        if hasattr(keras.saving, name):
            hooks.outermost(keras.saving, name, then, others)


def _architecture(model: Any) -> str | None:
    """None of a model that cannot tell: one that was made by code."""
    with suppress(NotImplementedError, TypeError, ValueError, AttributeError):
        return str(model.to_json())
    return None


BINDING = Binding(
    switch="keras",
    modules=("keras",),
    package="keras",
    since="3.0",
    hooks=(
        "keras.Model.save",
        "keras.Model.save_weights",
        "keras.Model.load_weights",
        "keras.Model.export",
        "keras.saving.save_model",
        "keras.saving.load_model",
        "keras.saving.save_weights",
        "keras.saving.load_weights",
    ),
    install=_install,
)
