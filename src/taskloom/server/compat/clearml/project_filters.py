"""Which projects ClearML's `projects.get_all` means, and in which order.

Names and ids are looked for in the database; there are few projects beside tasks, so the rest is asked of each
here. Hidden ones are left out unless they are asked for, by `search_hidden` or by their ids. A shallow search
stays on one level: the top, or what lies directly in the `parent`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from taskloom.domain import tagquery
from taskloom.domain.project import Project
from taskloom.domain.task import HIDDEN_TAG
from taskloom.server.compat.clearml.call import Data, flag, table, texts
from taskloom.server.compat.clearml.filters import members, members_list, moments, one_text
from taskloom.server.compat.clearml.people import People
from taskloom.server.patterns import finder

Keep = Callable[[Project], bool]

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
TIMES = frozenset({"created", "last_update"})


def words_of(field: str, project: Project, people: People) -> Sequence[str]:
    """The texts of a field in ClearML's document."""
    match field:
        case "id" | "name" | "description":
            return [getattr(project, field)]
        case "basename":
            return [basename(project.name)]
        case "tags" | "system_tags":
            return getattr(project, field)
        case "user":
            return [people.id_of(project.user)]
        case "default_output_destination":
            return [project.output_uri]
        case _:
            return []


def basename(path: str) -> str:
    return path.rpartition("/")[2]


def keeper(body: Data, people: People, parents: Collection[str]) -> Keep:
    """Everything that the body asks for, but for the name and ids. `parents`: paths of the `parent` ids."""
    tests = [*_places(body, parents), *_tags(body)]
    if not flag(body, "search_hidden") and not body.get("id"):
        tests.append(lambda project: HIDDEN_TAG not in project.system_tags)
    for field in ("description", "basename"):
        if body.get(field):
            tests.append(_matching(field, finder(one_text(field, body[field])), people))
    for field in ("user", "default_output_destination"):
        if body.get(field):
            tests.append(_member(field, body[field], people))
    for field in TIMES:
        if body.get(field) is not None:
            tests.append(_bounded([field], moments(field, body[field]), any))
    for name, join in (("_any_", any), ("_or_", any), ("_all_", all), ("_and_", all)):
        tests += _several(name, table(body, name), join, people)
    if body.get("search_text"):
        text = one_text("search_text", body["search_text"]).strip().casefold()
        tests.append(lambda p: any(text in word.casefold() for word in (p.name, p.description, p.id)))
    return lambda project: all(test(project) for test in tests)


def ordered(found: Sequence[Project], body: Data, people: People) -> list[Project]:
    """Without an order that of creation; equal ones by id."""
    told = sorted(found, key=lambda project: project.id)
    for word in reversed(texts(body, "order_by") or ["created"]):
        field = word.removeprefix("-")
        if field in TIMES:
            told.sort(key=lambda project: getattr(project, field), reverse=word.startswith("-"))
        else:
            told.sort(key=lambda project: tuple(words_of(field, project, people)), reverse=word.startswith("-"))
    return told


def _places(body: Data, parents: Collection[str]) -> list[Keep]:
    shallow = flag(body, "shallow_search")
    if not body.get("parent"):
        return [_on_top] if shallow else []
    starts = tuple(f"{path}/" for path in parents)
    top = None in members_list("parent", body["parent"])

    def test(project: Project) -> bool:
        above = f"{project.name.rpartition('/')[0]}/"
        below = above in starts if shallow else project.name.startswith(starts)
        return below or (top and _on_top(project))

    return [test]


def _on_top(project: Project) -> bool:
    return "/" not in project.name


def _tags(body: Data) -> list[Keep]:
    tests: list[Keep] = []
    for field in ("tags", "system_tags"):
        if body.get(field):
            words = members_list(field, body[field])
            wanted = tagquery.parse_tags([word for word in words if word is not None])
            tests.append(_tagged(field, wanted, None in words, len(words) > words.count(None)))
    return tests


def _tagged(field: str, wanted: tagquery.TagQuery, empty: bool, some: bool) -> Keep:
    def test(project: Project) -> bool:
        tags: tuple[str, ...] = getattr(project, field)
        return (empty and not tags) or (some and wanted.matches(tags))

    return test


def _member(field: str, value: Any, people: People) -> Keep:
    wanted = members(field, value)

    def test(project: Project) -> bool:
        (word,) = words_of(field, project, people)
        if not word:
            return wanted.empty or not wanted.include
        return word not in wanted.exclude and (word in wanted.include or not (wanted.include or wanted.empty))

    return test


def _matching(field: str, find: Callable[[str], bool], people: People) -> Keep:
    return lambda project: any(find(word) for word in words_of(field, project, people))


def _bounded(fields: Sequence[str], bounds: Sequence[tuple[str, float]], join: Callable[..., bool]) -> Keep:
    return lambda project: join(
        all(_COMPARE[comparison](getattr(project, field), value) for comparison, value in bounds)
        for field in fields
    )


def _several(name: str, given: Mapping[str, Any], join: Callable[..., bool], people: People) -> list[Keep]:
    fields = texts(given, "fields")
    if not fields:
        return []
    if given.get("datetime"):
        known = [field for field in fields if field in TIMES]
        return [_bounded(known, moments(name, given["datetime"]), join)]
    if not given.get("pattern"):
        return []
    find = finder(f"(?i){one_text(name, given['pattern'])}")
    tests = [_matching(field, find, people) for field in fields]
    return [lambda project: join(test(project) for test in tests)]
