"""One condition of a query as SQL: on a field of the task, or on its filterable values.

A value condition is a test on one row of `task_values`, and whether such a row must or must not be there: what a
task does not have cannot be tested otherwise. Which tests may use which index is decided in query.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, exists, false, func, not_, or_, select

from taskloom.domain.errors import BadInput
from taskloom.server.db import compare, like
from taskloom.server.patterns import check_pattern, name_condition
from taskloom.server.tables import projects, task_tags, task_values, tasks
from taskloom.server.tasks.store import VALUE_TEXT
from taskloom.wire.messages import Condition

MAX_LIST = 10_000  # entries of an `in`
VALUES = ("parameters.", "metrics.", "properties.", "runtime.", "execution.")
TEXTS: dict[str, ColumnElement[Any]] = {
    "id": tasks.c.id,
    "name": tasks.c.name,
    "comment": tasks.c.comment,
    "project_id": tasks.c.project_id,
    "status": tasks.c.status,
    "type": tasks.c.type,
    "user": tasks.c.user,
    "parent": tasks.c.parent,
    "queue": tasks.c.queue_id,
    "worker": tasks.c.worker,
    "status_message": tasks.c.status_message,
    "status_reason": tasks.c.status_reason,
    "output_uri": tasks.c.output_uri,
}
TAGS = {"tags": False, "system_tags": True}
TIMES = frozenset({"created", "started", "completed", "status_changed", "last_update"})  # 0: none
NUMBERS: dict[str, ColumnElement[Any]] = {name: tasks.c[name] for name in (*TIMES, "last_iteration", "progress")}
PATH = "project"
FIELDS = frozenset({*TEXTS, *NUMBERS, *TAGS, PATH})
INDEXED = frozenset({"id", "name", "status", "parent", "project_id", PATH})
SINGLE = frozenset({"=", "!=", "<", "<=", ">", ">=", "contains", "matches"})

Test = ColumnElement[bool]
Scalar = float | str


# --- checks -----------------------------------------------------------------------------------------------


def check_value(condition: Condition) -> None:
    """Raises BadInput when the value does not fit the comparison or the key; the key is known already."""
    value, what = condition.value, f"where {condition.key[:80]!r} {condition.is_}"
    if (value is None) != (condition.is_ == "exists"):
        raise BadInput(f"{what}: expected {'no value' if condition.is_ == 'exists' else 'a value'}")
    if isinstance(value, list) is (condition.is_ in SINGLE) and value is not None:
        raise BadInput(f"{what}: expected {'one value' if condition.is_ in SINGLE else 'a list'}")
    if condition.is_ in {"contains", "matches"} and condition.key in NUMBERS:
        raise BadInput(f"{what}: {condition.key!r} is a number")
    items = value if isinstance(value, list) else [] if value is None else [value]
    if len(items) > MAX_LIST:
        raise BadInput(f"{what}: {len(items)} entries; expected at most {MAX_LIST}")
    for item in items:
        if isinstance(item, float) and math.isnan(item):
            raise BadInput(f"{what}: nothing compares with NaN; the text 'NaN' finds it")
        if condition.key in NUMBERS and item != "" and _number(item) is None:
            raise BadInput(f"{what}: {item!r:.80} is no number; times are seconds since the epoch")
    if condition.is_ == "matches":
        if not isinstance(value, str):
            raise BadInput(f"{what}: expected a pattern")
        check_pattern(value)


# --- fields of the task -----------------------------------------------------------------------------------


def narrows(condition: Condition) -> bool:
    """Whether it names what is wanted in a column that has an index."""
    given = condition.value
    return condition.key in INDEXED and (
        condition.is_ == "=" or (condition.is_ == "in" and isinstance(given, list) and "" not in given)
    )


def field_test(connection: Connection, condition: Condition, *, plain: bool) -> Test:
    """On a column of tasks; `plain` keeps the planner from using its index."""
    if condition.key in TAGS:
        return _tag_test(connection, condition)
    if condition.key == PATH:
        found = select(projects.c.id).where(_text_test(connection, projects.c.name, condition))
        column = func.coalesce(tasks.c.project_id, "") if plain else tasks.c.project_id
        return column.in_(found)
    if condition.key in TEXTS:
        column = TEXTS[condition.key]
        hides = plain and condition.is_ != "matches" and condition.key in INDEXED
        return _text_test(connection, func.coalesce(column, "") if hides else column, condition)
    column = NUMBERS[condition.key]
    hides = plain and condition.key in {"created", "last_update"}
    return _number_test(func.coalesce(column, 0.0) if hides else column, condition)


def _tag_test(connection: Connection, condition: Condition) -> Test:
    """Any of the tags passes; a negative comparison says that none is the one."""
    own = and_(task_tags.c.task_id == tasks.c.id, task_tags.c.system == TAGS[condition.key])
    has_some = exists().where(own)
    if condition.value is None:
        return has_some
    if condition.is_ in {"!=", "not in"}:
        same = msgspec.structs.replace(condition, is_="=" if condition.is_ == "!=" else "in")
        return not_(_tag_test(connection, same))
    found = exists().where(own, _text_test(connection, task_tags.c.tag, condition))
    wanted = condition.value if isinstance(condition.value, list) else [condition.value]
    return or_(found, not_(has_some)) if "" in wanted and condition.is_ in {"=", "in"} else found


def _text_test(connection: Connection, column: ColumnElement[Any], condition: Condition) -> Test:
    """None is the empty text in these columns."""
    value = condition.value
    if value is None:
        return column != ""
    if isinstance(value, list):
        items = [_text(item) for item in value]
        return column.in_(items) if condition.is_ == "in" else column.not_in(items)
    text = _text(value)
    if condition.is_ == "contains":
        return holds(column, text)
    if condition.is_ == "matches":
        return name_condition(connection, column, text)
    return compare(column, condition.is_, text)


def _number_test(column: ColumnElement[Any], condition: Condition) -> Test:
    value = condition.value
    absent: Test = column == 0 if condition.key in TIMES else column.is_(None)
    if value is None:
        return not_(absent)
    if isinstance(value, list):
        numbers = [found for item in value if (found := _number(item)) is not None]
        there = and_(not_(absent), column.in_(numbers)) if numbers else false()
        found = or_(absent, there) if "" in value else there
        return found if condition.is_ == "in" else not_(found)
    if value == "":  # compared with nothing: only whether it has a value can be told
        return absent if condition.is_ == "=" else not_(absent) if condition.is_ == "!=" else false()
    number = _number(value)
    compared = false() if number is None else compare(column, condition.is_, number)
    if condition.key not in TIMES:
        return compared
    return or_(absent, compared) if condition.is_ == "!=" else and_(compared, not_(absent))


# --- values -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ValueTest:
    """`row` is on `task_values`; `there`: a row that passes must be there, else none may be."""

    row: Test
    there: bool = True

    def test(self) -> Test:
        found = exists().where(task_values.c.task_id == tasks.c.id, self.row)
        return found if self.there else not_(found)


def value_test(connection: Connection, condition: Condition) -> ValueTest:
    key = task_values.c.key == condition.key
    value = condition.value
    if isinstance(value, list):
        among = _among(value)
        if "" not in value:
            return ValueTest(and_(key, among), there=condition.is_ == "in")
        other = and_(key, not_(among))  # has a value, and one that is not in the list
        return ValueTest(other, there=condition.is_ == "not in")
    if condition.is_ == "matches":
        return ValueTest(and_(key, name_condition(connection, task_values.c.text, str(value), key)))
    return ValueTest(_single(key, condition, value))


def _single(key: Test, condition: Condition, value: Scalar | None) -> Test:
    """A number compares numbers; a text compares texts, or numbers where both are numbers."""
    if value is None:
        return key
    if condition.is_ == "contains":
        return and_(key, holds(task_values.c.text, _text(value)))
    read = _number(value)
    text = value[:VALUE_TEXT] if isinstance(value, str) else None
    numbers = None if read is None else compare(task_values.c.number, condition.is_, read)
    if text is None or (numbers is not None and condition.is_ not in {"=", "!="}):
        return and_(key, numbers if numbers is not None else false())
    texts = compare(task_values.c.text, condition.is_, text)
    if numbers is None:
        return and_(key, texts)
    if condition.is_ == "=":
        return and_(key, or_(texts, numbers))
    return and_(key, func.coalesce(texts, True), func.coalesce(numbers, True))


def _among(items: Sequence[Scalar]) -> Test:
    """The row's text or number is one of these; never NULL, so that it can be turned round."""
    texts = [item[:VALUE_TEXT] for item in items if isinstance(item, str)]
    numbers = [found for item in items if (found := _number(item)) is not None]
    parts = [func.coalesce(task_values.c.text.in_(texts), false())] if texts else []
    if numbers:
        parts.append(func.coalesce(task_values.c.number.in_(numbers), false()))
    return or_(*parts) if parts else false()


# --- both -------------------------------------------------------------------------------------------------


def holds(column: ColumnElement[Any], text: str) -> Test:
    return column.ilike(like(text), escape="!")


def _number(value: Scalar) -> float | None:
    try:
        found = float(value)
    except ValueError:
        return None
    return None if math.isnan(found) else found


def _text(value: Scalar) -> str:
    return value if isinstance(value, str) else f"{value:g}"
