"""A repository as people have it: an origin, a checkout, and a change in it that was never committed."""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path


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
