"""Where rows of tasksets come from and go to: Python sources, .json, .jsonl, .csv, the server.

A file of rows is checked row by row, and what is wrong is named by its place. Python sources are executed, here, to find
what they define; a row that comes out of one remembers the file, which can serve its environment.
"""

from __future__ import annotations

import codecs
import csv
import gc
import hashlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from taskloom.evals.task import Task

if TYPE_CHECKING:
    from taskloom.domain.evaluation import EvalRow
    from taskloom.wire.messages import TasksetInfo

READ = (".py", ".json", ".jsonl")
WRITTEN = (".json", ".jsonl", ".csv")
PAGE = 1000  # rows asked of the server at a time
MAX_LINE = 16 * 2**20  # bytes of one row in a .jsonl
MAX_JSON = 512 * 2**20  # bytes of a .json, which is read whole
NOT_SOURCES = frozenset({"__init__", "__main__", "setup", "conftest"})
EXPECTED = 'a task, {"env": name, "id": template, "args": {...}}'


def read_rows(path: Path, collection: type) -> Generator[Task]:
    """The rows of a file or folder, by its suffix. collection: the class of tasksets, which Python sources may hold."""
    if not path.exists():
        raise FileNotFoundError(2, "no such file or folder", str(path))
    suffix = path.suffix.lower()
    if path.is_dir() or suffix == ".py":
        yield from read_module_rows(path, collection)
    elif suffix == ".jsonl":
        yield from _read_lines(path)
    elif suffix == ".json":
        yield from _read_document(path)
    elif suffix == ".csv":
        raise ValueError(
            f"{path}: a .csv is written for people and has no metadata; read the taskset from its {', '.join(READ)}"
        )
    else:
        raise ValueError(f"{path}: suffix {suffix!r}: expected a folder or one of {', '.join(READ)}")


def _read_lines(path: Path) -> Generator[Task]:
    validate = Task.model_validate_json
    with path.open("rb") as file, _without_collector():
        for number, line in enumerate(file, 1):
            if len(line) > MAX_LINE:
                raise ValueError(f"{path}, line {number}: {len(line)} bytes: expected at most {MAX_LINE}")
            text = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).strip()
            if not text:
                continue
            try:
                yield validate(text)
            except ValidationError as error:
                raise ValueError(f"{path}, line {number}: {_fault(error)}") from None


def _read_document(path: Path) -> Generator[Task]:
    if (size := path.stat().st_size) > MAX_JSON:
        raise ValueError(f"{path}: {size} bytes: expected at most {MAX_JSON}; larger sets are .jsonl")
    try:
        document = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: it is no JSON: {error}") from None
    rows = cast("list[Any]", document) if isinstance(document, list) else [document]
    with _without_collector():
        for number, row in enumerate(rows, 1):
            try:
                yield Task.model_validate(row)
            except ValidationError as error:
                raise ValueError(f"{path}, row {number}: {_fault(error)}") from None


@contextmanager
def _without_collector() -> Generator[None]:
    """Rows hold no circles; looking for some among a million takes longer than reading them."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _fault(error: ValidationError) -> str:
    """What is wrong with a row, in a line."""
    faults: list[str] = []
    for one in error.errors(include_url=False, include_context=False)[:3]:
        place = ".".join(map(str, one["loc"]))
        faults.append(f"{place}: {one['msg']}" if place else one["msg"])
    return f"{'; '.join(faults)}; expected {EXPECTED}"


# --- Python -----------------------------------------------------------------------------------------------


def read_module_rows(path: Path, collection: type) -> list[Task]:
    """The public tasks of a Python file, or of all in a folder but those that cannot be imported."""
    path = path.resolve()
    if path.is_file():
        return _public_rows([(_load(path), path)], collection)
    loaded: list[tuple[ModuleType, Path]] = []
    refused: list[str] = []
    for file in sorted(path.glob("*.py")):
        if file.stem in NOT_SOURCES or file.name.startswith("."):
            continue
        try:
            loaded.append((_load(file), file))
        except ImportError as error:
            refused.append(f"{file.name}: {error}")
    rows = _public_rows(loaded, collection)
    if not rows and refused:
        raise ValueError(f"{path}: no task in it; not imported: {'; '.join(refused)}")
    return rows


def module_rows(name: str, collection: type) -> list[Task]:
    """The public tasks of an importable module."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise FileNotFoundError(2, "no such file, folder or module", name) from None
        raise
    file = getattr(module, "__file__", None)
    return _public_rows([(module, Path(file) if file else None)], collection)


