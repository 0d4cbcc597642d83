"""safetensors: files of tensors of PyTorch, TensorFlow, numpy and others, also when they are only opened."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from taskloom.sdk.binding import Binding, Hooks, quiet
from taskloom.sdk.translations.model_files import ModelFiles

FRAMEWORKS = {
    "torch": "PyTorch",
    "pt": "PyTorch",
    "tensorflow": "TensorFlow",
    "tf": "TensorFlow",
    "flax": "Flax",
    "jax": "Flax",
    "paddle": "PaddlePaddle",
    "pp": "PaddlePaddle",
    "mlx": "MLX",
    "numpy": "NumPy",
    "np": "NumPy",
}


def _install(hooks: Hooks, module: ModuleType) -> None:
    kind = module.__name__.rpartition(".")[2]
    if kind == "safetensors":
        _install_opened(hooks, module)
        return
    files = ModelFiles(hooks, FRAMEWORKS[kind])

    def saved(_: Any, _tensors: Any, filename: Any, *rest: Any, **more: Any) -> None:
        words: Any = more.get("metadata", rest[0] if rest else None)
        files.saved(filename, metadata=words if isinstance(words, dict) and words else None)

    def loaded(_: Any, filename: Any, *_rest: Any, **_more: Any) -> None:
        files.loaded(filename)

    def loaded_into(_: Any, _model: Any, filename: Any, *_rest: Any, **_more: Any) -> None:
        files.loaded(filename)

    for name, then in (
        ("save_file", saved),
        ("save_model", saved),
        ("load_file", loaded),
        ("load_model", loaded_into),
    ):
        if hasattr(module, name):
            hooks.outermost(module, name, then)


def _install_opened(hooks: Hooks, module: ModuleType) -> None:
    """`safe_open` is a class that nothing can derive from; ours stands for it, also in `isinstance`."""
    original: Any = vars(module)["safe_open"]
    files = ModelFiles(hooks, "")

    def opened(filename: Any, framework: Any = "", *_rest: Any, **_more: Any) -> None:
        files.loaded(filename, framework=FRAMEWORKS.get(str(framework), "Safetensors"))

    class Watched(type):
        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            with quiet() as alone:
                made = original(*args, **kwargs)
            if alone and hooks.active:
                with hooks.guard():
                    opened(*args, **kwargs)
            return made

        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, original)

    names = {"__doc__": original.__doc__, "__module__": "safetensors", "__wrapped__": original}
    hooks.replace(module, "safe_open", Watched("safe_open", (), names))


BINDING = Binding(
    switch="safetensors",
    modules=("safetensors", *(f"safetensors.{kind}" for kind in ("torch", "numpy", "tensorflow", "flax", "mlx"))),
    package="safetensors",
    since="0.3",
    hooks=(
        "safetensors.*.save_file",
        "safetensors.*.load_file",
        "safetensors.torch.save_model",
        "safetensors.torch.load_model",
        "safetensors.safe_open",
    ),
    install=_install,
)
