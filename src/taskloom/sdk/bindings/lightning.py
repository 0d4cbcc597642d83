"""Lightning: checkpoints of the trainer, of its `ModelCheckpoint` and of Fabric, and what is restored from them.

A checkpoint is one model, although Lightning writes it through torch into a temporary file. One that Lightning
removes, since a better one took its place, stays as a model without weights. The hyperparameters that a module
saved (`save_hyperparameters`) are the model's design. Both packages, `lightning` and `pytorch_lightning`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, cast

from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.translations.model_files import ModelFiles

# What is hooked in a module of `lightning.pytorch` or `pytorch_lightning`, of `lightning.fabric` or `lightning_fabric`.
# Each when it is imported itself: they import one another in circles.
_CLASSES = {
    "trainer.trainer": "Trainer",
    "trainer.connectors.checkpoint_connector": "_CheckpointConnector",
    "core.module": "LightningModule",
    "core.datamodule": "LightningDataModule",
    "strategies.strategy": "Strategy",
}
_FABRIC_CLASSES = {"fabric": "Fabric", "plugins.io.torch_io": "TorchCheckpointIO"}


def _install(hooks: Hooks, module: ModuleType) -> None:
    told = _Checkpoints(ModelFiles(hooks, "PyTorch"))
    for package, classes in _PACKAGES.items():
        found = classes.get(module.__name__.removeprefix(f"{package}."))
        if found is None:
            continue
        owner: Any = vars(module)[found]
        for name, then in {
            "Trainer": {"save_checkpoint": told.saved},
            "_CheckpointConnector": {"resume_start": told.resumed},
            "LightningModule": {"load_from_checkpoint": told.loaded},
            "LightningDataModule": {"load_from_checkpoint": told.loaded},
            "Strategy": {"remove_checkpoint": told.removed},
            "Fabric": {"save": told.saved_by_fabric, "load": told.loaded, "load_raw": told.loaded},
            # Where an asynchronous checkpoint ends, in a thread of its own.
            "TorchCheckpointIO": {"save_checkpoint": told.written},
        }[found].items():
            if hasattr(owner, name):
                hooks.outermost(owner, name, then)


class _Checkpoints:
    """What is told of each function; the first arguments are its result and its object."""

    def __init__(self, files: ModelFiles) -> None:
        self._files = files

    def saved(self, _: Any, trainer: Any, filepath: Any, *_rest: Any, **_more: Any) -> None:
        if trainer.is_global_zero:
            design = _hyperparameters(trainer)
            self._files.saved(filepath, iteration=int(trainer.global_step), design=design)

    def saved_by_fabric(self, _: Any, fabric: Any, path: Any, *_rest: Any, **_more: Any) -> None:
        if fabric.is_global_zero:
            self._files.saved(path)

    def written(self, _: Any, _writer: Any, _checkpoint: Any, path: Any, *_rest: Any, **_more: Any) -> None:
        self._files.saved(path)

    def removed(self, _: Any, _strategy: Any, filepath: Any) -> None:
        self._files.removed(filepath)

    def loaded(self, _: Any, _object: Any, path: Any = None, *_rest: Any, **more: Any) -> None:
        self._files.loaded(path or more.get("checkpoint_path"))

    def resumed(self, _: Any, _connector: Any, checkpoint_path: Any = None, *_rest: Any, **_more: Any) -> None:
        if checkpoint_path:
            self._files.loaded(checkpoint_path)


def _hyperparameters(trainer: Any) -> Mapping[str, Any] | None:
    found: Any = getattr(trainer.lightning_module, "hparams", None)
    return dict(cast("Mapping[str, Any]", found)) if isinstance(found, Mapping) and found else None


_PACKAGES = {
    "lightning.pytorch": _CLASSES,
    "pytorch_lightning": _CLASSES,
    "lightning.fabric": _FABRIC_CLASSES,
    "lightning_fabric": _FABRIC_CLASSES,
}

BINDING = Binding(
    switch="pytorch",
    modules=tuple(f"{package}.{module}" for package, classes in _PACKAGES.items() for module in classes),
    package="lightning",
    since="2.0",
    hooks=(
        "Trainer.save_checkpoint",
        "Trainer's resuming of a checkpoint",
        "LightningModule.load_from_checkpoint",
        "LightningDataModule.load_from_checkpoint",
        "Strategy.remove_checkpoint",
        "TorchCheckpointIO.save_checkpoint",
        "Fabric.save",
        "Fabric.load",
    ),
    install=_install,
)
