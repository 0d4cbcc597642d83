"""What every format reads into and writes from, and the limits of files that others made.

A file that is not what it says it is, is a ValueError that tells what was expected; nothing of it is believed before.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from taskloom.domain.evaluation import EvalJob, EvalRun, Step

MOST_RUNS = 200_000  # of one log
MOST_MEMBER = 256 * 2**20  # bytes of one JSON document: a member of an archive, a file, a line
MOST_TOTAL = 2 * 2**30  # bytes of all members that are read of one archive
MOST_RATIO = 1_000  # of a member's size to its compressed one, from 1 MiB on


@dataclass(frozen=True)
class ReadLog:
    """A job and its runs, each with its steps, in order of their position."""

    job: EvalJob
    runs: list[tuple[EvalRun, list[Step]]] = field(default_factory=list[tuple[EvalRun, list[Step]]])


def make_id(*parts: object) -> str:
    """32 hexadecimal digits that are the same whenever the same log is read."""
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "replace")).hexdigest()[:32]


def an_object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {type(value).__name__}: expected a JSON object")
    return cast("dict[str, Any]", value)


def a_list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{what} is {type(value).__name__}: expected a JSON array")
    return cast("list[Any]", value)


def objects_of(value: Any) -> list[dict[str, Any]]:
    """The objects in what may be a list, for parts without which a log can be read."""
    return [one for one in cast("list[Any]", value) if isinstance(one, dict)] if isinstance(value, list) else []


def fields_of(value: Any) -> dict[str, Any]:
    """It when it is an object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def number_of(value: Any, default: float = 0.0) -> float:
    """A finite number; the default for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e100:
        return default
    return float(value)


def whole_of(value: Any) -> int:
    return max(0, int(number_of(value)))


def seconds_of(value: Any) -> float:
    """An ISO time as seconds since the epoch; 0 for none."""
    try:
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else 0.0
    except (ValueError, OverflowError, OSError):
        return 0.0


def plain(value: Any) -> Any:
    """The value without NaN and infinities, which JSON has no words for: they become texts."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in cast("list[Any]", value)]
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def text_of_content(content: Any) -> str:
    """The text of a message's content: a text, a block, or a list of blocks, those without a text left out."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return str(cast("dict[str, Any]", content).get("text") or "")
    if isinstance(content, list):
        return "\n".join(text for text in map(text_of_content, cast("list[Any]", content)) if text)
    return ""
