"""Tables of every form as a header and rows: DataFrames, rows, columns by name, CSV files.

Nothing is loaded for it that the caller has not loaded, and nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, cast

from taskloom.domain.errors import BadInput
from taskloom.sdk.reports.figures import plain

MAX_ROWS = 10_000
MAX_CELLS = 1_000_000

Content = tuple[list[str], list[list[Any]]]


def table_content(content: Any) -> tuple[list[str], list[list[Any]], int]:
    """Header, at most MAX_ROWS rows, and how many rows there are; of rows the first one is the header."""
    header, rows, count = _content(content)
    width = max([len(header), *(len(row) for row in rows[:MAX_ROWS])], default=0)
    if width * min(len(rows), MAX_ROWS) > MAX_CELLS:
        raise BadInput(f"a table of {count} rows and {width} columns; at most {MAX_CELLS} cells are possible")
    return header, rows[:MAX_ROWS], count


def _content(content: Any) -> tuple[list[str], list[list[Any]], int]:
    if isinstance(content, str | Path):
        return _csv(Path(content))
    if hasattr(content, "to_frame") and not hasattr(content, "columns"):
        content = content.to_frame()  # a column of pandas
    if hasattr(content, "columns") and hasattr(content, "itertuples"):
        return _frame(content)
    if isinstance(content, Mapping):
        named = cast("Mapping[Any, Any]", content)
        columns = [_column(column) for column in named.values()]
        if len({len(column) for column in columns}) > 1:
            raise BadInput("a table: expected columns of equal length")
        rows = [list(row) for row in zip(*columns, strict=True)]
        return [str(name) for name in named], rows, len(rows)
    found = plain(content)
    if not isinstance(found, list) or any(not isinstance(row, list) for row in cast("list[Any]", found)):
        raise BadInput(
            f"a table: expected a DataFrame, rows or the path of a CSV file, got {type(content).__name__}"
        )
    whole = cast("list[list[Any]]", found)
    return ([str(cell) for cell in whole[0]], whole[1:], len(whole) - 1) if whole else ([], [], 0)


def _frame(frame: Any) -> tuple[list[str], list[list[Any]], int]:
    """A pandas DataFrame with its index first, a column for each level, without importing pandas."""
    levels = getattr(frame.index, "nlevels", 1)
    names = [frame.index.name] if levels == 1 else list(frame.index.names)
    header = ["" if name is None else str(name) for name in names]
    header += [" / ".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in frame.columns]  # pyright: ignore
    rows: list[list[Any]] = []
    for row in islice(frame.itertuples(index=True, name=None), MAX_ROWS):
        first = list(row[0]) if levels > 1 else [row[0]]
        rows.append(plain([*first, *row[1:]]))
    return header, rows, len(frame) if hasattr(frame, "__len__") else len(rows)


def _column(values: Any) -> list[Any]:
    found = plain(values)
    return cast("list[Any]", found) if isinstance(found, list) else [found]


def _csv(path: Path) -> tuple[list[str], list[list[Any]], int]:
    import csv

    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            reader = csv.reader(file)
            rows: list[list[Any]] = [list(row) for row in islice(reader, MAX_ROWS + 1)]
            more = sum(1 for _ in reader)
    except (OSError, csv.Error) as error:
        raise BadInput(f"the table {path} cannot be read: {error}") from None
    return (rows[0], rows[1:], len(rows) - 1 + more) if rows else ([], [], 0)
