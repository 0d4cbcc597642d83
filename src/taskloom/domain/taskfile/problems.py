"""What is wrong with a task file, and what is only odd: each with its place in the text, all of them at once."""

from __future__ import annotations

from typing import Any

import msgspec

from taskloom.domain.errors import BadInput

MOST_TOLD = 50
MOST_FOUND = 200  # of each kind; then nobody reads on


class Place(msgspec.Struct, frozen=True):
    """Counted from 1, in characters."""

    line: int
    column: int


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """`path` names the field, such as `resources.cpus`; empty when the text itself is meant."""

    line: int
    column: int
    path: str
    message: str

    def told(self, file: str) -> str:
        """`task.yaml:3:5: resources.cpus: expected a number such as 4 or 0.5, got 'many'`."""
        field = f"{self.path}: " if self.path else ""
        return f"{file}:{self.line}:{self.column}: {field}{self.message}"


class WrongTaskFile(BadInput):
    """A task file that cannot be used; the message has a line for every problem."""

    def __init__(self, file: str, problems: tuple[Problem, ...], warnings: tuple[Problem, ...] = ()) -> None:
        lines = [problem.told(file) for problem in problems[:MOST_TOLD]]
        if len(problems) > MOST_TOLD:
            lines.append(f"... and {len(problems) - MOST_TOLD} more problems")
        details: dict[str, Any] = {
            "file": file,
            "problems": msgspec.to_builtins(problems[:MOST_TOLD]),
            "warnings": msgspec.to_builtins(warnings[:MOST_TOLD]),
        }
        super().__init__("\n".join(lines), **details)
        self.file, self.problems, self.warnings = file, problems, warnings


class Unreadable(Exception):
    """The file is not read further; the problems stand in the findings."""


class Findings:
    """Collects while a file is read, so that a person corrects it once and not ten times."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def wrong(self, place: Place, path: str, message: str) -> None:
        self.problems.append(Problem(place.line, place.column, path, message))
        if len(self.problems) >= MOST_FOUND:
            raise Unreadable

    @property
    def crowded(self) -> bool:
        """Whether one more warning would tell nobody anything."""
        return len(self.warnings) >= MOST_FOUND

    def odd(self, place: Place, path: str, message: str) -> None:
        if not self.crowded:
            self.warnings.append(Problem(place.line, place.column, path, message))

    def close(self, file: str) -> tuple[Problem, ...]:
        """The warnings, in the order of the text; raises WrongTaskFile when anything was wrong."""
        order = sorted(self.warnings, key=lambda found: (found.line, found.column))
        warnings = tuple(dict.fromkeys(order))
        if self.problems:
            problems = sorted(self.problems, key=lambda found: (found.line, found.column))
            raise WrongTaskFile(file, tuple(dict.fromkeys(problems)), warnings)
        return warnings
