"""SQL of task lists: filters, order, pages and totals that stay quick at a million tasks.

The trap is the plan: a rare parameter value must be looked up in its index, a common one must not, and a page
sorted by a metric is read off the metric's index unless few tasks match. The databases guess this wrongly, so
capped counts decide: ids of a filter that matches few tasks are fetched first and everything else looks at
those only; otherwise the order's index is walked and the filters are asked per task. Comparisons that must not
tempt the planner away from that are wrapped by `_plain`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    asc,
    desc,
    exists,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
)

from taskloom.domain import tagquery
from taskloom.domain.errors import BadInput
from taskloom.domain.project import check_text
from taskloom.domain.task import ARCHIVED_TAG, HIDDEN_TAG, Task
from taskloom.server.tables import projects, task_tags, task_values, tasks
from taskloom.server.tasks.conditions import (
    FIELDS,
    VALUES,
    check_value,
    field_test,
    holds,
    narrows,
    value_test,
)
from taskloom.wire.messages import Condition, TaskQuery

RARE = 1000  # so many ids are fetched and sorted; more, and an index is walked
MAX_IDS, MAX_WORDS, MAX_CONDITIONS, MAX_ORDERS = 10_000, 200, 32, 8
MAX_CHOICES = 256  # conditions in all lists of `any_of` together
MAX_TEXT = 1024  # characters of a text that is looked for
MAX_COUNT = 1_000_000
MAX_OFFSET = 2**31

COLUMNS: dict[str, Any] = {
    name: tasks.c[name]
    for name in (
        "last_update",
        "created",
        "started",
        "completed",
        "name",
        "status",
        "type",
        "user",
        "last_iteration",
        "progress",
        "id",
        "comment",
        "parent",
        "worker",
        "status_changed",
    )
}
COLUMNS["project"] = select(projects.c.name).where(projects.c.id == tasks.c.project_id).scalar_subquery()
ASKED = frozenset(Task.__struct_fields__)

Test = ColumnElement[bool]


@dataclass(frozen=True)
class Page:
    ids: list[str]
    total: int


@dataclass(frozen=True)
class _Order:
    """One key of the order: a column of tasks, or the values under `key`."""

    name: str
    reverse: bool

    @property
    def column(self) -> ColumnElement[Any] | None:
        return COLUMNS.get(self.name)

    def by(self, *columns: ColumnElement[Any]) -> list[ColumnElement[Any]]:
        """Missing values come last whichever way the order runs."""
        return [part for c in columns for part in (c.is_(None), desc(c) if self.reverse else asc(c))]


# --- checks -----------------------------------------------------------------------------------------------


def check(query: TaskQuery, max_page: int) -> None:
    """Raises BadInput that says what was expected and names the nearest known word."""
    _between("limit", query.limit, 1, max_page)
    _between("offset", query.offset, 0, MAX_OFFSET)
    _between("count_to", query.count_to, 0, MAX_COUNT)
    for name, items, most in (
        ("ids", query.ids, MAX_IDS),
        ("user", query.user, MAX_WORDS),
        ("parent", query.parent, MAX_WORDS),
        ("tags", query.tags, MAX_WORDS),
        ("system_tags", query.system_tags, MAX_WORDS),
        ("where", query.where, MAX_CONDITIONS),
        ("any_of", query.any_of, MAX_CONDITIONS),
        ("any_of", [c for choice in query.any_of for c in choice], MAX_CHOICES),
        ("order_by", query.order_by, MAX_ORDERS),
    ):
        if len(items) > most:
            raise BadInput(f"{name}: {len(items)} entries; expected at most {most}")
    for name in ("project", "name", "search"):
        _text(name, getattr(query, name))
    for name in ("ids", "user", "parent", "tags", "system_tags"):
        for item in getattr(query, name):
            _text(name, item)
    for name in query.fields:
        if name not in ASKED:
            raise BadInput(f"fields: a task has no {name[:80]!r}{_nearest(name, ASKED)}", field=name[:80])
    for key in query.order_by:
        _key(key.removeprefix("-"), "order_by", COLUMNS)
    for condition in query.where:
        _check_condition(condition, "where")
    for choice in query.any_of:
        if not choice:
            raise BadInput("any_of: an empty list, of which nothing can hold")
        for condition in choice:
            _check_condition(condition, "any_of")


def _check_condition(condition: Condition, what: str) -> None:
    _key(condition.key, what, FIELDS)
    items = condition.value if isinstance(condition.value, list) else [condition.value]
    for item in items:
        if isinstance(item, str) and condition.is_ != "matches":
            _text(f"{what} {condition.key!r}", item)
    check_value(condition)


def _key(key: str, what: str, columns: Iterable[str]) -> None:
    _text(what, key)
    if key in columns or (key.startswith(VALUES) and not key.endswith(".")):
        return
    known = [*sorted(columns), *(f"{prefix}NAME" for prefix in VALUES)]
    head = key.partition(".")[0]
    near = _nearest(head, [*columns, *(prefix[:-1] for prefix in VALUES)])
    raise BadInput(f"{what}: unknown key {key[:80]!r}{near}; expected {', '.join(known)}", key=key[:80])


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word[:80], sorted(known), n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else ""


def _text(what: str, text: str) -> None:
    if len(text) > MAX_TEXT:
        raise BadInput(f"{what}: {len(text)} characters; expected at most {MAX_TEXT}")
    check_text(text, what)


def _between(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise BadInput(f"{name} {value}: expected {low} to {high}")


# --- the page ---------------------------------------------------------------------------------------------


def page(connection: Connection, query: TaskQuery) -> Page:
    """The ids of the page, in order, and the total counted up to `count_to` (one more: at least so many)."""
    orders = [_Order(k.removeprefix("-"), k.startswith("-")) for k in query.order_by] or [
        _Order("last_update", True)
    ]
    tests = _Tests(connection, query)
    few = _few(connection, tests)
    if few is not None:
        ids = _sorted(connection, few, orders, query)
        return Page(ids, min(len(few), query.count_to + 1))
    counted = tests.counting().limit(query.count_to + 1).subquery()
    total = connection.execute(select(func.count()).select_from(counted)).scalar_one()
    return Page(_walked(connection, tests, orders, query), total)


def _few(connection: Connection, tests: _Tests) -> list[str] | None:
    """All ids that match, when they are few; None when they are many or nothing was asked for."""
    if not tests.selective:
        return None
    picked: list[str] | None = None
    for candidate in tests.candidates():
        ids = list(connection.execute(candidate.limit(RARE + 1)).scalars())
        if len(ids) <= RARE and (picked is None or len(ids) < len(picked)):
            picked = ids
    if picked is None:
        matching = select(tasks.c.id).where(*tests.native()).limit(RARE + 1)
    else:
        matching = select(tasks.c.id).where(tasks.c.id.in_(picked), *tests.plain())
    ids = list(connection.execute(matching).scalars())
    return ids if len(ids) <= RARE else None


def _sorted(connection: Connection, ids: Sequence[str], orders: Sequence[_Order], query: TaskQuery) -> list[str]:
    source, terms = _joined(orders, skip=0)
    statement = select(tasks.c.id).select_from(source).where(tasks.c.id.in_(list(ids)))
    statement = statement.order_by(*terms, _tie(orders)).limit(query.limit).offset(query.offset)
    return list(connection.execute(statement).scalars())


def _walked(connection: Connection, tests: _Tests, orders: Sequence[_Order], query: TaskQuery) -> list[str]:
    """Pages over all tasks: along a column, or along the index of a key's numbers, then texts, then the rest."""
    ids: list[str] = []
    skip = query.offset
    for part in _parts(tests, orders):
        wanted = query.limit - len(ids)
        found = list(connection.execute(part.limit(wanted).offset(skip)).scalars())
        ids += found
        if len(ids) == query.limit:
            break
        if found:
            skip = 0
        elif skip:
            rows = part.order_by(None).subquery()
            skip -= connection.execute(select(func.count()).select_from(rows)).scalar_one()
    return ids


