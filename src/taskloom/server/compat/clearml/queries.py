"""The fields of ClearML's `*.get_all`, as a query of ours.

Every field of a body that names a field of the task becomes a condition, by the kind of our field: a pattern, a
list with ClearML's operators (`None` in it: or has none), a range of numbers or moments. What is not known is
ignored, as an order or as a filter; what cannot be meant is refused. Users come as ids and metrics as hashes of
their names, which is what `Names` is for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from taskloom.domain.errors import BadInput
from taskloom.domain.parameters import split_name
from taskloom.domain.task import HIDDEN_TAG, Task
from taskloom.server.compat.clearml.call import Data, Rooms, flag, table, texts
from taskloom.server.compat.clearml.documents import OURS, PROPERTIES, hashed
from taskloom.server.compat.clearml.filters import (
    NOTHING,
    Bound,
    members,
    members_list,
    moments,
    numbers,
    one_text,
    tags_or_none,
)
from taskloom.server.compat.clearml.people import People, people_of
from taskloom.server.patterns import check_pattern
from taskloom.wire.messages import Comparison, Condition, TaskQuery

PLAIN = {
    **{
        name: name
        for name in (
            "id",
            "name",
            "comment",
            "type",
            "status",
            "parent",
            "user",
            "tags",
            "system_tags",
            "status_message",
            "status_reason",
            "status_changed",
            "created",
            "started",
            "completed",
            "last_update",
            "last_iteration",
        )
    },
    "project": "project_id",
    "project.name": "project",
    "user.name": "user",
    "last_change": "last_update",
    "last_worker": "worker",
    "execution.queue": "queue",
    "output.destination": "output_uri",
    "runtime.progress": "progress",
    "script.repository": "execution.repository",
    "script.branch": "execution.branch",
    "script.tag": "execution.tag",
    "script.version_num": "execution.commit",
    "script.entry_point": "execution.entry_point",
    "container.image": "execution.image",
}
"""ClearML's path of a field -> our key, where a table can tell it."""

PATTERNS = frozenset({"name", "comment"})
SEARCHED = ("name", "comment", "id")
PATTERN_LETTERS = frozenset(".^$*+?{}[]|()\\")
MOMENTS = frozenset({"status_changed", "created", "started", "completed", "last_update"})
NUMBERS = frozenset({"last_iteration", "progress"})
METRIC = {"value": "", "min_value": ":min", "max_value": ":max"}
EITHER = ("_any_", "_or_")
EACH = ("_all_", "_and_")
MAX_ORDERS = 8
ORDERED = frozenset(
    {"id", "name", "comment", "type", "status", "parent", "user", "worker", "project", *MOMENTS, *NUMBERS}
)

# What each of ClearML's fields needs of our task beyond what its row tells.
_NEEDS = {
    "hyperparams": ("parameters", "properties"),
    "configuration": ("configuration",),
    "execution": ("execution", "parameters", "configuration", "artifacts"),
    "script": ("execution",),
    "container": ("execution",),
    "input": ("execution",),
    "models": ("models",),
    "output": ("models",),
    "runtime": ("runtime",),
    "last_metrics": ("metrics",),
    "unique_metrics": ("metrics",),
}
_HEAVY = frozenset(name for names in _NEEDS.values() for name in names)
_LIGHT = frozenset(Task.__struct_fields__) - _HEAVY


# --- what ids and hashes stand for ------------------------------------------------------------------------


