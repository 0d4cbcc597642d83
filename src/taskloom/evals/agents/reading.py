"""Reading of JSON that others wrote: a value of the kind that is expected, or nothing of it.

Servers that call themselves compatible leave fields out, send null or another kind; none of that may end in a traceback.
"""

from __future__ import annotations

from typing import Any, cast


def as_object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list | tuple) else []


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def as_count(value: Any) -> int:
    """A whole number from 0 on."""
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0
