"""Quantities as people read them."""

from __future__ import annotations

import math

UNITS = ("kB", "MB", "GB", "TB")


def size(count: int) -> str:
    """Bytes in the unit that fits: `17 B`, `1.5 kB`, `3.2 GB`."""
    if count < 1000:
        return f"{count} B"
    power = min(len(UNITS), int(math.log10(count) // 3))
    return f"{count / 1000**power:.1f} {UNITS[power - 1]}"