def _parts(tests: _Tests, orders: Sequence[_Order]) -> list[Select[Any]]:
    first = orders[0]
    if first.column is not None:
        source, terms = _joined(orders, skip=0)
        return [select(tasks.c.id).select_from(source).where(*tests.native()).order_by(*terms, _tie(orders))]
    source, terms = _joined(orders, skip=1)
    value = task_values.alias("walked")
    keyed = source.join(value, and_(value.c.task_id == tasks.c.id, value.c.key == first.name))
    direction = desc if first.reverse else asc
    numbers = (
        select(value.c.task_id)
        .select_from(keyed)
        .where(value.c.key == first.name, value.c.number.is_not(None), *tests.plain())
        .order_by(direction(value.c.number), *terms, direction(value.c.task_id))
    )
    texts = (
        select(value.c.task_id)
        .select_from(keyed)
        .where(value.c.key == first.name, value.c.number.is_(None), *tests.plain())
        .order_by(direction(value.c.text), *terms, direction(value.c.task_id))
    )
    has_value = exists().where(task_values.c.task_id == tasks.c.id, task_values.c.key == first.name)
    rest = select(tasks.c.id).select_from(source).where(*tests.native(), not_(has_value))
    return [numbers, texts, rest.order_by(*terms, _tie(orders))]


