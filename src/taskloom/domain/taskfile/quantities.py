"""Processors, bytes, seconds and accelerators as people write them; BadInput says what was expected.

Command-line options (`--memory 16GB`) and the fields of a task file are read by the same functions.
"""

from __future__ import annotations

import math
import re

from taskloom.domain.errors import BadInput

# A machine sold with 16 GB has less than 16 GiB free: GB is the smaller unit, which fits both.
MAX_CPUS = 100_000
MAX_BYTES = 1 << 60
MAX_GPUS = 1024
MAX_SECONDS = 366 * 86400
NO_GPUS = "none"
ANY_GPU = frozenset({"gpu", "gpus", "any"})

CPUS_EXPECTED = 'expected a number such as 4 or 0.5, or "4+"'
BYTES_EXPECTED = 'expected gigabytes such as 16, or a size such as "16GB", "512MB" or "16GiB"'
SECONDS_EXPECTED = 'expected seconds, or a time such as "90m", "2h" or "1d 12h"'
GPUS_EXPECTED = 'expected NAME or NAME:COUNT, such as "A100-80GB:1" ("GPU:2" for any two, "none" for none)'

_NUMBER = r"(?P<number>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_CPUS = re.compile(rf"{_NUMBER}\s*\+?")
_BYTES = re.compile(rf"{_NUMBER}\s*(?P<unit>[kmgtp]?i?b?)\s*\+?", re.IGNORECASE)
_POWERS = {"": 3, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_PART = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[a-z]*)\s*")
_SECONDS = {
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
}
_GPU = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_. -]{0,63}?)\s*(?::\s*(?P<count>[0-9]+))?")
_COUNT_FIRST = re.compile(r"(?P<count>[0-9]+)\s*[xX]\s*(?P<name>[A-Za-z][A-Za-z0-9_.-]{0,63})")


def read_cpus(text: str) -> float:
    """`4`, `0.5`, `4+` (what a place must have is always at least so much)."""
    found = _CPUS.fullmatch(text.strip())
    number = float(found["number"]) if found else 0.0
    if not 0 < number <= MAX_CPUS:
        raise BadInput(f"{CPUS_EXPECTED}, got {_cut(text)}")
    return number


def read_bytes(text: str) -> int:
    """`16` is gigabytes, as are `16+`, `16GB` and `16 g`; `GiB` counts by 1024."""
    found = _BYTES.fullmatch(text.strip())
    if found is None or found["unit"].lower() in {"b", "i", "ib"}:
        raise BadInput(f"{BYTES_EXPECTED}, got {_cut(text)}")
    unit = found["unit"].lower()
    base = 1024 if "i" in unit else 1000
    count = float(found["number"]) * base ** _POWERS[unit.rstrip("b").rstrip("i")]
    if not 1 <= count <= MAX_BYTES:
        raise BadInput(f"{BYTES_EXPECTED}, got {_cut(text)}")
    return round(count)


def read_seconds(text: str) -> float:
    """`90`, `90m`, `1h 30m`."""
    lowered, seconds, place = text.strip().lower(), 0.0, 0
    while found := _PART.match(lowered, place):
        if found["unit"] not in _SECONDS:
            break
        seconds += float(found["number"]) * _SECONDS[found["unit"]]
        place = found.end()
    if not lowered or place < len(lowered) or not (0 <= seconds <= MAX_SECONDS and math.isfinite(seconds)):
        raise BadInput(f"{SECONDS_EXPECTED}, got {_cut(text)}")
    return seconds


def read_accelerators(text: str) -> tuple[str, int, str]:
    """Type (empty: any), number, and what is odd about the way it was written."""
    words = text.strip()
    if words.lower() == NO_GPUS:
        return "", 0, ""
    if found := _COUNT_FIRST.fullmatch(words):
        name, count = found["name"], int(found["count"])
        odd = f'read as "{name}:{count}"; write it so'
    elif found := _GPU.fullmatch(words):
        name, count, odd = found["name"], int(found["count"] or "1"), ""
    else:
        raise BadInput(f"{GPUS_EXPECTED}, got {_cut(text)}{_gpu_hint(words)}")
    if not 1 <= count <= MAX_GPUS:
        raise BadInput(f"{GPUS_EXPECTED}, got {_cut(text)}")
    return "" if name.lower() in ANY_GPU else name, count, odd


def _gpu_hint(text: str) -> str:
    if "," in text:
        return "; one type a task"
    if re.search(r":\s*[0-9]*\.[0-9]+$", text):
        return "; a task gets whole GPUs"
    return ""


def _cut(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
