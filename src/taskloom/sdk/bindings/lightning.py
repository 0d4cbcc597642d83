"""Lightning: checkpoints of the trainer, of its `ModelCheckpoint` and of Fabric, and what is restored from them.

A checkpoint is one model, although Lightning writes it through torch into a temporary file. One that Lightning
removes, since a better one took its place, stays as a model without weights. The hyperparameters that a module
saved (`save_hyperparameters`) are the model's design. Both packages, `lightning` and `pytorch_lightning`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, cast

from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.model_files import ModelFiles


def _install(hooks: Hooks, module: ModuleType) -> None:
    files = ModelFiles(hooks, "PyTorch")
    if module.__name__.endswith("fabric.fabric"):
        _install_fabric(hooks, module, files)
    else:
        _install_trainer(hooks, module, files)


def _install_trainer(hooks: Hooks, module: ModuleType, files: ModelFiles) -> None:
    package = module.__name__.removesuffix(".trainer.trainer")

    def saved(_: Any, trainer: Any, filepath: Any, *_rest: Any, **_more: Any) -> None:
        if trainer.is_global_zero:
            files.saved(filepath, iteration=int(trainer.global_step), design=_hyperparameters(trainer))

    def written(_: Any, _io: Any, _checkpoint: Any, path: Any, *_rest: Any, **_more: Any) -> None:
        files.saved(path)

    def removed(_: Any, _strategy: Any, filepath: Any) -> None:
        files.removed(filepath)

    def loaded(_: Any, _class: Any, checkpoint_path: Any, *_rest: Any, **_more: Any) -> None:
        files.loaded(checkpoint_path)

    def resumed(_: Any, _connector: Any, checkpoint_path: Any = None, *_rest: Any, **_more: Any) -> None:
        if checkpoint_path:
            files.loaded(checkpoint_path)

    trainer: Any = module
    hooks.outermost(trainer.Trainer, "save_checkpoint", saved)
    for name, owner in (
        ("core.module", "LightningModule"),
        ("core.datamodule", "LightningDataModule"),
    ):
        hooks.outermost(getattr(import_module(f"{package}.{name}"), owner), "load_from_checkpoint", loaded)
    connectors: Any = import_module(f"{package}.trainer.connectors.checkpoint_connector")
    hooks.outermost(connectors._CheckpointConnector, "resume_start", resumed)
    strategies: Any = import_module(f"{package}.strategies.strategy")
    hooks.after(strategies.Strategy, "remove_checkpoint", removed)
    # Where an asynchronous checkpoint ends, in a thread of its own.
    writers: Any = import_module(f"{package}.plugins.io")
    hooks.outermost(writers.TorchCheckpointIO, "save_checkpoint", written)


def _hyperparameters(trainer: Any) -> Mapping[str, Any] | None:
    found: Any = getattr(trainer.lightning_module, "hparams", None)
    return dict(cast("Mapping[str, Any]", found)) if isinstance(found, Mapping) and found else None


def _install_fabric(hooks: Hooks, module: ModuleType, files: ModelFiles) -> None:
    def saved(_: Any, fabric: Any, path: Any, *_rest: Any, **_more: Any) -> None:
        if fabric.is_global_zero:
            files.saved(path)

    def loaded(_: Any, _fabric: Any, path: Any, *_rest: Any, **_more: Any) -> None:
        files.loaded(path)

    fabric: Any = module
    hooks.outermost(fabric.Fabric, "save", saved)
    hooks.outermost(fabric.Fabric, "load", loaded)
    if hasattr(fabric.Fabric, "load_raw"):
        hooks.outermost(fabric.Fabric, "load_raw", loaded)


BINDING = Binding(
    switch="pytorch",
    modules=(
        "lightning.pytorch.trainer.trainer",
        "pytorch_lightning.trainer.trainer",
        "lightning.fabric.fabric",
        "lightning_fabric.fabric",
    ),
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
