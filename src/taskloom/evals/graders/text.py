"""Comparisons of an answer with what was expected: floats from 0 to 1, for any answer. Nothing here raises for one.

An answer that is no text is taken as its text: None as the empty one, a number or a bool as it is written in JSON, an
object or a list as JSON, an `Answer[T]` by its text. What was *expected* is the author's and is checked.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any, cast

from taskloom.evals.results import Answer

_ARTICLES = frozenset({"a", "an", "the"})
# A minus between two numbers is no sign. The digits may hold commas: `_read_number` says what they mean.
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w.])[-+−])?(?:(?P<whole>\d[\d,]*+)(?P<rest>\.\d+)?|(?P<part>\.\d+))(?P<power>[eE][-+]?\d{1,4})?"
)
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")
LONGEST = 1_000_000  # characters of an answer that are looked at for a number or words


def text_of(answer: Any) -> str:
    """The text that is compared."""
    if isinstance(answer, str):
        return answer
    if answer is None:
        return ""
    if isinstance(answer, Answer):
        known = cast("Answer[Any]", answer)
        return known.raw or text_of(known.content)
    try:
        return json.dumps(answer, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        try:
            return str(answer)
        except Exception:  # an answer whose own `__str__` fails has no text
            return ""


def normalize(text: Any) -> str:
    """Small letters, no punctuation, no articles, single spaces; letters that look alike made alike (NFKC)."""
    folded = unicodedata.normalize("NFKC", text_of(text)).casefold()
    bare = "".join(
        " " if char.isspace() else char for char in folded if not unicodedata.category(char).startswith("P")
    )
    return " ".join(word for word in bare.split() if word not in _ARTICLES)


def exact_match(answer: Any, expected: Any, *, normalize_text: bool = True) -> float:
    """1.0 when both are the same text, by default after `normalize`; otherwise apart from spaces around them."""
    if normalize_text:
        return float(normalize(answer) == normalize(expected))
    return float(text_of(answer).strip() == text_of(expected).strip())


def contains(answer: Any, substring: str, *, case_sensitive: bool = False) -> float:
    """1.0 when the text stands in the answer."""
    return contains_all(answer, [substring], case_sensitive=case_sensitive)


def contains_any(answer: Any, substrings: Iterable[str], *, case_sensitive: bool = False) -> float:
    """1.0 when one of the texts stands in the answer; 0.0 of none."""
    return float(any(_present(answer, substrings, case_sensitive)))


def contains_all(answer: Any, substrings: Iterable[str], *, case_sensitive: bool = False) -> float:
    """1.0 when every one of the texts stands in the answer; of none, too."""
    return float(all(_present(answer, substrings, case_sensitive)))


def numeric_match(
    answer: Any, expected: float, *, tolerance: float = 0.0, relative: float = 0.0, last: bool = False
) -> float:
    """1.0 when the first number of the answer (`last`: the last) is the expected one, within a tolerance.

    tolerance: absolute; relative: a share of the expected number; the larger of both counts, with room for the rounding
    of floats. Numbers as `-1,234.5`, `.5`, `1e-3`; `12%` is 12. An answer that is itself a number is taken as it is.
    """
    for name, value in (("expected", expected), ("tolerance", tolerance), ("relative", relative)):
        if not math.isfinite(value) or (name != "expected" and value < 0):
            raise ValueError(
                f"{name} {value}: expected a finite number" + ("" if name == "expected" else " from 0 on")
            )
    number = _number_of(answer, last=last)
    if number is None:
        return 0.0
    return float(abs(number - expected) <= max(tolerance, relative * abs(expected), 1e-12 * abs(expected)))


def f1_score(answer: Any, reference: Any) -> float:
    """The harmonic mean of precision and recall over words, after `normalize`; 1.0 where both have none."""
    said, meant = normalize(answer).split(), normalize(reference).split()
    if not said or not meant:
        return float(said == meant)
    common = sum((Counter(said) & Counter(meant)).values())
    return 2.0 * common / (len(said) + len(meant))


def _present(answer: Any, substrings: Iterable[str], case_sensitive: bool) -> Iterable[bool]:
    if isinstance(substrings, str):
        raise TypeError("substrings is one text: expected a list of texts, or the function `contains`")
    text = text_of(answer)
    if case_sensitive:
        return [one in text for one in substrings]
    folded = text.casefold()
    return [one.casefold() in folded for one in substrings]


def _number_of(answer: Any, *, last: bool) -> float | None:
    if isinstance(answer, Answer):
        return _number_of(cast("Answer[Any]", answer).content, last=last)
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        return _finite(answer)
    numbers = _NUMBER.finditer(text_of(answer)[:LONGEST])
    found = next(numbers, None)
    for one in numbers if last else ():
        found = one
    return None if found is None else _read_number(found, last=last)


def _read_number(match: re.Match[str], *, last: bool) -> float | None:
    """Commas that part thousands are none of its value; others part numbers, of which one is meant."""
    sign, whole, rest, part, power = (
        match.group(name) or "" for name in ("sign", "whole", "rest", "part", "power")
    )
    sign = "-" if sign in ("-", "−") else ""
    digits = whole.rstrip(",")
    if digits != whole:  # a comma behind it: what follows is not its fraction
        rest, power = "", ""
    if _THOUSANDS.fullmatch(digits):
        digits = digits.replace(",", "")
    elif "," in digits:
        pieces = [piece for piece in digits.split(",") if piece]
        if last:
            sign, digits = "", pieces[-1]
        else:
            digits, rest, power = pieces[0], "", ""
    return _finite(f"{sign}{digits}{rest}{part}{power}")


def _finite(value: float | str) -> float | None:
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return number if math.isfinite(number) else None
