"""Agents that are Python code: how a function or class is named so that another process finds it, and found again.

The digest is of its own source alone: what it calls elsewhere may change without notice.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from taskloom.domain.errors import BadInput

UNNAMED = ("<locals>", "<lambda>")
LOADED = "taskloom_agent_"  # begins the names of modules that are loaded from files here


def spec_of_callable(value: Any) -> dict[str, Any]:
    """Its file (below this folder: from here; of an installed package: the module), its name there, and a digest of its
    source ('' where there is none). An object that has a name in its module is told by that, with its file's digest."""
    bound = ""
    while isinstance(value, functools.partial):
        bound += f"{value.args!r}{sorted(value.keywords.items())!r}"
        value = value.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if not hasattr(value, "__qualname__"):
        found = _find_object(value)
        if found is not None:
            module, name = found
            return _tell(_place(module.__name__, module.__file__ or ""), name, _digest_file(module, bound))
        value = value.__class__
    named: Any = inspect.unwrap(value)
    place = _place(str(getattr(named, "__module__", "") or "builtins"), _file_of(named))
    return _tell(place, str(named.__qualname__), _digest(named, bound))


def _tell(path: str, attribute: str, digest: str) -> dict[str, Any]:
    return {"type": "python", "config": {"path": path, "attribute": attribute, "digest": digest}}


def _find_object(value: Any) -> tuple[ModuleType, str] | None:
    """The module and the name that an object was given where it was made."""
    names = [value.__class__.__module__, "__main__", *(name for name in sys.modules if name.startswith(LOADED))]
    for module in (sys.modules.get(name) for name in names):
        if module is None or not getattr(module, "__file__", None):
            continue
        for name, one in vars(module).items():
            if one is value:
                return module, name
    return None


def _place(module: str, file: str) -> str:
    """Where another process finds it, which may stand in another copy of this folder."""
    if not file:
        return module
    path = Path(file).resolve()
    if path.is_relative_to(Path.cwd()):
        return path.relative_to(Path.cwd()).as_posix()
    known = sys.modules.get(module)
    installed = known is not None and known.__spec__ is not None and module != "__main__"
    return module if installed and not module.startswith(LOADED) else str(path)


def _digest_file(module: ModuleType, bound: str) -> str:
    try:
        return hashlib.sha256(Path(module.__file__ or "").read_bytes() + bound.encode()).hexdigest()
    except OSError:
        return ""


def load_callable(config: dict[str, Any]) -> Any:
    """The agent that `path` and `attribute` name; a class is called without arguments. BadInput for what is not there."""
    path, attribute = config.get("path"), config.get("attribute")
    if not isinstance(path, str) or not isinstance(attribute, str) or not path or not attribute:
        raise BadInput(f"an agent in Python needs path and attribute, got {config!r:.200}")
    if any(mark in attribute for mark in UNNAMED):
        raise BadInput(
            f"{path}: {attribute} has no name that another process finds: make it a function of the file"
        )
    value: Any = _load(path)
    for name in attribute.split("."):
        if not hasattr(value, name):
            raise BadInput(f"{path} has no {attribute!r}")
        value = getattr(value, name)
    if inspect.isclass(value):
        value = _call(value, path, attribute)
    if not callable(value):
        raise BadInput(f"{path}: {attribute} is {type(value).__name__}: expected an async function or an agent")
    return value


def _call(kind: Any, path: str, attribute: str) -> Any:
    try:
        return kind()
    except TypeError as error:
        raise BadInput(f"{path}: {attribute} cannot be made without arguments: {error}") from None


def _load(path: str) -> ModuleType:
    if not path.endswith(".py"):
        try:
            return importlib.import_module(path)
        except ImportError as error:
            raise BadInput(f"module {path!r} cannot be imported: {error}") from None
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise BadInput(f"no such file: {path}")
    name = f"{LOADED}{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise BadInput(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(file.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # what stands beside it can be imported, as when it is run
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, Exception):
            raise BadInput(f"{path}: {type(error).__name__}: {error}") from error
        raise
    return module


def _file_of(value: Any) -> str:
    try:
        return str(Path(inspect.getsourcefile(value) or "").resolve()) if inspect.getsourcefile(value) else ""
    except TypeError:  # built in
        return ""


def _digest(value: Any, bound: str) -> str:
    try:
        source = inspect.getsource(value)
    except (OSError, TypeError):  # built in, or typed at a prompt
        code = getattr(value, "__code__", None)
        source = (
            code.co_code.hex() + repr(code.co_consts) if code is not None and "at 0x" not in repr(code) else ""
        )
        if not source and not bound:
            return ""
    return hashlib.sha256((source + bound).encode()).hexdigest()
