"""PyTorch: whole modules, state dicts, checkpoints, TorchScript, exported programs and ONNX files.

A model is whatever is saved under a path; what is written into memory is not. Sharing between processes, data loader
workers and ranks other than the first tell nothing: only the process that has the task does.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.translations.model_files import ModelFiles


def _install(hooks: Hooks, module: ModuleType) -> None:
    files = ModelFiles(hooks, "PyTorch")
    torch: Any = module
    if module.__name__ == "torch.onnx":
        _install_onnx(hooks, module, files)
        return

    def saved(_: Any, _object: Any, f: Any, *_rest: Any, **_more: Any) -> None:
        files.saved(f)

    def loaded(_: Any, f: Any, *_rest: Any, **_more: Any) -> None:
        files.loaded(f)

    hooks.outermost(torch, "save", saved)
    hooks.outermost(torch, "load", loaded)
    hooks.outermost(torch.jit, "save", saved)
    hooks.outermost(torch.jit, "load", loaded)
    # Scripted modules are of the first class, traced ones of the second; both hold the same function.
    hooks.outermost(torch.jit.RecursiveScriptModule, "save", saved, [torch.jit.ScriptModule])
    if hasattr(torch, "export"):  # since 2.1
        hooks.outermost(torch.export, "save", saved)
        hooks.outermost(torch.export, "load", loaded)


def _install_onnx(hooks: Hooks, module: ModuleType, files: ModelFiles) -> None:
    """Imported when it is used. Newer versions give a program that is saved later, if no path is given."""

    def exported(_: Any, _model: Any, *rest: Any, **more: Any) -> None:
        files.saved(more.get("f", rest[1] if len(rest) > 1 else None), framework="ONNX")

    def saved(_: Any, _program: Any, destination: Any, *_rest: Any, **_more: Any) -> None:
        files.saved(destination, framework="ONNX")

    onnx: Any = module
    hooks.outermost(onnx, "export", exported)
    if hasattr(onnx, "ONNXProgram"):
        hooks.outermost(onnx.ONNXProgram, "save", saved)


BINDING = Binding(
    switch="pytorch",
    modules=("torch", "torch.onnx"),
    package="torch",
    since="1.13",
    hooks=(
        "torch.save",
        "torch.load",
        "torch.jit.save",
        "torch.jit.load",
        "torch.jit.ScriptModule.save",
        "torch.export.save",
        "torch.export.load",
        "torch.onnx.export",
    ),
    install=_install,
)
