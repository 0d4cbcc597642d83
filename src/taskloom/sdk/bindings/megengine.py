"""MegEngine: `megengine.save` and `megengine.load`. Written after its documentation; it does not install everywhere."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from taskloom.sdk.binding import Binding, Hooks
from taskloom.sdk.translations.model_files import ModelFiles


def _install(hooks: Hooks, module: ModuleType) -> None:
    files = ModelFiles(hooks, "MegEngine")

    def saved(_: Any, _object: Any, f: Any, *_rest: Any, **_more: Any) -> None:
        files.saved(f)

    def loaded(_: Any, f: Any, *_rest: Any, **_more: Any) -> None:
        files.loaded(f)

    hooks.outermost(module, "save", saved)
    hooks.outermost(module, "load", loaded)


BINDING = Binding(
    switch="megengine",
    modules=("megengine",),
    package="MegEngine",
    since="1.0",
    hooks=("megengine.save", "megengine.load"),
    install=_install,
)