def _joined(orders: Sequence[_Order], *, skip: int) -> tuple[Any, list[ColumnElement[Any]]]:
    """Tasks with the values that the orders after the first `skip` need, and the terms to sort by."""
    source: Any = tasks
    terms: list[ColumnElement[Any]] = []
    for number, order in enumerate(orders[skip:]):
        if order.column is not None:
            nullable = order.name in {"last_iteration", "progress"}
            terms += (
                order.by(order.column) if nullable else [desc(order.column) if order.reverse else order.column]
            )
            continue
        value = task_values.alias(f"sort{number}")
        source = source.outerjoin(value, and_(value.c.task_id == tasks.c.id, value.c.key == order.name))
        terms += order.by(value.c.number, value.c.text)
    return source, terms


def _tie(orders: Sequence[_Order]) -> ColumnElement[Any]:
    return desc(tasks.c.id) if orders[0].reverse else asc(tasks.c.id)


def value_keys(connection: Connection, prefix: str) -> list[str]:
    """The distinct keys of `task_values` with this beginning, each by one look into the index.

    All keys are walked: which of them stand together depends on the database's order of letters.
    """
    after = task_values.alias("after")
    first = select(func.min(task_values.c.key).label("key")).cte("walk", recursive=True)
    following = select(func.min(after.c.key)).where(after.c.key > first.c.key).scalar_subquery()
    walk = first.union_all(select(following).where(first.c.key.is_not(None)))
    keys = connection.execute(select(walk.c.key).where(walk.c.key.is_not(None))).scalars()
    return [key for key in keys if key.startswith(prefix)]


# --- filters ----------------------------------------------------------------------------------------------


