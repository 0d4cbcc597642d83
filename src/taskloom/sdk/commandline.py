"""What a task takes over from the command line, whoever parsed it: parameters out, edited values in.

Each parser has its own file (`capture/arguments` for argparse, `bindings/` for the others). They meet here for what
is the same for all: what is recorded, which values were edited, what becomes of the command line itself.

A worker runs a script without a command line when parameters stand for it; the parser's file then makes the words
that the parser needs. Where the command line was parsed before `Task.init`, the worker gives it again, and
edited values come too late for variables that are bound already. Then the script begins again, once, in the same
process and with the edited command line (`restart`): what stands before `Task.init` is run twice.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from taskloom.domain.parameters import ARGS_SECTION, Parameter
from taskloom.domain.task import TaskEdit
from taskloom.sdk.capture.chosen import Chosen, names_a_secret

if TYPE_CHECKING:
    from taskloom.sdk.session import Session

ENV_RESTARTED = "TASKLOOM_RESTARTED"  # process and task of a script that began again with edited values


class CommandLine:
    """The command line of one task. `options`: the switch `auto_connect_arg_parser`."""

    def __init__(self, session: Session, options: bool | Mapping[str, bool]) -> None:
        self._session = session
        self.chosen = Chosen.of(options)
        self.argv = () if _in_kernel() else tuple(sys.argv[1:])
        self.reported = False  # parameters stand for the command line

    @property
    def on(self) -> bool:
        return not self.chosen.nothing

    def report(self, found: Mapping[str, Parameter], section: str = ARGS_SECTION) -> None:
        """Record what a parser read, without secrets."""
        self.reported = self.reported or bool(found)
        known = self._session.document().parameters.get(section, {})
        chosen = {name: one for name, one in self.chosen.among(found).items() if known.get(name) != one}
        if chosen and self._session.owner:
            with self._session.notices.boundary("arguments could not be recorded"):
                self._session.edit(TaskEdit(parameters={section: dict(chosen)}))

    def edited(self, section: str = ARGS_SECTION) -> dict[str, Parameter]:
        """What stands in the task when a worker or agent runs this; else nothing."""
        if not self._session.identity.hosted:
            return {}
        return self.chosen.among(self._session.document().parameters.get(section, {}))

    @property
    def hosted(self) -> bool:
        return self._session.identity.hosted

    def keep(self, argv: Sequence[str] | None = None) -> None:
        """Record words of the command line for which no parameter stands; all of them by default."""
        words = self.argv if argv is None else tuple(argv)
        if not self.on or not words or not self._session.owner or self._session.identity.hosted:
            return
        if names_a_secret(words):
            self._session.notices.say("the command line is not recorded, since it holds a secret")
            return
        self._session.edit(TaskEdit(execution={"arguments": words}))

    @property
    def holds_secret(self) -> bool:
        return names_a_secret(self.argv)

    def restart(self, argv: Sequence[str], folder: str = "") -> None:
        """Begin the script again with these words; returns only when that cannot be, and has said why.

        folder: where it was started, when it has changed its folder since
        """
        prefix = _prefix(self.argv)
        if os.environ.get(ENV_RESTARTED) == self._mark():
            self._lost("it began again already, and its parser reads other values than the task has")
        elif not prefix:
            self._lost("how Python was started cannot be told")
        else:
            said = shlex.join(argv)
            self._session.notices.say(f"edited values: the script begins again with the command line {said!r}")
            self._session.abandon()
            if folder:
                os.chdir(folder)
            os.environ[ENV_RESTARTED] = self._mark()
            sys.stdout.flush()
            sys.stderr.flush()
            os.execv(sys.executable, [sys.executable, *prefix, *argv])  # noqa: S606

    def leave_to(self, own: Sequence[str]) -> None:
        """Say that the worker's own command line names what to run, and takes the place of the task's values."""
        self._session.notices.say(
            f"the command line of this run is {shlex.join(own)!r}: values of the task's parameters were not added to it"
        )

    def _lost(self, reason: str) -> None:
        self._session.notices.say(
            f"values edited in the task did not reach the script, which had read its command line before Task.init:"
            f" {reason}. Call Task.init before the command line is parsed."
        )

    def _mark(self) -> str:
        return f"{os.getpid()}:{self._session.id}"

    def stop(self, timeout: float) -> None:
        """A script that reads the command line without a parser gets it again."""
        del timeout
        if not self.reported:
            self.keep()


def _in_kernel() -> bool:
    """A notebook's kernel was started with words that say nothing about the cells."""
    return "ipykernel" in sys.modules and getattr(sys.modules.get("__main__"), "__file__", None) is None


def _prefix(argv: tuple[str, ...]) -> list[str]:
    """Python's own options and the script, of `python -u train.py --lr 1`; nothing when that cannot be told."""
    words = sys.orig_argv
    cut = len(words) - len(argv)
    if os.name != "posix" or cut < 2 or tuple(words[cut:]) != argv or words[1] == "-c":
        return []
    prefix = words[1:cut]
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if "-m" not in prefix and not Path(prefix[-1]).exists():
        prefix[-1] = main or ""
    return prefix if prefix[-1] else []
