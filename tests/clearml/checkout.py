"""A repository as people have it: an origin, a checkout, and a change in it that was never committed."""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path

from tests.clearml.conftest import ClearML, finish

TRIES, PATIENCE = 5, 60.0
RECORDED = """
    if Task.running_locally():  # code and packages are looked for in a thread, which the end would cut off
        from clearml.backend_api.session.client import APIClient
        for _ in range(40):
            script = APIClient().tasks.get_by_id(task.id).script
            if script and script.requirements and script.requirements.get("pip"):
                break
            time.sleep(0.5)
        else:
            os._exit(3)
"""
"""The end of a script that is to be run elsewhere."""


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@localhost"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def make_checkout(top: Path, script: str) -> Path:
    """The script as `train.py`, beside a module whose `WORD` is "changed", but "committed" in the last commit."""
    git(top, "init", "--bare", "-b", "main", "origin.git")
    git(top, "clone", "origin.git", "checkout")
    checkout = top / "checkout"
    (checkout / "beside.py").write_text('WORD = "committed"\n')
    (checkout / "train.py").write_text(textwrap.dedent(script))
    git(checkout, "checkout", "-b", "main")
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "first")
    git(checkout, "push", "origin", "main")
    (checkout / "beside.py").write_text('WORD = "changed"\n')
    return checkout


def recorded(clearml: ClearML, script: Path) -> str:
    """The id of a task that ClearML's SDK made of this script. More than one try, because every now and then the
    SDK hangs in the thread that looks for the code: a process that it starts there never begins.
    """
    last: AssertionError | None = None
    for _ in range(TRIES):
        try:
            return finish(clearml.program(str(clearml.python), str(script)), PATIENCE).ok().said("id")
        except AssertionError as error:
            last = error
    assert last is not None
    raise last
