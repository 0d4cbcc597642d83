"""Whose code it is: the user's own, or that of an installed package. Only the user's command line is recorded."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType
from typing import Any

_STANDARD = os.path.dirname(os.__file__)  # noqa: PTH120 - a path is slower, and this is loaded by every script

# They read their own flags with argparse, or have a parser that derives from it: each has its binding.
OTHER_PARSERS = frozenset({"hydra", "jsonargparse", "fire"})


def is_installed(path: str) -> bool:
    return bool({"site-packages", "dist-packages"} & set(re.split(r"[\\/]", path)))


class UsersNames:
    """The global names of the script and of the user's other modules. Each module is looked at once."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._packages: dict[str, bool] = {}  # whether they are the user's
        self._found: list[dict[str, Any]] = []

    def now(self) -> list[dict[str, Any]]:
        """Of what is imported by now."""
        new = sys.modules.keys() - self._seen
        self._seen |= new
        for name in new:
            package = name.partition(".")[0]
            if package not in self._packages:
                self._packages[package] = _is_users_module(package)
            if self._packages[package] and (name == package or _is_users_module(name)):
                self._found.append(_names_of(sys.modules.get(name)))
        return self._found


def _is_users_module(name: str) -> bool:
    """A package without a file may hold anybody's."""
    if name in {"__main__", "__mp_main__"}:
        return True
    module = sys.modules.get(name)
    if name == "taskloom" or name in sys.builtin_module_names:
        return False
    file = _names_of(module).get("__file__")
    return not isinstance(file, str) or not (file.startswith(_STANDARD) or "-packages" in file)


def names_of_modules() -> Iterator[dict[str, Any]]:
    """The global names of every module that is imported by now."""
    for module in list(sys.modules.values()):
        yield _names_of(module)


def _names_of(module: Any) -> dict[str, Any]:
    """None of what only stands for a module."""
    # Asked so, a lazy module stays unloaded, and what only says that it is a module (cffi's libraries) is left alone.
    return object.__getattribute__(module, "__dict__") if issubclass(type(module), ModuleType) else {}


def is_users(function: Callable[..., Any] | None) -> bool:
    """Whether this function, or the one that it wraps, was written by the user."""
    code: Any = getattr(inspect.unwrap(function), "__code__", None) if function is not None else None
    return code is not None and not is_installed(code.co_filename)


def caller_outside(*packages: str) -> FrameType | None:
    """The nearest running function that is neither ours nor of these packages."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and package_of(frame) in {"taskloom", *packages}:
        frame = frame.f_back
    return frame


def package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def is_users_line(args: list[str] | None, *packages: str) -> bool:
    """Whether a list of arguments is the user's: the command line, or one that own code made."""
    if args is None or args == sys.argv[1:]:
        return True
    frame = caller_outside(*packages)
    return frame is None or not is_installed(frame.f_code.co_filename)
