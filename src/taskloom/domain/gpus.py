"""Whether a GPU is of the type that somebody asked for.

People write `A100-80GB`, `RTX3090` or `H100`; drivers tell `NVIDIA A100-SXM4-80GB`, `NVIDIA GeForce RTX 3090`. The
words that were asked for have to stand in the driver's name side by side, each as a whole: `A10` is no `A100`, `L4` no
`L40`. How blanks and dashes divide the words does not matter, neither do capitals or the maker's name. A number of
gigabytes is held against the name, or where that is silent, against the memory that the GPU has.
"""

from __future__ import annotations

import re
from functools import lru_cache

GIB = 2**30
NEARLY = 0.07  # drivers tell up to so much less (or, counted in other gigabytes, more) than the label says
_WORDS = re.compile(r"[a-z0-9]+")
_MEMORY = re.compile(r"(\d+)(?:gb|gib|g)")
_MAKERS = frozenset({"nvidia", "amd", "intel", "tesla", "geforce", "quadro", "radeon", "instinct"})
_OTHER_MODEL = frozenset({"ti", "super", "ada", "xt", "xtx"})  # behind a model's name they make another one of it


@lru_cache(maxsize=4096)
def is_type(asked: str, name: str, memory: int = 0) -> bool:
    """`memory` in bytes, 0 when it is not known. Nothing asked: any GPU will do."""
    words, gigabytes = _read(asked)
    theirs, label = _read(name)
    if gigabytes and not _has(gigabytes, label, memory):
        return False
    return _stands(words, theirs)


def _read(text: str) -> tuple[tuple[str, ...], int]:
    """Its words without the maker's, and how many gigabytes it names (0: none)."""
    words: list[str] = []
    gigabytes = 0
    for word in _WORDS.findall(text.lower()):
        told = _MEMORY.fullmatch(word)
        if told is not None:
            gigabytes = int(told[1])
        elif word not in _MAKERS:
            words.append(word)
    return tuple(words), gigabytes


def _has(gigabytes: int, label: int, memory: int) -> bool:
    if label:
        return label == gigabytes
    return abs(memory / GIB - gigabytes) <= gigabytes * NEARLY


def _stands(words: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    wanted = "".join(words)
    if not wanted:
        return True
    for first in range(len(theirs)):
        joined = ""
        for last in range(first, len(theirs)):
            joined += theirs[last]
            if len(joined) >= len(wanted):
                following = theirs[last + 1] if last + 1 < len(theirs) else ""
                if joined == wanted and following not in _OTHER_MODEL:
                    return True
                break
    return False
