"""What one field of ClearML's `*.get_all` asks for: lists with operators, moments, ranges of numbers.

Shared by tasks, projects and models. Values are checked here, which field may have which form is theirs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

from taskloom.domain import tagquery
from taskloom.server.compat.clearml.documents import seconds_of
from taskloom.server.compat.clearml.errors import BAD_FIELD, Refusal
from taskloom.wire.messages import Comparison, Condition

NOTHING = Condition(key="id", is_="in", value=[])
TICK = 0.6e-6  # seconds; half of ClearML's microsecond, and what a float of today's seconds cannot tell
_OPERATOR = re.compile(r"(>=|<=|>|<)?(.*)", re.DOTALL)

Bound = tuple[Comparison, float]


@dataclass(frozen=True)
class Members:
    """A list with operators on a field that holds one value: what it may be, what not, whether it may be empty."""

    include: tuple[str, ...]
    exclude: tuple[str, ...]
    empty: bool
    possible: bool = True  # it cannot hold two values at once

    def conditions(self, key: str, ours: Callable[[str], str] = str) -> list[Condition]:
        """`ours`: our word for one of ClearML's, where they differ."""
        if not self.possible:
            return [NOTHING]
        found: list[Condition] = []
        if self.include or (self.empty and not self.exclude):
            wanted: list[float | str] = [*map(ours, self.include), *([""] if self.empty else [])]
            found.append(Condition(key=key, is_="in", value=wanted))
        if self.exclude:
            found.append(Condition(key=key, is_="not in", value=[*map(ours, self.exclude)]))
        return found


def members(name: str, value: Any) -> Members:
    words = members_list(name, value)
    parsed = tagquery.parse_tags([word for word in words if word is not None])
    named = tuple(dict.fromkeys(tag for group in parsed.groups for tag in group.tags))
    include = tuple(word for word in named if parsed.matches({word}))
    empty = None in words
    return Members(include, parsed.excluded, empty, possible=bool(include or empty or not named))


def members_list(name: str, value: Any) -> list[str | None]:
    """A list of texts in which None has a meaning; numbers and flags count as their texts."""
    items = _items(value)
    if not all(item is None or isinstance(item, str | int | float) for item in items):
        raise wrong(name, items, "a list of texts")
    return [item if item is None or isinstance(item, str) else str(item) for item in items]


def tags_or_none(key: str, words: Sequence[str | None]) -> list[list[Condition]]:
    """What the words ask for, or no tag at all."""
    parsed = tagquery.parse_tags([word for word in words if word is not None])
    sets = [[(tag,) for tag in group.tags] if group.every else [group.tags] for group in parsed.groups]
    if parsed.every:
        clauses = [one for group in sets for one in group]
    else:
        clauses = [tuple(tag for one in choice for tag in one) for choice in product(*sets)] if sets else []
    found = [[Condition(key=key, is_="in", value=[*clause, ""])] for clause in clauses]
    if parsed.excluded:
        found.append([Condition(key=key, is_="not in", value=list(parsed.excluded))])
    return found or [[Condition(key=key, is_="in", value=[""])]]


def moments(name: str, value: Any) -> list[Bound]:
    """`[">=2024-01-01", "<2024-02-01"]`, or two moments between which it lies; seconds since the epoch.

    Clients ask with moments that they were told, which are whole microseconds: what is told alike compares alike.
    """
    bounds: list[Bound] = []
    for comparison, seconds in _ranged(name, value, _seconds):
        if comparison in {">=", "<", "="}:
            bounds.append(("<" if comparison == "<" else ">=", seconds - TICK))
        if comparison in {"<=", ">", "="}:
            bounds.append((">" if comparison == ">" else "<=", seconds + TICK))
    return bounds


def numbers(name: str, value: Any) -> list[Bound]:
    """`[1, 5]`: between both, None for an open end; `[">=3"]`; a number alone."""
    return _ranged(name, value, _number)


def _ranged(name: str, value: Any, read: Callable[[str, Any], float]) -> list[Bound]:
    items = _items(value)
    parted = [_OPERATOR.fullmatch(item) if isinstance(item, str) else None for item in items]
    if len(items) == 2 and not any(found and found[1] for found in parted):
        ends: tuple[Comparison, Comparison] = (">=", "<=")
        return [(end, read(name, item)) for end, item in zip(ends, items, strict=True) if item is not None]
    compared: list[Bound] = []
    for item, found in zip(items, parted, strict=True):
        if item is None:
            continue
        operator = cast(Comparison, (found and found[1]) or "=")
        compared.append((operator, read(name, found[2] if found else item)))
    return compared


def _seconds(name: str, value: Any) -> float:
    try:
        return value if isinstance(value, float | int) else seconds_of(value.strip())
    except (AttributeError, ValueError, OverflowError):
        raise wrong(name, value, "a moment such as 2024-01-31T10:00:00") from None


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong(name, value, "a number") from None


def one_text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise wrong(name, value, "a text")
    return value


def wrong(name: str, value: object, expected: str) -> Refusal:
    return Refusal(f"field {name[:80]!r}: {str(value)[:80]!a} is not {expected}", 400, BAD_FIELD)


def _items(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else [value]
