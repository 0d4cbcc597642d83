"""Notebooks in real kernels: what is recorded of them, and a worker that runs it as a script; IPython's other roads."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.frameworks.conftest import EXAMPLES, PATIENCE, Bench

from taskloom.domain.status import Status
from taskloom.domain.task import Task
from taskloom.sdk.capture.notebook import convert, read_cells
from taskloom.wire import messages as m
from taskloom.wire import operations as ops

# As Jupyter's server runs a notebook: a kernel that works beside it, and is told which one it serves.
RUNNER = """
import os, sys, nbformat
from nbclient import NotebookClient
path = os.path.abspath(sys.argv[1])
if "told" in sys.argv:
    os.environ["JPY_SESSION_NAME"] = path
folder = {"metadata": {"path": os.path.dirname(path)}}
notebook = nbformat.read(path, 4)
try:
    NotebookClient(notebook, timeout=100, kernel_name="python3", resources=folder).execute()
finally:
    nbformat.write(notebook, path + ".out")
"""


def execute(bench: Bench, notebook: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    runner = bench.work / "runner.py"
    runner.write_text(RUNNER)
    return bench.script(runner, str(notebook), *words)


def write(notebook: Path, *cells: str) -> Path:
    told = [
        {"cell_type": "code", "id": f"c{n}", "source": s, "metadata": {}, "outputs": [], "execution_count": None}
        for n, s in enumerate(cells)
    ]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    document = {"cells": told, "metadata": {"kernelspec": spec}, "nbformat": 4, "nbformat_minor": 5}
    notebook.write_text(json.dumps(document))
    return notebook


def tasks(bench: Bench, project: str) -> dict[str, Task]:
    found = bench.client.call(ops.QUERY_TASKS, m.TaskQuery(project=project)).tasks
    return {one.name: bench.ended(one.id) for one in found}


def requirements(task: Task) -> list[str]:
    return [line.partition("==")[0] for line in task.execution.packages.splitlines() if line[:1] != "#"]


def test_a_notebook_is_recorded_run_again_as_a_script_and_verified(bench: Bench) -> None:
    notebook = bench.work / "notebook.ipynb"
    shutil.copy(EXAMPLES / "08-reproducing" / "notebook.ipynb", notebook)
    done = execute(bench, notebook, "told")
    assert done.returncode == 0, done.stderr.decode()
    task = bench.ended(bench.only_task("notebooks").id)
    assert (task.name, task.status, task.execution.repository) == ("digits", Status.COMPLETED, "")
    assert (task.execution.entry_point, task.execution.working_dir) == ("notebook.py", ".")
    assert task.execution.diff == convert(read_cells(notebook), "notebook.ipynb")
    assert task.execution.arguments == ()
    assert requirements(task) == ["scikit-learn"]
    assert bench.parameters(task) == {"General/depth": ("3", "int"), "General/trees": ("4", "int")}
    console = bench.console(task.id)
    assert "accuracy 0." in console
    assert "Wall time" in console
    kinds = {one.name: one.kind for one in task.artifacts}
    assert kinds == {"summary": "dict", "notebook": "notebook"}
    kept = next(one for one in task.artifacts if one.name == "notebook")
    assert bench.blob(kept.digest) == notebook.read_bytes()
    points = bench.scalars(task)
    assert list(points) == ["accuracy/test"]
    assert [iteration for iteration, _ in points["accuracy/test"]] == [1, 2, 3, 4]

    edited = bench.clone(task, {"General/trees": 2})
    assert bench.scalars(edited) == {"accuracy/test": points["accuracy/test"][:2]}
    assert "shell lines are run by a shell" in bench.console(edited.id)

    verified = bench.command("task", "verify", task.id, "--json", check=False)
    assert verified.returncode == 0, verified.stdout.decode()
    assert json.loads(verified.stdout)["compared"] == {
        "scalars": 1,
        "points": 4,
        "artifacts": 1,
        "models": 0,
        "parameters": 2,
        "configuration": 0,
        "ignored": 0,
        "unknown": [],
    }


def test_two_tasks_of_one_session_one_after_the_other_and_a_cell_that_raises(bench: Bench) -> None:
    """Nobody tells which notebook it is: what was executed is the code."""
    first = "from taskloom import Task\ntask = Task.init('two tasks', 'first one')"
    cells = [
        "import numpy as np",
        first,
        "task.get_logger().report_scalar('a', 'b', float(np.float64(1)), iteration=0)\nprint('of the first')",
        "raise ValueError('in between')",
        "task.close()\nprint('of nobody')",
        "task = Task.init('two tasks', 'second one')",
        "print('of the second')\nimport PIL",
        "1 / 0",
    ]
    notebook = write(bench.work / "unknown.ipynb", *cells)
    document = json.loads(notebook.read_text())
    document["cells"][3]["metadata"] = {"tags": ["raises-exception"]}
    notebook.write_text(json.dumps(document))
    done = execute(bench, notebook)
    assert b"ZeroDivisionError" in done.stderr
    found = tasks(bench, "two tasks")
    assert sorted(found) == ["first one", "second one"]
    one, other = found["first one"], found["second one"]
    assert (one.status, one.status_reason) == (Status.COMPLETED, "")
    assert (other.status, other.status_reason) == (Status.FAILED, "ZeroDivisionError: division by zero")
    assert one.execution.entry_point == other.execution.entry_point == "notebook.py"
    assert sections(one) == cells[:5]  # the cell that closes it is its last
    assert sections(other) == cells
    assert requirements(one) == ["numpy"]
    assert requirements(other) == ["numpy", "pillow"]
    assert "of the first" in bench.console(one.id)
    assert "of nobody" not in bench.console(one.id) + bench.console(other.id)
    assert "of the second" in bench.console(other.id)
    assert bench.scalars(one) == {"a/b": [(0, 1.0)]}
    assert [one.artifacts, other.artifacts] == [(), ()]


def sections(task: Task) -> list[str]:
    """The cells of the recorded script."""
    parts = task.execution.diff.split("# %% [")[1:]
    return [part.partition("]\n")[2].strip("\n") for part in parts]


def test_a_notebook_in_a_repository_runs_with_the_code_around_it(bench: Bench) -> None:
    home = bench.work / "a repository"
    (home / "my notebooks").mkdir(parents=True)
    git(home, "init", "-q")
    (home / "my notebooks" / "helper.py").write_text("LR = 0.5\n")
    notebook = write(
        home / "my notebooks" / "my training.ipynb",
        "import helper\nfrom taskloom import Task\ntask = Task.init('in a repository', 'a notebook')",
        "for i in range(3):\n    task.get_logger().report_scalar('lr', 'is', helper.LR / (i + 1), iteration=i)",
    )
    git(home, "add", ".")
    git(home, "commit", "-qm", "first")
    (home / "my notebooks" / "helper.py").write_text("LR = 0.25  # changed and not committed\n")
    done = execute(bench, notebook, "told")
    assert done.returncode == 0, done.stderr.decode()
    task = bench.ended(bench.only_task("in a repository").id)
    place = (task.execution.entry_point, task.execution.working_dir)
    assert place == ("my training.py", "my notebooks"), f"{bench.console(task.id)}{done.stderr.decode()}"
    assert task.execution.repository == str(home)
    assert "ipynb b/" not in task.execution.diff
    clone = bench.clone(task)
    assert bench.scalars(clone) == bench.scalars(task) == {"lr/is": [(0, 0.25), (1, 0.125), (2, 0.25 / 3)]}


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=me", "-c", "user.email=me@here"]
    subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, check=True, timeout=PATIENCE)


def python(bench: Bench, *arguments: str, typed: str = "") -> Any:
    return subprocess.run(
        [bench.python, *arguments],
        cwd=bench.work,
        env=bench.environment(IPYTHONDIR=str(bench.work / "ipython")),
        input=typed.encode(),
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )


def test_a_script_that_ipython_or_an_interactive_python_runs_is_the_script(bench: Bench) -> None:
    script = bench.work / "run me.py"
    text = "import sys\nfrom taskloom import Task\ntask = Task.init('roads', sys.argv[1])\nprint('hello')\n"
    script.write_text(text)
    python(bench, "-m", "IPython", "-c", "%run 'run me.py' 'by run'")
    python(bench, "-i", str(script), "by -i", typed="task.close()\n")
    found = tasks(bench, "roads")
    assert sorted(found) == ["by -i", "by run"]
    for task in found.values():
        assert (task.execution.entry_point, task.execution.diff) == ("run me.py", text)
        assert "hello" in bench.console(task.id)


def test_what_is_typed_into_ipython_is_recorded(bench: Bench) -> None:
    typed = (
        "from taskloom import Task\ntask = Task.init('typed', 'in a terminal')\nx = 5\nprint(x)\ntask.close()\n"
    )
    done = python(bench, "-m", "IPython", "--simple-prompt", "--no-banner", typed=typed)
    assert b"Traceback" not in done.stdout + done.stderr
    task = bench.ended(bench.only_task("typed").id)
    assert task.status is Status.COMPLETED
    assert task.execution.entry_point == "interactive.py"
    assert sections(task) == typed.splitlines()


def test_what_is_typed_into_python_itself_is_a_task_without_code(bench: Bench) -> None:
    typed = "from taskloom import Task\ntask = Task.init('typed python', 'into python')\nprint(5)\ntask.close()\n"
    python(bench, "-i", typed=typed)
    task = tasks(bench, "typed python")["into python"]
    assert (task.status, task.execution.entry_point, task.execution.diff) == (Status.COMPLETED, "", "")


# Jupyter's front end tells the id of each cell that it has executed.
BY_HAND = """
import os, sys
from jupyter_client.manager import start_new_kernel
os.environ["JPY_SESSION_NAME"] = sys.argv[1]
manager, client = start_new_kernel(kernel_name="python3")
def run(source, id):
    content = {"code": source, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    message = client.session.msg("execute_request", content, metadata={"cellId": id})
    client.shell_channel.send(message)
    while True:
        told = client.get_iopub_msg(timeout=60)
        if told["parent_header"].get("msg_id") == message["header"]["msg_id"]:
            if told["msg_type"] == "error":
                print(told["content"]["traceback"])
            if told["msg_type"] == "status" and told["content"]["execution_state"] == "idle":
                return
run("from taskloom import Task\\ntask = Task.init('unsaved', 'killed')", "c0")
run("a = 1 / 0", "c1")
run("a = 2  # changed, run again, not saved", "c1")
run("b = 3  # a new cell", "new")
run("task.flush(wait_for_uploads=True)", "new")
manager.shutdown_kernel(now=True)  # kill -9
"""


def test_a_killed_kernel_leaves_what_was_on_the_screen(bench: Bench) -> None:
    cells = ("from taskloom import Task\ntask = Task.init('unsaved', 'killed')", "a = 1", "c = 4")
    notebook = write(bench.work / "unsaved.ipynb", *cells)
    runner = bench.work / "by hand.py"
    runner.write_text(BY_HAND)
    done = bench.script(runner, str(notebook))
    assert done.returncode == 0, done.stderr.decode()
    task = bench.ended(bench.only_task("unsaved").id)
    assert task.status is not Status.COMPLETED
    assert task.execution.entry_point == "unsaved.py"
    assert sections(task) == [
        cells[0],
        "a = 2  # changed, run again, not saved",
        "task.flush(wait_for_uploads=True)",
        cells[2],
    ]