class _Tests:
    """The filters of a query as SQL; `native` lets the planner use the indexes of tasks, `plain` does not."""

    def __init__(self, connection: Connection, query: TaskQuery) -> None:
        self._query, self._connection = query, connection
        self._projects = _project_ids(connection, query) if query.project else []
        self._tags = tagquery.parse_tags(query.tags)
        self._system = tagquery.parse_tags(query.system_tags)
        named = {tag for group in self._system.groups for tag in group.tags}
        self._show_hidden = query.hidden or bool(query.ids) or not named.isdisjoint({ARCHIVED_TAG, HIDDEN_TAG})
        self._tag_tests = [*_tag_tests(self._tags, False), *_tag_tests(self._system, True)]
        fields = [c for c in query.where if c.key in FIELDS]
        self._fields = {plain: [field_test(connection, c, plain=plain) for c in fields] for plain in (False, True)}
        self._values = [value_test(connection, c) for c in query.where if c.key not in FIELDS]
        self._rest = [*(value.test() for value in self._values), *map(self._choice, query.any_of)]
        self._narrowed = bool(query.ids or query.parent or query.status or (query.exact_name and query.name))
        self._narrowed = self._narrowed or any(map(narrows, fields))

    @property
    def selective(self) -> bool:
        q = self._query
        texts = q.project or q.name or q.search
        lists = q.ids or q.tags or q.system_tags or q.status or q.type or q.user or q.parent
        return bool(texts or lists or q.where or q.any_of)

    def native(self) -> list[Test]:
        """`hidden` is the least telling index, so it is left to the planner only when it stands alone."""
        return [*self._columns(plain=False, plain_hidden=self._narrowed), *self._tag_tests, *self._rest]

    def plain(self) -> list[Test]:
        return [*self._columns(plain=True, plain_hidden=True), *self._tag_tests, *self._rest]

    def counting(self) -> Select[Any]:
        """A row for each task that matches; along the values of a condition when only those are indexed."""
        first = next((number for number, value in enumerate(self._values) if value.there), None)
        if first is None or self._narrowed or self._query.project:
            return select(literal(1)).select_from(tasks).where(*self.native())
        found = select(task_values.c.task_id).where(self._values[first].row).subquery()
        source = found.join(tasks, tasks.c.id == found.c.task_id)
        others = self._rest[:first] + self._rest[first + 1 :]
        tests = [*self._columns(plain=True, plain_hidden=True), *self._tag_tests, *others]
        return select(literal(1)).select_from(source).where(*tests)

    def _columns(self, *, plain: bool, plain_hidden: bool) -> list[Test]:
        q = self._query

        def column(name: str) -> ColumnElement[Any]:
            return _plain(tasks.c[name]) if plain else tasks.c[name]

        found: list[Test] = []
        if not self._show_hidden:
            hidden = func.coalesce(tasks.c.hidden, true()) if plain_hidden else tasks.c.hidden
            found.append(hidden == false())
        if q.ids:
            found.append(column("id").in_(q.ids))
        if q.project:
            found.append(column("project_id").in_(self._projects))
        if q.status:
            found.append(column("status").in_([s.value for s in q.status]))
        if q.type:
            found.append(tasks.c.type.in_([t.value for t in q.type]))
        if q.user:
            found.append(tasks.c.user.in_(q.user))
        if q.parent:
            found.append(column("parent").in_(q.parent))
        if q.name:
            found.append(column("name") == q.name if q.exact_name else holds(tasks.c.name, q.name))
        if q.search:
            found.append(or_(*(holds(tasks.c[name], q.search) for name in ("name", "comment", "id"))))
        return found + self._fields[plain]

    def _choice(self, conditions: Sequence[Condition]) -> Test:
        """At least one of them holds. No index helps with that."""
        return or_(
            *(
                field_test(self._connection, c, plain=True)
                if c.key in FIELDS
                else value_test(self._connection, c).test()
                for c in conditions
            )
        )

    def candidates(self) -> list[Select[Any]]:
        """Selects of task ids from an index, each a superset of what matches."""
        found = [*_tag_candidates(self._tags, False), *_tag_candidates(self._system, True)]
        found += [select(task_values.c.task_id).where(value.row) for value in self._values if value.there]
        return found


def _plain(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The same value, of no use to an index."""
    return func.coalesce(column, "")


def _project_ids(connection: Connection, query: TaskQuery) -> list[str]:
    test: Test = projects.c.name == query.project
    if query.subprojects:
        start = f"{query.project}/"
        test = or_(test, func.substr(projects.c.name, 1, len(start)) == start)
    return list(connection.execute(select(projects.c.id).where(test)).scalars())


def _tag_tests(query: tagquery.TagQuery, system: bool) -> list[Test]:
    def has(tags: Sequence[str]) -> Test:
        return exists().where(
            task_tags.c.task_id == tasks.c.id, task_tags.c.system == system, task_tags.c.tag.in_(list(tags))
        )

    groups = [
        and_(*(has([tag]) for tag in group.tags)) if group.every else has(group.tags) for group in query.groups
    ]
    found: list[Test] = []
    if groups:
        found.append(and_(*groups) if query.every else or_(*groups))
    if query.excluded:
        found.append(not_(has(query.excluded)))
    return found


def _tag_candidates(query: tagquery.TagQuery, system: bool) -> list[Select[Any]]:
    def holders(tags: Sequence[str]) -> Select[Any]:
        found = select(task_tags.c.task_id).where(task_tags.c.system == system, task_tags.c.tag.in_(list(tags)))
        return found.distinct() if len(tags) > 1 else found

    if not query.groups:
        return []
    if not query.every:  # one tag of every group covers each way to match
        return [holders(sorted({tag for g in query.groups for tag in (g.tags[:1] if g.every else g.tags)}))]
    return [holders([tag]) for g in query.groups if g.every for tag in g.tags] + [
        holders(g.tags) for g in query.groups if not g.every
    ]
