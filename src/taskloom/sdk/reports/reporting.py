"""What every report shares: where it is recorded, which names and numbers it takes, and what is said of a bad one.

A report never raises into the script: what cannot be recorded is named once on standard error and counted. The
reports themselves are `logger`, `plots` and `samples`.
"""

from __future__ import annotations

import contextlib
import math
import operator
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, SupportsIndex

from taskloom.domain.errors import BadInput, TaskloomError
from taskloom.domain.metrics import MAX_ITERATION, MIN_ITERATION
from taskloom.journal.writer import Writer

if TYPE_CHECKING:
    from taskloom.sdk.notices import Notices

LONGEST_NAME = 1024  # characters of a title or series

now = time.time


class Home(Protocol):
    """The live task that a logger reports for: who ships its journal, and whether what it prints is recorded."""

    closed: bool
    stdout_recorded: bool

    def poke(self) -> None: ...

    def wait_shipped(self, timeout: float) -> bool: ...


@dataclass
class Choices:
    """What a script sets for the whole process, often before there is a task. Bindings read it.

    group_scalars    TensorBoard's curves without a title share the graph `Scalars`
    single_series    TensorBoard's curves are a graph each
    only_images      Matplotlib's figures are recorded as images, never as interactive plots
    """

    group_scalars: bool = False
    single_series: bool = False
    only_images: bool = False


class Reports:
    """Reports of one task, written into one journal."""

    choices = Choices()

    def __init__(self, writer: Writer, notices: Notices, home: Home | None = None) -> None:
        self._home = home
        self._writer = writer
        self._notices = notices
        self.iteration_offset = 0
        self._newest = -(2**70)

    def newest_iteration(self) -> int | None:
        """The highest iteration reported here, with the offset; None when nothing was."""
        return self._newest if self._newest >= MIN_ITERATION else None

    def _place(self, iteration: SupportsIndex | None, offset: int | None = None) -> int:
        """The iteration with the offset; without one it is 0."""
        place = whole(0 if iteration is None else iteration)
        place += self.iteration_offset if offset is None else offset
        if not MIN_ITERATION <= place <= MAX_ITERATION:
            raise BadInput(f"iteration {place}: expected a whole number of 64 bits")
        return place

    def _count(self, iteration: SupportsIndex | None, place: int) -> None:
        if iteration is not None and place > self._newest:
            self._newest = place

    @contextlib.contextmanager
    def _telling(self, kind: str, title: Any, series: Any) -> Generator[None]:
        """What goes wrong inside is said once for each title and series, and goes no further."""
        topic = f"{kind} {str(title)[:80]!r} / {str(series)[:80]!r}"
        try:
            yield
        except TaskloomError as error:
            self._notices.once(topic, f"{topic} is not recorded: {error}")
        except Exception as error:  # values of any type come here, with any conversion of their own
            self._notices.once(topic, f"{topic} is not recorded: {type(error).__name__}: {error}")


def number(value: Any) -> float:
    """The float of a number; text is not one, even when it looks so."""
    if isinstance(value, str | bytes | bytearray) or value is None:
        raise BadInput(f"expected a number, got {type(value).__name__} {str(value)[:80]!r}")
    if hasattr(value, "detach"):
        value = value.detach()  # or torch warns about a loss that has not been detached
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(value, int):
            return math.inf if value > 0 else -math.inf  # beyond what a double holds
        raise BadInput(f"expected a number, got {type(value).__name__} ({error})") from None


def whole(value: Any, what: str = "iteration") -> int:
    """The int of a whole number; 3.0 is one, 3.5 and text are not."""
    try:
        return operator.index(value)
    except TypeError:
        pass
    try:
        found = float(value) if not isinstance(value, str | bytes) else math.nan
    except (TypeError, ValueError):
        found = math.nan
    if not found.is_integer():
        raise BadInput(f"expected a whole number as {what}, got {type(value).__name__} {str(value)[:80]!r}")
    return int(found)


def text(value: Any, what: str) -> str:
    """A name that can be stored; BadInput for what is no text or too long."""
    if not isinstance(value, str):
        raise BadInput(f"expected text as {what}, got {type(value).__name__}")
    if len(value) > LONGEST_NAME:
        raise BadInput(f"{what} has {len(value)} characters; at most {LONGEST_NAME} are possible")
    return value.replace("\0", "�").encode("utf-8", "replace").decode()