class MetricNames:
    """Our key of a metric (`TITLE/SERIES`) by the hashes of its two names, read again when one is missing."""

    PATIENCE = 1.0  # seconds between two looks, however many ask for what nobody reported

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._known: dict[tuple[str, str], str] = {}
        self._looked = 0.0

    async def find(self, wanted: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
        missing = [pair for pair in wanted if pair not in self._known]
        if missing and (time.monotonic() - self._looked > self.PATIENCE or not self._looked):
            await self._rooms.tasks.copy_last_values()
            keys = await self._rooms.tasks.value_keys("metrics.")
            self._looked = time.monotonic()
            self._known = {pair: name for key in keys for pair, name in _hashes(key.removeprefix("metrics."))}
        return self._known


def _hashes(name: str) -> Iterable[tuple[tuple[str, str], str]]:
    """Titles and series may hold slashes: each way to part the name has its own hashes."""
    for position, letter in enumerate(name):
        if letter == "/":
            yield (hashed(name[:position]), hashed(name[position + 1 :])), name


@dataclass(frozen=True)
class Names:
    """What a query's ids of users and hashes of metrics stand for."""

    people: People
    metrics: Mapping[tuple[str, str], str]

    def key_of(self, path: str) -> str | None:
        """Our key of a field; None for what we do not know."""
        if path in PLAIN:
            return PLAIN[path]
        head, _, rest = path.partition(".")
        if not rest:
            return None
        if head == "hyperparams":
            section, _, name = rest.partition(".")
            name = name.removesuffix(".value")
            if not section or not name:
                return None
            return f"properties.{name}" if section == PROPERTIES else f"parameters.{section}/{name}"
        if path.startswith("execution.parameters."):
            section, name = split_name(path.removeprefix("execution.parameters."))
            return f"parameters.{section}/{name}"
        if head == "runtime":
            return f"runtime.{rest}"
        pair = _metric(path)
        if pair is not None:
            name = self.metrics.get(pair)
            return None if name is None else f"metrics.{name}{METRIC[path.rpartition('.')[2]]}"
        return None


def _metric(path: str) -> tuple[str, str] | None:
    parts = path.split(".")
    if len(parts) == 4 and parts[0] == "last_metrics" and parts[3] in METRIC:
        return parts[1], parts[2]
    return None


async def names_for(rooms: Rooms, metrics: MetricNames, body: Data) -> Names:
    """Reads only what this body speaks of."""
    paths = [*body, *(order.removeprefix("-") for order in texts(body, "order_by"))]
    for name in (*EITHER, *EACH):
        paths += texts(table(body, name), "fields")
    pairs = [pair for path in paths if (pair := _metric(path)) is not None]
    return Names(await people_of(rooms), await metrics.find(pairs) if pairs else {})


# --- tasks ------------------------------------------------------------------------------------------------


def task_query(body: Data, names: Names) -> TaskQuery:
    """The filters, order and fields; without its page. Archived tasks are shown, hidden ones when asked for."""
    where: list[Condition] = []
    any_of: list[list[Condition]] = []
    tags: dict[str, list[str]] = {"tags": [], "system_tags": []}
    for path, value in body.items():
        key = names.key_of(path)
        if value is None or value == [] or path in {"project.name", "user.name"}:
            continue
        if key is None:
            if _metric(path) is not None:  # a metric that nobody reported
                where.append(NOTHING)
        elif key in tags:
            words = members_list(path, value)
            if None in words:
                any_of += tags_or_none(key, words)
            else:
                tags[key] = [word for word in words if word is not None]
        else:
            where += field_conditions(path, key, value, names.people)
    for name in (*EITHER, *EACH):
        found = _several(name, table(body, name), names)
        if name in EITHER:
            any_of += found
        else:
            where += [condition for choice in found for condition in choice]
    text = search_text(body)
    if _is_pattern(text):  # it may be meant either way
        kinds: tuple[tuple[Comparison, str], ...] = (("contains", text), ("matches", f"(?i){text}"))
        any_of.append([Condition(key=key, is_=is_, value=word) for key in SEARCHED for is_, word in kinds])
    if not flag(body, "search_hidden") and not body.get("id"):
        where.append(Condition(key="system_tags", is_="not in", value=[HIDDEN_TAG]))
    return TaskQuery(
        where=where,
        any_of=any_of,
        tags=tags["tags"],
        system_tags=tags["system_tags"],
        search="" if _is_pattern(text) else text,
        order_by=orders(body, names),
        fields=fields(texts(body, "only_fields")),
        hidden=True,
        count_to=0,
    )


def field_conditions(path: str, key: str, value: Any, people: People) -> list[Condition]:
    """What one field of the body asks of our key."""
    if key in PATTERNS:
        return [Condition(key=key, is_="matches", value=one_text(path, value))] if value != "" else []
    if key in MOMENTS:
        return _compared(key, moments(path, value))
    if key in NUMBERS or key.startswith("metrics."):
        return _compared(key, numbers(path, value))
    return members(path, value).conditions(key, _ours(key, people))


def fields(only_fields: Sequence[str]) -> list[str]:
    """Fields of our task that ClearML's fields are made of; empty: all."""
    wanted = {name.partition(".")[0] for name in only_fields if not name.startswith("-")}
    if not wanted:
        return []
    return sorted(_LIGHT.union(*(_NEEDS.get(name, ()) for name in wanted)))


def orders(body: Data, names: Names) -> list[str]:
    """Keys to sort by; without any the order of creation, which new tasks do not disturb."""
    found: list[str] = []
    for word in texts(body, "order_by"):
        key = names.key_of(word.removeprefix("-"))
        key = "project" if key == "project_id" else key
        if key is not None and (key in ORDERED or "." in key):
            found.append(f"-{key}" if word.startswith("-") else key)
    return found[:MAX_ORDERS] or ["created"]


def search_text(body: Data) -> str:
    value = body.get("search_text")
    return "" if value is None else one_text("search_text", value).strip()


def _is_pattern(text: str) -> bool:
    """Whether the text is a regular expression that says more than its own letters."""
    if not PATTERN_LETTERS.intersection(text):
        return False
    try:
        check_pattern(text)
    except BadInput:
        return False
    return True


def _ours(key: str, people: People) -> Callable[[str], str]:
    """Our word for one of ClearML's, where they differ."""
    if key == "status":
        return lambda word: OURS[word].value if word in OURS else word
    if key == "user":
        return lambda word: people.name_of(word) or word
    return str


def _compared(key: str, found: Sequence[Bound]) -> list[Condition]:
    return [Condition(key=key, is_=comparison, value=value) for comparison, value in found]


def _several(name: str, given: Mapping[str, Any], names: Names) -> list[list[Condition]]:
    """A pattern or moments that any or all of some fields have to match; every list has to hold in one entry."""
    asked = texts(given, "fields")
    pattern, dates = given.get("pattern"), given.get("datetime")
    if not asked or (not pattern and not dates):
        return []
    parts: list[list[Condition]] = []
    for path in asked:
        key = names.key_of(path)
        if dates:
            parts.append(_compared(key, moments(name, dates)) if key in MOMENTS else [NOTHING])
        elif key is None or key in MOMENTS | NUMBERS or key.startswith("metrics."):
            parts.append([NOTHING])
        else:
            parts.append([Condition(key=key, is_="matches", value=f"(?i){one_text(name, pattern)}")])
    if name in EACH:
        return [[condition] for part in parts for condition in part]
    return [list(choice) for choice in product(*parts)]
