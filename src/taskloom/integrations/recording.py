"""What the classes of this room share: the task that they write to, and the boundary that their faults do not cross."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskloom.domain.errors import BadInput
from taskloom.sdk.notices import Notices
from taskloom.sdk.session import Session
from taskloom.sdk.task import Task
from taskloom.sdk.weights import weights_of

if TYPE_CHECKING:
    from taskloom.sdk.reports.logger import Logger


class Recording:
    """A task as a callback uses it.

    BadInput when none is given and none runs in this process, unless it is one of several that train together, and
    not the first: those make the same objects, and record nothing.
    """

    def __init__(self, task: Task | None, asker: str) -> None:
        self._asker = asker
        self._elsewhere = ""  # the task's id, when this process does not run it
        self._task: Task | None = None
        self._session: Session | None = None
        self._notices = Notices()
        found = task or Task.current_task()
        if found is not None or _is_first():
            self._use(found)

    def _use(self, task: Task | None) -> Task:
        if task is None:
            raise BadInput(f"{self._asker}: no task runs in this process: call Task.init first, or give task=")
        session: Any = task._recorder  # pyright: ignore[reportPrivateUsage]
        if isinstance(session, Session):
            self._session, self._notices = session, session.notices
        else:
            self._elsewhere = task.id
        self._task = task
        return task

    @property
    def task(self) -> Task:
        if self._task is None:  # sent to another process: it has the task of the one that started it
            return self._use(Task.get_task(self._elsewhere) if self._elsewhere else Task.current_task())
        return self._task

    @property
    def name(self) -> str:
        """The task's name, as it can stand in a path; empty where there is none."""
        return self.task.name.replace("/", "_") if self._task or _is_first() else ""

    @property
    def id(self) -> str:
        return self.task.id if self._task or _is_first() else ""

    def __getstate__(self) -> dict[str, str]:
        return {"asker": self._asker, "elsewhere": self._elsewhere}

    def __setstate__(self, state: Mapping[str, str]) -> None:
        self._asker, self._elsewhere = state["asker"], state["elsewhere"]
        self._task, self._session, self._notices = None, None, Notices()

    def __deepcopy__(self, memo: Any) -> Recording:
        return self

    @property
    def logger(self) -> Logger:
        return self.task.get_logger()

    def guard(self, what: str) -> AbstractContextManager[None]:
        """The tracker's failure is never the script's."""
        return self._notices.boundary(f"{self._asker}: {what} could not be recorded")

    def parameters(self, section: str, values: Mapping[str, Any]) -> None:
        with self.guard("parameters"):
            known = {f"{section}/{name}": _plain(value) for name, value in values.items()}
            if known:
                self.task.update_parameters(known)

    def configuration(self, name: str, values: Mapping[str, Any]) -> None:
        with self.guard(f"configuration {name!r}"):
            self.task.set_configuration_object(name, config_dict=_plain(values))

    def scalar(self, title: str, series: str, value: Any, iteration: int) -> None:
        """What is no number (a name, a list) is left out: frameworks log such beside the numbers."""
        with self.guard(f"scalar {title!r} / {series!r}"):
            if not isinstance(value, str | bytes | list | tuple | dict) and value is not None:
                self.logger.report_scalar(title, series, value, iteration)

    def saved(self, path: str | Path, framework: str, iteration: int, metadata: Mapping[str, Any]) -> None:
        """Weights that the framework wrote; told by its binding already, they are the same model, and not copied again."""
        with self.guard(f"the model {str(path)!r}"):
            if self._session is None:
                return
            weights = weights_of(self._session)
            if not weights.noted(path, framework, iteration, metadata):
                weights.saved(path, framework, iteration=iteration, metadata=metadata)

    def at_end(self, last: Any) -> None:
        """Have `last.stop(timeout)` called when the task of this process ends."""
        if self._session is not None:
            self._session.watch(last)


def _is_first() -> bool:
    """Whether this is the first of the processes that train together, or the only one."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) in {"0", ""}


def split(name: str) -> tuple[str, str]:
    """`train/loss` -> graph `train`, curve `loss`; `loss` is both."""
    title, _, series = name.rpartition("/")
    return (title, series) if title and series else (name, name)


def _plain(value: Any) -> Any:
    """Values that parameters and JSON can hold; of others their text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
