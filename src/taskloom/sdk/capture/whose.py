"""Whose code it is: the user's own, or that of an installed package. Only the user's command line is recorded."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType
from typing import Any

# They read their own flags with argparse, or have a parser that derives from it: each has its binding.
OTHER_PARSERS = frozenset({"hydra", "jsonargparse", "fire"})


def is_installed(path: str) -> bool:
    return bool({"site-packages", "dist-packages"} & set(re.split(r"[\\/]", path)))


def users_names() -> list[dict[str, Any]]:
    """The global names of the script and of the user's other modules that are imported by now."""
    standard = os.path.dirname(os.__file__)  # noqa: PTH120 - called at every start, with thousands of modules
    found: list[dict[str, Any]] = []
    for names in names_of_modules():
        name, file = names.get("__name__"), names.get("__file__")
        if name == "__main__" or (
            isinstance(name, str)
            and isinstance(file, str)
            and not name.startswith("taskloom.")
            and not file.startswith(standard)
            and "-packages" not in file
        ):
            found.append(names)
    return found


def names_of_modules() -> Iterator[dict[str, Any]]:
    """The global names of every module that is imported by now."""
    loaded: list[Any] = list(sys.modules.values())
    for module in loaded:
        if isinstance(module, ModuleType):
            yield object.__getattribute__(module, "__dict__")  # a lazy module stays unloaded


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
