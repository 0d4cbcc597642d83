"""The one program of an attempt, when there is more to do than to start one: a script for any POSIX shell.

    packages (in a container)  ->  setup lines  ->  the phase file says `run`  ->  the rest, in the script's place

One program and not one after another, so that a container is started once and a place runs one thing. Shell lines
stand in files of their own, readable by the worker's user only: a value that was filled in is in no argument. Setup
ends at its first failing command (`bash -eo pipefail`, else `sh -e`); what is run ends as a script does, with its last
command. Every path that is written here is quoted.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from shlex import join, quote

from taskloom.worker.packages import uv_program
from taskloom.worker.values import write_private

SETUP, RUN, PHASE, WHOLE = "setup.sh", "run.sh", "phase", "program.sh"
TOOLS = "tools"  # folder of what a machine may lack, last on the path

_NO_SUDO = """\
#!/bin/sh
echo "sudo: not installed on this machine, and the worker is not root; install what the task needs there, or use an image" >&2
exit 127
"""
_ROOT_SUDO = """\
#!/bin/sh
while [ $# -gt 0 ]; do case "$1" in -E|-H|-n|-S|-i) shift;; --) shift; break;; *) break;; esac; done
exec "$@"
"""


class Script:
    """Gathers what is to be done, in order; `write` gives the argument list that does it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines = ["#!/bin/sh", "# Written by the worker for this attempt."]
        self._shell = False

    @property
    def phase(self) -> Path:
        return self._folder / PHASE

    def line(self, text: str) -> None:
        self._lines.append(text)

    def setup(self, text: str) -> None:
        """Lines that have to end well before the rest begins."""
        lines = text.strip().rstrip(";").rstrip()
        if lines:
            write_private(self._folder / SETUP, f"{lines}\n")
            self._find_shell()
            path = quote(str(self._folder / SETUP))
            self.line(
                f'if [ "$taskloom_shell" = bash ]; then bash -eo pipefail {path}; else sh -e {path}; fi || exit $?'
            )

    def begin_run(self) -> None:
        self.line(f"printf run > {quote(str(self.phase))}")

    def run(self, text: str) -> None:
        """Lines that take the script's place."""
        write_private(self._folder / RUN, f"{text.rstrip()}\n")
        self._find_shell()
        self.line(f'exec "$taskloom_shell" {quote(str(self._folder / RUN))}')

    def execute(self, argv: Sequence[str]) -> None:
        """A program that takes the script's place."""
        self.line(f"exec {join(argv)}")

    def write(self) -> tuple[str, ...]:
        path = self._folder / WHOLE
        write_private(path, "\n".join(self._lines) + "\n")
        return ("/bin/sh", str(path))

    def _find_shell(self) -> None:
        if not self._shell:
            self._shell = True
            self.line("if command -v bash >/dev/null 2>&1; then taskloom_shell=bash; else taskloom_shell=sh; fi")


def make_tools(folder: Path, path: str) -> Path | None:
    """What shell lines expect and the machine's path has not: the worker's uv; a `sudo` that does nothing for root and
    says to others what is missing. None when it has both.
    """
    lacking = [name for name in ("uv", "sudo") if shutil.which(name, path=path) is None]
    if not lacking:
        return None
    tools = folder / TOOLS
    tools.mkdir(mode=0o700)
    if "uv" in lacking:
        (tools / "uv").symlink_to(uv_program())
    if "sudo" in lacking:
        sudo = tools / "sudo"
        sudo.write_text(_ROOT_SUDO if os.geteuid() == 0 else _NO_SUDO)
        sudo.chmod(0o700)
    return tools


def sudo_variable() -> dict[str, str]:
    """`$SUDO apt-get ...` works as root and as a user."""
    return {"SUDO": "" if os.geteuid() == 0 else "sudo"}
