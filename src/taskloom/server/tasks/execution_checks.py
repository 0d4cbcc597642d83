"""What an execution may hold: sizes of its texts, and numbers that somebody has to act on."""

from __future__ import annotations

import math
import re

from taskloom.domain.artifact import check_digest
from taskloom.domain.errors import BadInput, TooLarge
from taskloom.domain.execution import Execution, Resources, Retries, Sweep
from taskloom.domain.project import check_text
from taskloom.domain.task import SHORT_TEXT
from taskloom.server.settings import MIB

MAX_TEXT = 16 * MIB  # characters of a diff, a list of packages, a script
MAX_SHORT = 4096  # characters of an address, a branch, an image
MAX_WORD = MIB  # characters of an argument or variable
MAX_PRIORITY = 1000  # either way
MAX_RETRIES = 1000
MAX_TIME = 366 * 86_400.0  # seconds of one attempt
MAX_CPUS, MAX_GPUS, MAX_NODES = 100_000, 1024, 10_000
MAX_BYTES = 2**60
MAX_GPU_TYPE = 64
MAX_MOUNTS = 64
MAX_SECRETS = 256
MAX_COMBINATIONS = 10_000
LONG_FIELDS = frozenset({"diff", "packages", "setup", "run"})
_LINES = ("repository", "branch", "tag", "commit", "entry_point", "working_dir", "image", "directory")
_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_execution(execution: Execution) -> None:
    """Raises BadInput or TooLarge that name the field."""
    _check_texts(execution)
    check_priority(execution.priority, "execution.priority")
    _between(execution.time_limit, 0, MAX_TIME, "execution.time_limit")
    if execution.files:
        check_digest(execution.files)
    _check_resources(execution.resources)
    _check_retries(execution.retries)
    if execution.sweep is not None:
        combinations_of(execution.sweep)


def check_priority(priority: int, what: str = "priority") -> int:
    return int(_between(priority, -MAX_PRIORITY, MAX_PRIORITY, what))


def combinations_of(sweep: Sweep) -> int:
    """How many tasks the sweep makes; raises BadInput when that is none, or too many."""
    number = 1
    for name, values in sweep.grid.items():
        if not values:
            raise BadInput(f"sweep: {name[:80]!r} has no values; expected at least one")
        number *= len(values)
    if not sweep.grid:
        raise BadInput("sweep: expected values of at least one parameter")
    if number > MAX_COMBINATIONS:
        raise BadInput(
            f"sweep: {number} combinations; expected at most {MAX_COMBINATIONS}", limit=MAX_COMBINATIONS
        )
    check_text(sweep.metric, "sweep: metric")
    return number


def _check_texts(execution: Execution) -> None:
    for field in Execution.__struct_fields__:
        value = getattr(execution, field)
        if isinstance(value, str):
            limit = MAX_TEXT if field in LONG_FIELDS else MAX_SHORT
            _text(value, f"execution.{field}", SHORT_TEXT if field == "image_arguments" else limit)
    for field in _LINES:
        check_text(getattr(execution, field), f"execution.{field}")
    for word in (*execution.arguments, *execution.command, *execution.variables.values()):
        _text(word, "execution: an argument or variable", MAX_WORD)
    for name in execution.variables:
        if not name or "=" in name:
            raise BadInput(f"execution.variables: {name[:80]!r} is no name of an environment variable")
        check_text(name, "execution.variables: the name")
    _count(len(execution.mounts), MAX_MOUNTS, "execution.mounts")
    for mount in execution.mounts:
        check_text(_text(mount, "execution.mounts: one", MAX_SHORT), "execution.mounts: one")
    _count(len(execution.secrets), MAX_SECRETS, "execution.secrets")
    for name in execution.secrets:
        if not _SECRET.fullmatch(name):
            raise BadInput(
                f"execution.secrets: {name[:80]!r} is no name of a secret; expected letters, digits and underscores"
            )


def _check_resources(wanted: Resources) -> None:
    _between(wanted.cpus or 0, 0, MAX_CPUS, "execution.resources.cpus")
    _between(wanted.memory or 0, 0, MAX_BYTES, "execution.resources.memory")
    _between(wanted.disk or 0, 0, MAX_BYTES, "execution.resources.disk")
    _between(wanted.gpus or 0, 0, MAX_GPUS, "execution.resources.gpus")
    _between(wanted.nodes, 1, MAX_NODES, "execution.resources.nodes")
    check_text(
        _text(wanted.gpu_type, "execution.resources.gpu_type", MAX_GPU_TYPE), "execution.resources.gpu_type"
    )


def _check_retries(retries: Retries) -> None:
    for name in Retries.__struct_fields__:
        _between(getattr(retries, name) or 0, 0, MAX_RETRIES, f"execution.retries.{name}")


def _between(number: float, low: float, high: float, what: str) -> float:
    if not (math.isfinite(number) and low <= number <= high):
        raise BadInput(f"{what} {number}: expected {low:.15g} to {high:.15g}")
    return number


def _text(text: str, what: str, limit: int) -> str:
    """Free text: anything but NUL, up to the limit."""
    if len(text) > limit:
        raise TooLarge(f"{what} has {len(text)} characters; expected at most {limit}", limit=limit)
    if "\0" in text:
        raise BadInput(f"{what} holds a NUL character")
    return text


def _count(found: int, limit: int, what: str) -> None:
    if found > limit:
        raise TooLarge(f"{what}: {found} of them; expected at most {limit}", limit=limit)
