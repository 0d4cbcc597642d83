"""What a run's placeholders stand for, and in which files and variables values reach it; never in arguments.

Parameters may hold secrets themselves, so these are filled first. A name without a value ends the attempt before
anything is started, with that name. Arguments are seen by everybody on the machine: there no secret is filled in.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from taskloom.domain.execution import Execution
from taskloom.domain.parameters import DEFAULT_SECTION, split_name
from taskloom.domain.placeholders import fill, parameter_names, parameter_texts, secret_names
from taskloom.wire.messages import Lease
from taskloom.wire.worker_protocol import ENV_PARAMETER, ENV_SECRETS
from taskloom.worker.steps import PrepareFailed

SECRETS_FILE = "secrets.json"
_NO_WORD = re.compile(r"[^A-Za-z0-9]")


def hidden_values(lease: Lease) -> list[str]:
    """Everything of a lease that its console must not show. Of its key, which a script that prints its environment
    shows in several forms, the part that is secret.
    """
    return [*lease.secrets.values(), *(c.password for c in lease.credentials), lease.key.rpartition("_")[2]]


class Values:
    """The values of one attempt. Raises PrepareFailed when one is missing."""

    def __init__(self, lease: Lease) -> None:
        task = lease.task
        self.secrets: Mapping[str, str] = lease.secrets
        missing = [name for name in secret_names(task.execution, task.parameters) if name not in lease.secrets]
        if missing:
            raise PrepareFailed(f"secrets without a value: {', '.join(missing)} (`taskloom secret set` sets them)")
        told = parameter_texts(task.parameters)
        self.parameters = {name: fill(text, self.secrets, {}) for name, text in told.items()}
        unknown = [name for name in parameter_names(task.execution) if name not in self.parameters]
        if unknown:
            raise PrepareFailed(f"parameters without a value: {', '.join(_shown(name) for name in unknown)}")
        self._private = {name for name, text in told.items() if self.parameters[name] != text}

    def shell(self, text: str) -> str:
        """Shell lines with every value as one quoted word."""
        _check(text, "the shell lines")
        return fill(text, self.secrets, self.parameters, shell=True)  # noqa: S604 - a text, no process

    def text(self, text: str) -> str:
        return fill(text, self.secrets, self.parameters)

    def arguments(self, words: Iterable[str]) -> tuple[str, ...]:
        """An argument list with parameters; PrepareFailed for one that would show a secret."""
        private = {name: text for name, text in self.parameters.items() if name not in self._private}
        found: list[str] = []
        for word in words:
            filled = fill(word, {}, private)
            if filled != fill(word, self.secrets, self.parameters):
                raise PrepareFailed(
                    f"the argument {word[:80]!r} would show a secret to everybody on the machine: give it by a variable"
                )
            found.append(filled)
        return tuple(found)

    def execution(self, execution: Execution) -> dict[str, object]:
        """The fields of an execution that are filled in place."""
        return {
            "command": self.arguments(execution.command),
            "arguments": self.arguments(execution.arguments),
            "variables": {name: self.text(value) for name, value in execution.variables.items()},
        }

    def parameter_variables(self) -> dict[str, str]:
        """TASKLOOM_PARAM_NAME for each parameter of the section General."""
        found: dict[str, str] = {}
        for flat, text in self.parameters.items():
            section, name = split_name(flat)
            if section == DEFAULT_SECTION and "\0" not in text:
                found[f"{ENV_PARAMETER}{_NO_WORD.sub('_', name).upper()}"] = text
        return found

    def secret_variables(self, folder: Path) -> dict[str, str]:
        """The file with the values, and the variable that tells where it is; nothing without secrets."""
        if not self.secrets:
            return {}
        path = folder / SECRETS_FILE
        write_private(path, json.dumps(dict(self.secrets)))
        return {ENV_SECRETS: str(path)}


def write_private(path: Path, text: str) -> None:
    """A file that only the worker's user reads."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))


def _check(text: str, what: str) -> None:
    if "\0" in text:
        raise PrepareFailed(f"{what} hold a NUL; expected text")


def _shown(flat: str) -> str:
    section, name = split_name(flat)
    return name if section == DEFAULT_SECTION else flat
