"""Regular expressions in queries: the same answer on both databases, in a time that no pattern can blow up.

Patterns come from clients, so only RE2 runs them: linear in the text, with a bound on its memory, without
look-around and back-references. SQLite calls it as a function of its connections (see db); PostgreSQL's own engine
may search for ages and knows another syntax, so there the distinct texts of the column are read and matched
here, and the query compares with those that did. Most patterns are plain names in disguise and need no engine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, any_, func, literal, select, true

from taskloom.domain.errors import BadInput

MAX_PATTERN = 2048  # characters
MEMORY = 2**20  # bytes that one pattern's automaton may take; a larger one is refused
FUNCTION = "taskloom_matches"  # what it is called in SQLite
_SPECIAL = frozenset(".^$*+?{}[]|()")

Test = ColumnElement[bool]
Found = Callable[[str], bool]


def check_pattern(pattern: str) -> None:
    """Raises BadInput for what is no regular expression of RE2."""
    finder(pattern)


def matches(connection: Connection, column: ColumnElement[Any], pattern: str, among: Test | None = None) -> Test:
    """True where the pattern is found anywhere in the column; never for NULL.

    `among` narrows the rows whose texts have to be looked at, when the caller knows better than "all".
    """
    found = finder(pattern)
    if connection.dialect.name == "sqlite":
        return getattr(func, FUNCTION)(pattern, column) == literal(1)
    from sqlalchemy.dialects.postgresql import ARRAY

    distinct = select(column).where(column.is_not(None), true() if among is None else among).distinct()
    texts = [text for text in connection.execute(distinct).scalars() if found(text)]
    return column == any_(literal(texts, ARRAY(Text)))


def name_condition(
    connection: Connection, column: ColumnElement[Any], pattern: str, among: Test | None = None
) -> Test:
    """The same as `matches`, by a plain comparison where the pattern is a literal text, anchored or not."""
    plain = _literal(pattern)
    if plain is None:
        return matches(connection, column, pattern, among)
    text, start, end = plain
    if start and end:
        return column == text
    if not text:
        return column.is_not(None)
    if start:
        return func.substr(column, 1, len(text)) == text
    if end:
        return func.substr(column, func.length(column) - len(text) + 1) == text
    find = func.instr if connection.dialect.name == "sqlite" else func.strpos
    return find(column, text) > 0


def matches_text(pattern: str, text: str | None) -> int | None:
    """What SQLite calls."""
    return None if text is None else int(finder(pattern)(str(text)))


@lru_cache(maxsize=128)
def finder(pattern: str) -> Found:
    """Tells of a text whether the pattern is found in it; BadInput as of `check_pattern`."""
    if len(pattern) > MAX_PATTERN:
        raise BadInput(f"a pattern of {len(pattern)} characters; expected at most {MAX_PATTERN}")
    re2: Any = import_module("re2")  # only the server that is asked pays for it
    options = re2.Options()
    options.log_errors, options.never_capture, options.max_mem = False, True, MEMORY
    try:
        re2.compile(pattern, options=options)  # only this one tells what is wrong
        searched = re2.Set.SearchSet(options)  # only this one never leaves its automaton for something slower
        searched.Add(pattern)
        searched.Compile()
    except (re2.error, UnicodeEncodeError) as error:
        raise BadInput(
            f"pattern {pattern[:80]!a}: {_reason(error)}; expected a regular expression of RE2, "
            "which has no look-around and no back-references"
        ) from None
    find = searched.Match
    return lambda text: find(text) is not None


def _reason(error: Exception) -> str:
    told = error.args[0] if error.args else ""
    return told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)


def _literal(pattern: str) -> tuple[str, bool, bool] | None:
    """(text, whether it has to begin there, end there) of a pattern that is a literal; None for others."""
    start = pattern.startswith("^")
    rest = pattern[1:] if start else pattern
    end = rest.endswith("$") and not _escaped_end(rest)
    rest = rest[:-1] if end else rest
    if not end and rest.endswith(".*") and not _escaped_end(rest[:-1]):
        rest = rest[:-2]
    if not start and rest.startswith(".*"):
        rest = rest[2:]
    text: list[str] = []
    letters = iter(rest)
    for letter in letters:
        meant = next(letters, "") if letter == "\\" else letter
        if letter in _SPECIAL:
            return None
        if letter == "\\" and (not meant or meant.isalnum() or meant == "_"):  # a class, or a mistake: RE2 tells
            return None
        text.append(meant)
    return "".join(text), start, end


def _escaped_end(text: str) -> bool:
    """Whether the last character stands behind an odd number of backslashes."""
    head = text[:-1]
    return (len(head) - len(head.rstrip("\\"))) % 2 == 1
