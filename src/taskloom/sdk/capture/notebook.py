"""A notebook as a script: where it lies, its code cells, and what of them plain Python can run.

Jupyter's server and VS Code tell a kernel which file it serves; elsewhere the cells that were executed are the
notebook. Magics and shell lines are IPython's own language: those that stand for Python are written as Python, shell
lines become a call of the shell, the rest become comments. What happens while the kernel runs is `kernel`.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

SUFFIX = ".ipynb"
ENV_SESSION = "JPY_SESSION_NAME"  # Jupyter's server tells its kernels so
_VSCODE = "__vsc_ipynb_file__"
_SKIPPED = frozenset({"skip-execution"})  # tag of a cell that no runner of notebooks executes
_AWAIT = 0x2000  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_TEXT = r"(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
_CALL = re.compile(
    rf"(?P<indent>\s*)(?P<target>[^'\"#]*?=\s*)?get_ipython\(\)\.(?P<name>\w+)\((?P<given>{_TEXT}(?:, {_TEXT})*)\)\s*"
)
_PYTHON_CELLS = frozenset({"time", "timeit", "capture", "prun", "python", "python3"})  # magics of a cell of Python
_PYTHON_LINES = frozenset({"time"})
# Packages are recorded, and a worker has them before the script begins.
_INSTALLER = re.compile(r"\s*(?:sudo\s+)?(?:\S*/)?(?:pip3?|conda|mamba|uv|apt|apt-get|python3?\s+-m\s+pip)\b")
_INSTALLERS = re.compile(_INSTALLER.pattern.replace(r"\s*", r"^[ \t]*", 1), re.MULTILINE)
_FUTURE = re.compile(r"^from __future__ import .*$", re.MULTILINE)


@dataclass(frozen=True)
class Cell:
    """`id` is empty where the program that runs the notebook does not tell it."""

    source: str
    id: str = ""


# --- the file ---------------------------------------------------------------------------------------------


def find_notebook(namespace: Mapping[str, Any], environ: Mapping[str, str], folder: Path) -> Path | None:
    """The file whose kernel this is; None when nobody tells, or it is not there."""
    for told in (namespace.get(_VSCODE), environ.get(ENV_SESSION)):
        if not isinstance(told, str) or not told.endswith(SUFFIX):
            continue
        for base in (folder, *folder.parents):  # below the server's own folder, when it is not whole
            if (base / told).is_file():
                return (base / told).resolve()
    return None


def read_cells(notebook: Path) -> list[Cell]:
    """The code cells in the file's order, without empty ones; nothing when it cannot be read as a notebook."""
    try:
        document: Any = json.loads(notebook.read_bytes())
        cells = [_read(cell) for cell in document["cells"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return []
    return [cell for cell in cells if cell is not None and cell.source.strip()]


def _read(cell: Any) -> Cell | None:
    if cell["cell_type"] != "code" or _SKIPPED & set(cell.get("metadata", {}).get("tags", ())):
        return None
    source: Any = cell["source"]
    text = source if isinstance(source, str) else "".join(cast("list[str]", source))
    return Cell(text, str(cell.get("id", "")))


def merge_cells(saved: Sequence[Cell], executed: Sequence[Cell]) -> list[Cell]:
    """The notebook as it is on the screen: the saved cells, with what was executed and is not saved yet.

    A cell is known again by its id, else by its text; a new one stands behind the one that was executed before it.
    """
    cells = list(saved)
    place = -1 if cells else 0
    for one in executed:
        known = _find(cells, one)
        if known is None:
            place = len(cells) if place < 0 else place + 1
            cells.insert(place, one)
        else:
            place = known
            cells[known] = one if one.id else cells[known]
    return [cell for cell in cells if cell.source.strip()]


def _find(cells: Sequence[Cell], wanted: Cell) -> int | None:
    if wanted.id:
        for place, cell in enumerate(cells):
            if cell.id == wanted.id:
                return place
    for place, cell in enumerate(cells):
        if cell.source.strip() == wanted.source.strip() and not (cell.id and wanted.id):
            return place
    return None


# --- the script -------------------------------------------------------------------------------------------


def convert(cells: Sequence[Cell], name: str) -> str:
    """The text of a script that does what the cells do, in their order. `name` is the notebook's."""
    parts = [_convert_cell(cell.source) for cell in cells]
    text = "\n".join(f"# %% [{number}]\n{part.rstrip()}\n" for number, part in enumerate(parts, start=1))
    future = "".join(f"{line}\n" for line in dict.fromkeys(_FUTURE.findall(text)))  # Python wants them first
    text = _FUTURE.sub(lambda line: f"# {line[0]}", text)
    return f"# Converted from {_one_line(name)} by Taskloom: each %% is a cell.\n{future}{_prelude(text)}\n{text}"


def _prelude(text: str) -> str:
    """What a notebook has without an import."""
    lines: list[str] = []
    if re.search(r"\bget_ipython\b", text):
        lines += [
            "try:",
            "    from IPython import get_ipython",
            "except ImportError:",
            "    get_ipython = lambda: None",
        ]
    if re.search(r"\bdisplay\(", text) and not re.search(r"import .*\bdisplay\b", text):
        lines += ["try:", "    from IPython.display import display", "except ImportError:", "    display = print"]
    return "".join(f"{line}\n" for line in lines)


@functools.lru_cache(maxsize=4096)
def _convert_cell(source: str) -> str:
    """One cell as Python; the same cell is asked for after each that is executed."""
    source = source.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    text = "\n".join(_convert_line(line) for line in _transformed(source).split("\n"))
    kind = _compiled(text)
    if kind == "await":
        return f'__import__("asyncio").run(eval(compile({text!r}, "a cell", "exec", {_AWAIT}), globals()))'
    return text if kind == "python" else _commented(source, "this cell is no Python")


def _transformed(source: str) -> str:
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        return str(TransformerManager().transform_cell(source))
    except SyntaxError:
        return source


def _compiled(text: str) -> str:
    """python; await: only with `await` outside of a function; '': neither. Compiling builds no tree in Python."""
    for flags in (0, _AWAIT):
        try:
            code = compile(text, "cell", "exec", flags, dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        return "await" if code.co_flags & inspect.CO_COROUTINE else "python"
    return ""


def _convert_line(line: str) -> str:
    """A line as IPython wrote it: a call of its own, perhaps with a target, or Python."""
    call = _CALL.fullmatch(line)
    if call is None:
        return line
    given = eval(f"({call['given']},)", {"__builtins__": {}})  # noqa: S307 - text literals and nothing else
    indent, target = call["indent"], call["target"] or ""
    done = _called(call["name"], given, bool(target))
    first, *rest = done.split("\n")
    return "\n".join([f"{indent}{target}{first}", *(f"{indent}{more}" for more in rest)])


def _called(name: str, given: tuple[str, ...], wanted: bool) -> str:
    """The Python for one call; where there is none, the line as a comment behind something that does nothing."""
    nothing = "None" if wanted else "pass"
    match name, given:
        case "system" | "getoutput", (command,) if not _INSTALLER.match(command) and not _has_values(command):
            if wanted:
                return f'__import__("subprocess").getoutput({command!r}).splitlines()'
            return f'__import__("subprocess").run({command!r}, shell=True)'
        case "system" | "getoutput", (command,):
            return f"{nothing}  # {_one_line('!' + command)}"
        case "run_line_magic", (magic, rest) if magic in _PYTHON_LINES and rest.strip() and not wanted:
            return _convert_cell(rest).strip()
        case "run_line_magic", ("env" | "set_env", setting) if "=" in setting and not _has_values(setting):
            key, _, value = setting.partition("=")
            return f'__import__("os").environ[{key.strip()!r}] = {value.strip()!r}'
        case "run_line_magic", (magic, rest):
            return f"{nothing}  # {_one_line(f'%{magic} {rest}')}"
        case "run_cell_magic", (magic, rest, body) if magic in _PYTHON_CELLS:
            return f"# %%{magic} {_one_line(rest)}".rstrip() + f"\n{_convert_cell(body)}"
        case "run_cell_magic", ("writefile" | "file", path, body) if path.split() and not path.startswith("-"):
            return f'__import__("pathlib").Path({path.strip()!r}).write_text({body!r})'
        case "run_cell_magic", ("bash" | "sh" as shell, "", body) if not _INSTALLERS.search(body):
            return f'__import__("subprocess").run({body!r}, shell=True, executable="/bin/{shell}")'
        case "run_cell_magic", (magic, rest, body):
            return _commented(f"%%{magic} {rest}\n{body}", "")
        case _:
            return f"{nothing}  # {_one_line(name)}"


def _has_values(command: str) -> bool:
    """Whether IPython would put values of Python into it."""
    return bool(re.search(r"\{.+\}|\$\w", command))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _commented(source: str, why: str) -> str:
    lines = [f"# {line}".rstrip() for line in source.rstrip().split("\n")]
    return "\n".join([*([f"# Not run, since {why}:"] if why else []), *lines])