def _load(path: Path) -> ModuleType:
    """Execute a file as a module of its own, with its folder first in the path, as a script has it."""
    name = f"taskloom_rows_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path}: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.parent)
    sys.modules[name] = module
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
    return module


def _public_rows(modules: Iterable[tuple[ModuleType, Path | None]], collection: type) -> list[Task]:
    """Tasks, tasksets, lists and tuples of tasks among the globals, by their names; each task once."""
    found: dict[int, Task] = {}
    for module, file in modules:
        for name in sorted(vars(module)):
            value = vars(module)[name]
            if name.startswith("_") or not isinstance(value, (Task, collection, list, tuple)):
                continue
            for row in [value] if isinstance(value, Task) else cast("Iterable[Any]", value):
                if isinstance(row, Task):
                    found.setdefault(id(row), row)
                    if row.source is None and file is not None:
                        row.from_source(str(file))
    return list(found.values())


# --- the server -------------------------------------------------------------------------------------------


def fetch_rows(name: str, version: int) -> tuple[TasksetInfo, int, list[Task]]:
    """The taskset, the version that was read, its rows in order."""
    from taskloom.domain.errors import BadInput
    from taskloom.wire.connection import find_address
    from taskloom.wire.messages import RowsQuery
    from taskloom.wire.operations import LIST_ROWS
    from taskloom.wire.send import Client

    address = find_address()
    if address is None:
        raise BadInput(
            f"taskset {name!r}: no server is configured; set TASKLOOM_URL and TASKLOOM_API_KEY, or start one "
            "with `taskloom up`"
        )
    client = Client(address)
    rows: list[Task] = []
    try:
        while True:
            # After the first page that one version, so that a change meanwhile does not mix two.
            query = RowsQuery(version=version, limit=PAGE, offset=len(rows))
            page = client.call(LIST_ROWS, query=query, taskset=name)
            rows += map(from_wire, page.rows)
            version = page.version
            if not page.rows or len(rows) >= page.total:
                return page.taskset, page.version, rows
    finally:
        client.close()


def from_wire(row: EvalRow) -> Task:
    return Task(
        env=row.env,
        id=row.id,
        args=row.args,
        slug=row.slug,
        columns=row.columns,
        validation=row.validation,
        agent_config=row.agent_config,
    )


# --- writing ----------------------------------------------------------------------------------------------


def check_suffix(path: Path) -> str:
    """In small letters; ValueError for one of a file that is not written."""
    suffix = path.suffix.lower()
    if suffix not in WRITTEN:
        raise ValueError(f"{path}: suffix {suffix!r}: expected one of {', '.join(WRITTEN)}")
    return suffix


def write_rows(path: Path, tasks: Sequence[Task]) -> Path:
    """Whole or not at all; the path. Metadata that is not set is left out."""
    suffix = check_suffix(path)
    fresh = path.with_name(f".{path.name}.tmp")
    try:
        with fresh.open("w", encoding="utf-8", newline="") as file:
            if suffix == ".jsonl":
                file.writelines(f"{task.model_dump_json()}\n" for task in tasks)
            elif suffix == ".json":
                json.dump([task.model_dump(mode="json") for task in tasks], file, indent=2, ensure_ascii=False)
                file.write("\n")
            else:
                _write_table(csv.writer(file), tasks)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return path


def _write_table(writer: Any, tasks: Sequence[Task]) -> None:
    names = sorted({name for task in tasks for name in task.args})
    writer.writerow(["slug", "id", "env", *(f"arg:{name}" for name in names)])
    for task in tasks:
        writer.writerow([task.slug, task.id, task.env, *(_cell(task.args.get(name)) for name in names)])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else str(value)
