"""Environments out of source files: run a .py file or the modules of a folder, and find what they define.

The source runs anew each time. While it does, the modules of its folder can be imported by their names, whatever
another folder called so; afterwards the process's own modules are back in their places. A source that raises is told
as `BadInput` with the line where it happened.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from taskloom.domain.errors import BadInput, NotFound
from taskloom.evals.environment.declaration import Environment
from taskloom.evals.environment.template import Template
from taskloom.evals.task import Task

NOT_READ = frozenset({"__init__", "__main__", "setup", "conftest"})  # modules of a folder


def load_environment(path: Path, name: str = "") -> Environment:
    """The environment of a file or folder; the one of that name when it has several.

    NotFound when there is none (of that name), BadInput when a choice is needed or the source cannot be run.
    """
    found = list(load_environments(path).values())
    chosen = [one for one in found if not name or one.name == name]
    known = ", ".join(repr(one.name) for one in found)
    if not found:
        raise NotFound(f"{path}: no environment there; expected `env = Environment(...)` in the module")
    if not chosen:
        raise NotFound(f"{path}: no environment {name!r} there; found: {known}")
    if len(chosen) > 1 and name:
        raise BadInput(f"{path}: {len(chosen)} environments have the name {name!r}: expected one")
    if len(chosen) > 1:
        raise BadInput(f"{path}: several environments, choose one by its name: {known}")
    return chosen[0]


def load_environments(path: Path) -> dict[int, Environment]:
    """All that a source defines or uses, by identity, in the order of modules and names.

    Where it has none itself, those of the files that its rows came from.
    """
    found: dict[int, Environment] = {}
    modules = load_modules(path)
    for module in modules:
        for environment in _environments(vars(module)):
            found.setdefault(id(environment), environment)
    if not found:
        own = {_file_of(module) for module in modules}
        sources = {row.source for module in modules for value in vars(module).values() for row in _rows(value)}
        for source in sorted(source for source in sources if source is not None and Path(source) not in own):
            found |= load_environments(Path(source))
    return found


def load_modules(path: Path) -> list[ModuleType]:
    """The module of a file, or those of a folder in the order of their names. BadInput, NotFound.

    In a folder a module that wants something which cannot be imported is left out, unless all are.
    """
    where = path.resolve()
    if where.is_file():
        if where.suffix != ".py":
            raise BadInput(f"{path}: expected a .py file or a folder")
        with _at_home(where.parent):
            return [_run(where)]
    if not where.is_dir():
        raise NotFound(f"{path}: no such file or folder")
    return _load_folder(where)


def _load_folder(folder: Path) -> list[ModuleType]:
    modules: list[ModuleType] = []
    faults: list[BadInput] = []
    with _at_home(folder):
        for file in sorted(folder.glob("*.py")):
            if file.stem in NOT_READ:
                continue
            try:
                modules.append(_run(file))
            except BadInput as error:
                if not isinstance(error.__cause__, ImportError):
                    raise
                faults.append(error)
    if faults and not modules:
        raise faults[0]
    return modules


def _run(file: Path) -> ModuleType:
    """Import a file under its own name, so that its neighbours find the same module."""
    known = sys.modules.get(file.stem)
    if known is not None and _file_of(known) == file:
        return known
    try:
        if known is None and file.stem.isidentifier():
            module = importlib.import_module(file.stem)
            if _file_of(module) == file:
                return module
        return _run_apart(file)
    except (Exception, SystemExit) as error:
        raise BadInput(f"{_place(file, error)}: {_describe(error)}") from error


def _run_apart(file: Path) -> ModuleType:
    """Under a name of its own: its name belongs to a module of Python or of a package."""
    name = f"taskloom_source_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def _at_home(folder: Path) -> Generator[None]:
    """The folder's modules come first while its source runs."""
    displaced = {name: sys.modules.pop(name) for name in _names_in(folder) if name in sys.modules}
    place = str(folder)
    sys.path.insert(0, place)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(place)
        sys.modules.update(displaced)


def _names_in(folder: Path) -> list[str]:
    """What of the loaded modules has the name of one in the folder, and came from a file of somebody's own."""
    own = {entry.stem for entry in folder.iterdir() if entry.suffix == ".py" or (entry / "__init__.py").is_file()}
    installed = Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()
    names: list[str] = []
    for name, module in list(sys.modules.items()):
        file = _file_of(module) if name.partition(".")[0] in own else None
        if file is not None and not any(file.is_relative_to(place) for place in installed):
            names.append(name)
    return names


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if isinstance(file, str) else None


def _place(file: Path, error: BaseException) -> str:
    """The file, and the last line of it that took part."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename} line {error.lineno}"
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).resolve() == file
    ]
    return f"{file} line {frames[-1].lineno}" if frames else str(file)


def _describe(error: BaseException) -> str:
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _environments(names: dict[str, Any]) -> Iterator[Environment]:
    """Those that stand there, and those of templates."""
    for name, value in names.items():
        if isinstance(value, Environment):
            yield value
        elif isinstance(value, Template) and not name.startswith("__"):
            owner = cast("Template[Any]", value).environment
            if isinstance(owner, Environment):
                yield owner


def _rows(value: Any) -> Iterable[Task]:
    if isinstance(value, Task):
        return (value,)
    if isinstance(value, list | tuple):
        return [row for row in cast("list[Any]", value) if isinstance(row, Task)]
    return ()
