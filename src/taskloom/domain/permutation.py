"""The sign-flip test: were two jobs alike, each eval task's difference might as well have the other sign.

Of all the ways to give the differences signs: the share whose sum is at least as far from 0 as the one that was seen.
It assumes no distribution. Exact where that is cheap, by drawing with a fixed seed beyond. See docs, statistics.
"""

from __future__ import annotations

import math
import random
import sys
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from taskloom.domain.intervals import incomplete_beta

ENUMERATED = 30  # differences of any size for which all 2^n signs are looked at, in two halves
LATTICE = 20_000  # greatest common denominator with which differences count as whole multiples of a unit
LATTICE_BITS = 4e9  # of additions of long integers: about a second
DRAWS = 19_999
LEAST_DRAWS = 999
DRAW_BUDGET = 4_000_000  # table look-ups: with more differences fewer draws are made
MANY = 8_192  # differences from which on their sum counts as normal, if none of them stands out
EVEN = 0.05  # sum of cubes over the root of the cubed sum of squares: below it none stands out
SEED = 6
CLOSE = 1e-9  # sums that are this near, relative to the sum of all sizes, are equal: floats round


def sign_flip(differences: Sequence[float]) -> tuple[float, str]:
    """The two-sided p-value and the method in words. Differences of 0 change no sum; none at all: p is 1."""
    sizes = [abs(value) for value in differences if value]
    ties = len(differences) - len(sizes)
    about = f"over {len(sizes)} differing eval tasks" + (f", {ties} ties left out" if ties else "")
    if not sizes:
        return 1.0, "no eval task differs"
    seen = abs(math.fsum(differences))
    units = _whole_units(sizes)
    if units is not None and set(units) == {1}:
        return _sign_test(len(units), round(seen / sizes[0])), f"exact sign-flip permutation test {about}"
    if units is not None and len(units) * len(units) * sum(units) <= LATTICE_BITS:
        unit = sizes[0] / units[0]
        return _exact_on_lattice(units, round(seen / unit)), f"exact sign-flip permutation test {about}"
    if len(sizes) <= ENUMERATED:
        return _exact_by_halves(sizes, seen), f"exact sign-flip permutation test {about}"
    if len(sizes) >= MANY and _even(sizes):
        chance = math.erfc(seen / (math.sqrt(2.0) * math.hypot(*sizes)))
        return max(chance, sys.float_info.min), f"sign-flip permutation test by its normal limit {about}"
    p_value, draws = _by_drawing(sizes, seen)
    return p_value, f"sign-flip permutation test by {draws:,} draws {about}"


def _even(sizes: Sequence[float]) -> bool:
    """Whether the central limit theorem is near, by the ratio of Lyapunov."""
    largest = max(sizes)
    shares = [size / largest for size in sizes]
    squares = math.fsum(share * share for share in shares)
    return math.fsum(share**3 for share in shares) <= EVEN * squares**1.5


def _whole_units(sizes: Sequence[float]) -> list[int] | None:
    """The sizes as whole multiples of one unit, as means over a few 0s and 1s are; None where there is none."""
    common = 1
    for size in set(sizes):
        fraction = Fraction(size).limit_denominator(LATTICE)
        if abs(float(fraction) - size) > 1e-12 * max(1.0, size):
            return None
        common = math.lcm(common, fraction.denominator)
        if common > LATTICE:
            return None
    units = [round(size * common) for size in sizes]
    divisor = math.gcd(*units)
    return [unit // divisor for unit in units] if divisor else None


def _sign_test(count: int, seen: int) -> float:
    """All differences of one size: the tail of the binomial distribution (the test of McNemar, exactly)."""
    fewer = (count - seen) // 2
    return min(1.0, max(2.0 * incomplete_beta(count - fewer, fewer + 1.0, 0.5), sys.float_info.min))


def _exact_on_lattice(units: Sequence[int], seen: int) -> float:
    """Counts the sign patterns by their number of units on the plus side: the coefficients of the product of all
    (1 + x^unit), kept in one long integer with as many bits for each as the largest count needs."""
    octets = len(units) // 8 + 1
    product = 1
    for unit in sorted(units):
        product += product << (8 * unit * octets)
    # plus - minus = 2 * plus - total: at least `seen` away from 0 on either side, which are mirror images.
    most = (sum(units) - seen) // 2
    counts = product.to_bytes((sum(units) + 1) * octets, "little")
    far = sum(
        int.from_bytes(counts[start : start + octets], "little") for start in range(0, (most + 1) * octets, octets)
    )
    return min(1.0, max(2 * far / (1 << len(units)), sys.float_info.min))


def _exact_by_halves(sizes: Sequence[float], seen: float) -> float:
    """All sums of either half; for each of one, those of the other that carry it as far, found by bisection."""
    half = len(sizes) // 2
    left, right = _all_sums(sizes[:half]), sorted(_all_sums(sizes[half:]))
    seen -= CLOSE * math.fsum(sizes)
    if seen <= 0.0:
        return 1.0
    far = 0
    for part in left:
        far += len(right) - bisect_left(right, seen - part) + bisect_right(right, -seen - part)
    return far / (1 << len(sizes))


def _all_sums(sizes: Sequence[float]) -> list[float]:
    sums = [0.0]
    for size in sizes:
        sums = [value + size for value in sums] + [value - size for value in sums]
    return sums


def _by_drawing(sizes: Sequence[float], seen: float) -> tuple[float, int]:
    """Equal sizes are drawn together (how many of them are positive: the ones of a random integer), others eight at a
    time through a table of their 256 sums. One is added to both counts, so that p is never 0."""
    often = [(size, count) for size, count in Counter(sizes).items() if count >= 8]
    singles = [size for size, count in Counter(sizes).items() if count < 8 for _ in range(count)]
    tables = [_all_sums(singles[start : start + 8]) for start in range(0, len(singles), 8)]
    tables = [table * (256 // len(table)) for table in tables]
    draws = max(LEAST_DRAWS, min(DRAWS, DRAW_BUDGET // (len(often) + len(tables))))
    seen -= CLOSE * math.fsum(sizes)
    generator = random.Random(SEED)  # noqa: S311 - the same jobs have the same p, no secret hangs on it
    far = 0
    for _ in range(draws):
        bits = generator.getrandbits(8 * len(tables)) if tables else 0
        total = sum(map(list[float].__getitem__, tables, bits.to_bytes(len(tables), "little")))
        for size, count in often:
            total += size * (2 * generator.getrandbits(count).bit_count() - count)
        far += abs(total) >= seen
    return (far + 1) / (draws + 1), draws
