"""SQL of model lists: filters, order and pages. Tables of models are small beside those of tasks: no plan is forced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, asc, desc, exists, false, func, not_, or_, select, true

from taskloom.domain.artifact import Model
from taskloom.domain.errors import BadInput
from taskloom.domain.project import check_text
from taskloom.domain.tagquery import TagGroup, TagQuery, parse_tags
from taskloom.server.artifacts.store import MODEL, read_model
from taskloom.server.db import compare, like
from taskloom.server.patterns import name_condition
from taskloom.server.tables import model_tags, model_values, models
from taskloom.wire.messages import Condition, ModelQuery

Test = ColumnElement[bool]
METADATA = "metadata."
MAX_WORDS = 1000
MAX_TEXT = 4096
_TEXTS = {
    "id": models.c.id,
    "name": models.c.name,
    "comment": models.c.comment,
    "project": models.c.project,
    "task": models.c.task_id,
    "user": models.c.user,
    "framework": models.c.framework,
    "uri": models.c.uri,
    "digest": models.c.digest,
    "fingerprint": models.c.fingerprint,
    "parent": models.c.parent,
}
_NUMBERS = {"created": models.c.created, "last_update": models.c.last_update, "iteration": models.c.iteration}
_ORDERS = {**_TEXTS, **_NUMBERS, "published": models.c.published}


def page(tx: Connection, query: ModelQuery) -> tuple[list[Model], int]:
    """The models of the page, in order, and how many there are in all. Raises BadInput."""
    tests = _tests(tx, query)
    found = select(*MODEL).where(*tests).order_by(*_order(query.order_by))
    rows = tx.execute(found.limit(query.limit).offset(query.offset))
    total = tx.execute(select(func.count()).select_from(models).where(*tests)).scalar_one()
    return [read_model(row) for row in rows], total


def _tests(tx: Connection, query: ModelQuery) -> list[Test]:
    for name in ("ids", "tags", "system_tags", "where", "any_of", "order_by"):
        if len(getattr(query, name)) > MAX_WORDS:
            raise BadInput(f"{name}: {len(getattr(query, name))} entries; expected at most {MAX_WORDS}")
    for text in (query.name, query.project, query.task, query.digest, query.framework, *query.ids):
        check_text(text, "a text of the query")
    found: list[Test] = []
    if query.ids:
        found.append(models.c.id.in_(query.ids))
    if query.name:
        found.append(func.lower(models.c.name).like(like(query.name.lower()), escape="!"))
    for column, value in (
        (models.c.project, query.project),
        (models.c.task_id, query.task),
        (models.c.digest, query.digest),
        (models.c.framework, query.framework),
    ):
        if value:
            found.append(column == value)
    if query.only_published:
        found.append(models.c.published.is_(True))
    for system, words in ((False, query.tags), (True, query.system_tags)):
        found += _tag_tests(parse_tags([check_text(word, "a tag") for word in words]), system)
    found += [_test(tx, condition) for condition in query.where]
    found += [or_(false(), *(_test(tx, condition) for condition in some)) for some in query.any_of]
    return found


def _order(keys: Sequence[str]) -> list[ColumnElement[Any]]:
    terms: list[ColumnElement[Any]] = []
    for key in keys or ["-last_update"]:
        column = _ORDERS.get(key.removeprefix("-"))
        if column is None:
            raise BadInput(f"order_by: a model has no {key[:80]!r}; expected {', '.join(_ORDERS)}")
        down = key.startswith("-")
        if column is models.c.iteration:
            terms.append(column.is_(None))
        terms.append(desc(column) if down else asc(column))
    return [*terms, models.c.id]


# --- conditions -------------------------------------------------------------------------------------------


def _test(tx: Connection, condition: Condition) -> Test:
    key, value = condition.key, condition.value
    words = value if isinstance(value, list) else [] if value is None else [value]
    if len(words) > MAX_WORDS or any(isinstance(word, str) and len(word) > MAX_TEXT for word in words):
        raise BadInput(f"where {key[:80]!r}: expected at most {MAX_WORDS} values of {MAX_TEXT} characters")
    for word in words:
        if isinstance(word, str):
            check_text(word, f"where {key[:80]!a}")
    if isinstance(value, list) != (condition.is_ in {"in", "not in"}):
        raise BadInput(f"where {key[:80]!r} {condition.is_}: expected {'one value' if words else 'a value'}")
    if (value is None) != (condition.is_ == "exists"):
        raise BadInput(f"where {key[:80]!r} {condition.is_}: expected {'no' if value is not None else 'a'} value")
    if key.startswith(METADATA) and key != METADATA:
        return _metadata_test(tx, key.removeprefix(METADATA), condition, words)
    if key in {"tags", "system_tags"}:
        return _tags_test(key == "system_tags", condition, words)
    if key == "published":
        wanted = [str(word).lower() in {"true", "1", "1.0"} for word in words]
        test = models.c.published.is_(wanted[0]) if wanted else true()
        return not_(test) if condition.is_ == "!=" else test
    if key in _NUMBERS:
        return _number_test(key, condition, words)
    if key not in _TEXTS:
        known = ", ".join([*_TEXTS, *_NUMBERS, "published", f"{METADATA}NAME"])
        raise BadInput(f"where: a model has no {key[:80]!r}; expected {known}")
    column = _TEXTS[key]
    if condition.is_ == "exists":
        return column != ""
    return _text_test(tx, column, condition, words)


def _text_test(tx: Connection, column: ColumnElement[Any], condition: Condition, words: Sequence[Any]) -> Test:
    texts = [word if isinstance(word, str) else f"{word:g}" for word in words]
    match condition.is_:
        case "=":
            return column == texts[0]
        case "!=":
            return column != texts[0]
        case "contains":
            return func.lower(column).like(like(texts[0].lower()), escape="!")
        case "matches":
            return name_condition(tx, column, texts[0])
        case "in":
            return column.in_(texts)
        case "not in":
            return not_(column.in_(texts))
        case _:
            return compare(column, condition.is_, texts[0])


def _number_test(key: str, condition: Condition, words: Sequence[Any]) -> Test:
    column = _NUMBERS[key]
    if condition.is_ == "exists":
        return column.is_not(None)
    try:
        numbers = [None if word == "" else float(word) for word in words]
    except ValueError:
        raise BadInput(f"where {key!r}: expected numbers") from None
    if condition.is_ in {"contains", "matches"}:
        raise BadInput(f"where {key!r}: {condition.is_!r} needs a text")
    if condition.is_ in {"in", "not in"}:
        plain = [number for number in numbers if number is not None]
        test = or_(column.in_(plain), column.is_(None) if None in numbers else false())
        return not_(func.coalesce(test, false())) if condition.is_ == "not in" else test
    if numbers[0] is None:
        return column.is_(None) if condition.is_ == "=" else column.is_not(None)
    return compare(column, condition.is_, numbers[0])


def _metadata_test(tx: Connection, key: str, condition: Condition, words: Sequence[Any]) -> Test:
    """A model without the key fits `!=`, and `not in` unless the list holds the empty text."""
    here = and_(model_values.c.model_id == models.c.id, model_values.c.key == key)
    if condition.is_ == "exists":
        return exists().where(here)
    if condition.is_ in {"!=", "not in"}:
        texts = [word if isinstance(word, str) else f"{word:g}" for word in words]
        test = not_(exists().where(here, model_values.c.text.in_(texts)))
        return and_(test, exists().where(here)) if "" in texts else test
    test = exists().where(here, _text_test(tx, model_values.c.text, condition, words))
    return or_(test, not_(exists().where(here))) if condition.is_ == "in" and "" in words else test


# --- tags -------------------------------------------------------------------------------------------------


def _tag_tests(query: TagQuery, system: bool) -> list[Test]:
    tests = [not_(_tagged(tag, system)) for tag in query.excluded]
    if query.groups:
        groups = [_group(group, system) for group in query.groups]
        tests.append(and_(*groups) if query.every else or_(*groups))
    return tests


def _tags_test(system: bool, condition: Condition, words: Sequence[Any]) -> Test:
    """`in` and `=`: it has one of them; the empty text among them: or it has none at all."""
    has_any = exists().where(model_tags.c.model_id == models.c.id, model_tags.c.system == system)
    if condition.is_ == "exists":
        return has_any
    if condition.is_ == "matches" or condition.is_ not in {"=", "!=", "in", "not in"}:
        raise BadInput(
            f"where 'tags': {condition.is_!r} is not asked of tags; expected =, !=, in, not in or exists"
        )
    test = or_(
        has_any.where(model_tags.c.tag.in_([str(w) for w in words])), not_(has_any) if "" in words else false()
    )
    return not_(test) if condition.is_ in {"!=", "not in"} else test


def _group(group: TagGroup, system: bool) -> Test:
    tags = [_tagged(tag, system) for tag in group.tags]
    return and_(*tags) if group.every else or_(*tags)


def _tagged(tag: str, system: bool) -> Test:
    return exists().where(
        model_tags.c.model_id == models.c.id, model_tags.c.system == system, model_tags.c.tag == tag
    )
