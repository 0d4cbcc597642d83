"""A notebook as a script: magics, shell lines, awaits and odd cells; what is on the screen and not saved yet."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskloom.sdk.capture.git import capture_surroundings
from taskloom.sdk.capture.notebook import Cell, convert, find_notebook, merge_cells, read_cells
from taskloom.sdk.capture.packages import capture_packages


def lines(source: str) -> str:
    """What becomes of one cell."""
    text = convert([Cell(source)], "a.ipynb")
    return text.partition("# %% [1]\n")[2].removesuffix("\n")


@pytest.mark.parametrize(
    ("cell", "script"),
    [
        ("x = 1", "x = 1"),
        ("%matplotlib inline\nx = 1", "pass  # %matplotlib inline\nx = 1"),
        ("%time f(3)", "f(3)"),
        ("%%time\nf(3)\n!pip install x", "# %%time\nf(3)\npass  # !pip install x"),
        ("t = %timeit -o f()", "t = None  # %timeit -o f()"),
        ("!ls -l", '__import__("subprocess").run(\'ls -l\', shell=True)'),
        ("!ls {x} $y", "pass  # !ls {x} $y"),
        ("a = !ls", 'a = __import__("subprocess").getoutput(\'ls\').splitlines()'),
        ("!python -m pip install y", "pass  # !python -m pip install y"),
        ("%pip install z", "pass  # %pip install z"),
        ("if 1:\n    !ls\n    %autoreload 2", 'if 1:\n    __import__("subprocess").run(\'ls\', shell=True)\n    pass  # %autoreload 2'),
        ("%env A=b c", '__import__("os").environ[\'A\'] = \'b c\''),
        ("%%writefile m.py\nX = 1\n", '__import__("pathlib").Path(\'m.py\').write_text(\'X = 1\\n\')'),
        ("%%bash\nls\n", '__import__("subprocess").run(\'ls\\n\', shell=True, executable="/bin/bash")'),
        ("%%bash\nls\n pip install x\n", "# %%bash\n# ls\n#  pip install x"),
        ("%%html\n<b>x</b>", "# %%html\n# <b>x</b>"),
        ("x?", "pass  # %pinfo x"),
        ("s = '''\n!ls\n%time\n'''", "s = '''\n!ls\n%time\n'''"),
        ("def f(:", "# Not run, since this cell is no Python:\n# def f(:"),
        ("x = 1 # get_ipython().system('ls')", "x = 1 # get_ipython().system('ls')"),
    ],
)  # fmt: skip
def test_a_cell_becomes_what_plain_python_can_run(cell: str, script: str) -> None:
    assert lines(cell) == script


def test_a_call_that_looks_like_ipythons_and_holds_more_than_text_is_left_alone() -> None:
    cell = "get_ipython().system(__import__('os').abort())"
    assert lines(cell) == cell


def run(cells: list[str], tmp_path: Path) -> str:
    script = tmp_path / "script.py"
    script.write_text(convert([Cell(source) for source in cells], "a.ipynb"))
    return subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path
    ).stdout


def test_the_script_runs_and_does_what_the_cells_do(tmp_path: Path) -> None:
    cells = [
        "from __future__ import annotations\nimport asyncio",
        "%%writefile helper.py\nWORD = 'helped'\n",
        "import helper\nprint(helper.WORD)",
        "async def f():\n    return 5\nx = await f()",
        "y = x + 1\nprint(x, y)",
        "print(get_ipython() is None)\nfound = !echo a; echo b",
        "print(found)\nfor i in range(2):\n    !true",
        "this is no python",
        "display(y)",
    ]
    assert run(cells, tmp_path) == "helped\n5 6\nTrue\n['a', 'b']\n6\n"


def write(path: Path, *cells: Any) -> Path:
    path.write_text(json.dumps({"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


def code(source: Any, id: str = "", *tags: str) -> dict[str, Any]:
    return {"cell_type": "code", "id": id, "source": source, "metadata": {"tags": list(tags)}, "outputs": []}


def test_code_cells_are_read_and_others_are_not(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.ipynb",
        code(["x = 1\n", "y = 2"], "one"),
        {"cell_type": "markdown", "source": "# text", "metadata": {}},
        code("  \n", "empty"),
        code("z = 3", "skipped", "skip-execution"),
        code("z = 4", "two"),
    )
    assert read_cells(file) == [Cell("x = 1\ny = 2", "one"), Cell("z = 4", "two")]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"cells": 5}', b'{"cells": [{}]}', b"\xff"])
def test_what_is_no_notebook_has_no_cells(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_bytes(content)
    assert read_cells(tmp_path / "a.ipynb") == []
    assert read_cells(tmp_path / "gone.ipynb") == []


@pytest.mark.parametrize(
    ("saved", "executed", "merged"),
    [
        ([], [Cell("a"), Cell("b")], ["a", "b"]),
        ([Cell("a", "1"), Cell("b", "2")], [], ["a", "b"]),
        ([Cell("a", "1"), Cell("b", "2")], [Cell("a"), Cell("b")], ["a", "b"]),
        ([Cell("a", "1"), Cell("b", "2")], [Cell("a changed", "1")], ["a changed", "b"]),
        ([Cell("a", "1"), Cell("b", "2")], [Cell("a", "1"), Cell("new", "9")], ["a", "new", "b"]),
        ([Cell("a", "1"), Cell("b", "2")], [Cell("a"), Cell("new"), Cell("newer")], ["a", "new", "newer", "b"]),
        ([Cell("a", "1")], [Cell("new", "9")], ["a", "new"]),
        ([Cell("same", "1"), Cell("same", "2")], [Cell("same", "2")], ["same", "same"]),
        ([Cell("a", "1"), Cell("b", "2")], [Cell(" ", "1")], ["b"]),
    ],
)
def test_what_was_executed_and_is_not_saved_stands_where_it_belongs(
    saved: list[Cell], executed: list[Cell], merged: list[str]
) -> None:
    assert [cell.source for cell in merge_cells(saved, executed)] == merged


def test_the_notebook_is_found_where_it_is_told(tmp_path: Path) -> None:
    file = write(tmp_path / "a b.ipynb", code("x = 1"))
    (tmp_path / "below").mkdir()
    assert find_notebook({}, {"JPY_SESSION_NAME": str(file)}, Path("/")) == file
    assert find_notebook({}, {"JPY_SESSION_NAME": "a b.ipynb"}, tmp_path / "below") == file
    assert find_notebook({"__vsc_ipynb_file__": str(file)}, {"JPY_SESSION_NAME": "/x.ipynb"}, Path("/")) == file
    assert find_notebook({}, {"JPY_SESSION_NAME": "4f1e-uuid"}, tmp_path) is None
    assert find_notebook({"__vsc_ipynb_file__": 5}, {}, tmp_path) is None


def test_packages_are_those_that_the_cells_import(tmp_path: Path) -> None:
    text = "from sklearn.datasets import load_digits\ndef f():\n    import PIL.Image\n"
    told = capture_packages(tmp_path / "nowhere.py", text)
    names = [line.partition("==")[0] for line in told.splitlines() if not line.startswith("#")]
    assert {"scikit-learn", "pillow"} <= set(names)


# --- in a repository --------------------------------------------------------------------------------------


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=me", "-c", "user.email=me@here"]
    done = subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("place", ["", "some notebooks", "größe"])
def test_in_a_repository_the_script_comes_as_a_change_and_notebooks_do_not(place: str, tmp_path: Path) -> None:
    """What was recorded is applied by git itself, and is the script."""
    home = tmp_path / "home"
    folder = home / place
    folder.mkdir(parents=True)
    git(home, "init", "-q")
    (folder / "helper.py").write_text("A = 1\n")
    write(folder / "train.ipynb", code("x = 1"))
    git(home, "add", ".")
    git(home, "commit", "-qm", "first")
    (folder / "helper.py").write_text("A = 2\n")
    write(folder / "train.ipynb", code("x = 2"))
    around = capture_surroundings(folder / "train.py", folder)
    script = convert([Cell("import helper\nprint('é', helper.A)")], "train.ipynb")
    execution = around.execution(script)
    assert (execution["entry_point"], execution["working_dir"]) == ("train.py", place or ".")
    assert ".ipynb b/" not in execution["diff"]
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "-q", execution["repository"], str(copy))
    git(copy, "checkout", "-q", execution["commit"])
    (tmp_path / "changes.patch").write_text(execution["diff"])
    git(copy, "apply", str(tmp_path / "changes.patch"))
    assert (copy / place / "train.py").read_text() == script
    done = subprocess.run([sys.executable, "train.py"], cwd=copy / place, capture_output=True, check=True)
    assert done.stdout.decode() == "é 2\n"


def test_outside_of_a_repository_the_script_is_the_code(tmp_path: Path) -> None:
    around = capture_surroundings(tmp_path / "train.py", tmp_path)
    told = around.execution("x = 1\n")
    assert (told["entry_point"], told["working_dir"], told["diff"]) == ("train.py", ".", "x = 1\n")
    assert "repository" not in told
