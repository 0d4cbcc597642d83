"""What a task may hold: sizes, names, tags, numbers. Raises BadInput or TooLarge that name the thing.

Only what an edit changes is checked, so that a task from an older day can still be renamed. Pure values: no
database, no state; whether an edit is allowed now is the service's rule.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from taskloom.domain.errors import BadInput, TooLarge
from taskloom.domain.execution import Execution
from taskloom.domain.parameters import flatten
from taskloom.domain.project import check_name, check_project, check_tag, check_text
from taskloom.domain.task import SHORT_TEXT, Task, TaskEdit, apply_edit
from taskloom.server.settings import MIB
from taskloom.server.tasks.execution_checks import check_execution

MAX_TEXT = 16 * MIB  # characters of a diff, a configuration object, a list of packages
MAX_DOCUMENT = 48 * MIB  # bytes of everything that is kept as one document
MAX_VALUE = MIB  # characters of one parameter or property
MAX_NAMES = 50_000  # parameters of a task; configuration objects, properties and runtime values each
MAX_TAGS = 256
MAX_SHORT = 4096  # characters of an address, a branch, an image
_ID = re.compile(r"[0-9a-f]{32}")
_WRITER = re.compile(r"[0-9A-Za-z_.-]{1,64}")
_pack = msgspec.msgpack.Encoder().encode


def check_id(text: str, what: str = "task id") -> str:
    if not _ID.fullmatch(text):
        raise BadInput(f"{what} {text[:80]!a}: expected 32 lower-case hexadecimal digits")
    return text


def check_writer(text: str) -> str:
    if not _WRITER.fullmatch(text):
        raise BadInput(f"writer {text[:80]!a}: expected 1 to 64 letters, digits, dots, dashes or underscores")
    return text


def edited(task: Task, edit: TaskEdit) -> Task:
    """The task after the edit, checked; raises BadInput also for fields that an execution does not have."""
    for name in edit.execution or ():
        if name not in Execution.__struct_fields__:
            near = difflib.get_close_matches(name[:80], Execution.__struct_fields__, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise BadInput(f"execution has no field {name[:80]!r}{hint}", field=name[:80])
    try:
        after = apply_edit(task, edit)
    except (msgspec.ValidationError, TypeError) as error:
        raise BadInput(f"edit: {error}") from None
    return checked(after, before=task)


def checked(task: Task, before: Task | None = None) -> Task:
    """The task with its names cleaned; with `before` only what differs from it is looked at."""

    def differs(field: str) -> bool:
        return before is None or getattr(before, field) != getattr(task, field)

    changes: dict[str, Any] = {}
    if differs("name"):
        changes["name"] = check_name(task.name, "task name")
    if differs("project"):
        changes["project"] = check_project(task.project)
    for field in ("tags", "system_tags"):
        if differs(field):
            changes[field] = check_tags(getattr(task, field), field)
    if differs("comment"):
        check_long(task.comment, "comment")
    if differs("parent") and task.parent:
        check_id(task.parent, "parent")
    if differs("output_uri"):
        _short(task.output_uri, "output_uri")
    if differs("progress") and task.progress is not None and not 0 <= task.progress <= 100:
        raise BadInput(f"progress {task.progress}: expected a number from 0 to 100")
    if differs("execution"):
        check_execution(task.execution)
    _check_documents(task, differs)
    return msgspec.structs.replace(task, **changes)


def check_tags(tags: Iterable[str], what: str) -> tuple[str, ...]:
    distinct = tuple(dict.fromkeys(check_tag(tag) for tag in tags))
    if len(distinct) > MAX_TAGS:
        raise TooLarge(f"{what}: {len(distinct)}; expected at most {MAX_TAGS}", limit=MAX_TAGS)
    return distinct


def check_long(text: str, what: str, limit: int = SHORT_TEXT) -> str:
    """Free text: anything but NUL, up to the limit."""
    if len(text) > limit:
        raise TooLarge(f"{what} has {len(text)} characters; expected at most {limit}", limit=limit)
    if "\0" in text:
        raise BadInput(f"{what} holds a NUL character")
    return text


def told(text: str) -> str:
    """A text that a run left about its end, made storable: without NUL; of a long one both ends are kept."""
    text = text.replace("\0", "\ufffd")
    if len(text) <= SHORT_TEXT:
        return text
    half = SHORT_TEXT // 2 - 16
    return f"{text[:half]}\n[... cut ...]\n{text[-half:]}"


def finite(number: float, what: str) -> float:
    if not math.isfinite(number):
        raise BadInput(f"{what} {number}: expected a finite number")
    return number


def _check_documents(task: Task, differs: Any) -> None:
    """Many names, long values, and all of it together."""
    touched = False
    if differs("parameters"):
        touched = True
        flat = flatten(task.parameters)
        _count(len(flat), "parameters")
        for name, parameter in flat.items():
            _value(parameter.value, f"parameter {name[:80]!r}")
            section, _, rest = name.partition("/")
            if not section or not rest:
                raise BadInput(f"parameter {name[:80]!r}: expected a section and a name")
    for field, limit in (("configuration", MAX_TEXT), ("properties", MAX_VALUE)):
        if differs(field):
            touched = True
            named = getattr(task, field)
            _count(len(named), field)
            for name, item in named.items():
                if not name:
                    raise BadInput(f"{field}: a name is empty")
                _value(item.value, f"{field} {name[:80]!r}", limit)
    if differs("runtime"):
        touched = True
        _count(len(task.runtime), "runtime")
    if touched or differs("execution"):
        parts = (task.execution, task.parameters, task.configuration, task.properties, task.runtime)
        try:
            size = sum(len(_pack(part)) for part in parts)
        except (OverflowError, RecursionError) as error:
            raise BadInput(f"the task's document cannot be stored: {error}") from None
        if size > MAX_DOCUMENT:
            raise TooLarge(
                f"the task's document has {size} bytes; expected at most {MAX_DOCUMENT}", limit=MAX_DOCUMENT
            )


def _count(found: int, what: str) -> None:
    if found > MAX_NAMES:
        raise TooLarge(f"{what}: {found} of them; expected at most {MAX_NAMES}", limit=MAX_NAMES)


def _value(text: str, what: str, limit: int = MAX_VALUE) -> None:
    if len(text) > limit:
        raise TooLarge(f"{what} has {len(text)} characters; expected at most {limit}", limit=limit)


def _short(text: str, what: str) -> None:
    if len(text) > MAX_SHORT:
        raise TooLarge(f"{what} has {len(text)} characters; expected at most {MAX_SHORT}", limit=MAX_SHORT)
    check_text(text, what)
