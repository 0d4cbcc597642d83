"""TensorFlow 2: SavedModels and checkpoints. `tf.keras` is Keras, which has a binding of its own.

A checkpoint is the beginning of several files' names, `ckpt-1.index` and `ckpt-1.data-...`: one model. One that
`CheckpointManager` removes stays as a model without weights.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.translations.model_files import ModelFiles, path_of


def _install(hooks: Hooks, module: ModuleType) -> None:
    files = ModelFiles(hooks, "TensorFlow")
    tf: Any = module
    kept: set[str] = set()  # checkpoints of managers, which may remove them

    def saved(_: Any, _object: Any, export_dir: Any, *_rest: Any, **_more: Any) -> None:
        files.saved(export_dir)

    def loaded(_: Any, export_dir: Any, *_rest: Any, **_more: Any) -> None:
        files.loaded(export_dir)

    def written(path: Any, *_rest: Any, **_more: Any) -> None:
        files.saved(path)

    def restored(_: Any, _checkpoint: Any, save_path: Any, *_rest: Any, **_more: Any) -> None:
        files.loaded(save_path)

    def kept_one(path: Any, *_rest: Any, **_more: Any) -> None:
        named = path_of(path)
        if named is None:  # it was not time for one
            return
        files.saved(named)
        gone = {one for one in kept if not Path(f"{one}.index").exists()}
        for one in gone:
            files.removed(one)
        kept.difference_update(gone)
        kept.add(named)

    def restored_newest(path: Any, *_rest: Any, **_more: Any) -> None:
        files.loaded(path)

    hooks.outermost(tf.saved_model, "save", saved)
    hooks.outermost(tf.saved_model, "load", loaded)
    checkpoint = tf.train.Checkpoint
    hooks.outermost(checkpoint, "save", written)
    hooks.outermost(checkpoint, "write", written)
    hooks.outermost(checkpoint, "restore", restored)
    hooks.outermost(checkpoint, "read", restored)
    hooks.outermost(tf.train.CheckpointManager, "save", kept_one)
    hooks.outermost(tf.train.CheckpointManager, "restore_or_initialize", restored_newest)


BINDING = Binding(
    switch="tensorflow",
    modules=("tensorflow",),
    package="tensorflow",
    since="2.4",
    hooks=(
        "tensorflow.saved_model.save",
        "tensorflow.saved_model.load",
        "tensorflow.train.Checkpoint.save",
        "tensorflow.train.Checkpoint.write",
        "tensorflow.train.Checkpoint.restore",
        "tensorflow.train.Checkpoint.read",
        "tensorflow.train.CheckpointManager.save",
        "tensorflow.train.CheckpointManager.restore_or_initialize",
    ),
    install=_install,
)
