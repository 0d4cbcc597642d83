"""Means with their uncertainty: values in clusters, a standard error, Student's t interval. Pure Python.

Why clusters: the tries at one eval task are alike, so that a hundred of them say less than a hundred tasks (docs,
statistics). What is counted stands in `statistics`; here are numbers alone. No result is NaN or infinite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

from taskloom.domain.evaluation import Estimate

LARGEST = 1e100  # magnitude of a value; squares of what is beyond would leave the range of floats
FRACTION_STEPS = 100_000  # of the continued fraction; it needs about the root of the degrees of freedom
QUANTILE_STEPS = 200


def cluster_estimate(
    clusters: Sequence[Sequence[float]], level: float = 0.95, *, most: float = 1.0
) -> Estimate | None:
    """The mean over all values, each weighing the same; its error is that of the clusters (G of them):

        V = G / (G - 1) * sum over clusters of (sum of its residuals)^2 / n^2

    With G - 1 degrees of freedom. None: no value. One cluster: a mean without an error. most: where no value lies
    outside of 0 to it, neither does the interval; 1 for shares, infinity for times.
    """
    filled = [cluster for cluster in clusters if cluster]
    if not filled:
        return None
    sums = [cluster[0] if len(cluster) == 1 else math.fsum(cluster) for cluster in filled]
    sizes = list(map(len, filled))
    count, groups = sum(sizes), len(filled)
    mean = math.fsum(sums) / count
    if groups == 1:
        return Estimate(mean=mean, level=level)
    lowest, highest = min(map(min, filled)), max(map(max, filled))
    if lowest == highest:  # no rounding error may make a spread of it
        return _unanimous(lowest, groups, level) if most == 1.0 else _exactly(lowest, level)
    squares = math.fsum([(total - size * mean) ** 2 for total, size in zip(sums, sizes, strict=True)])
    stderr = math.sqrt(groups / (groups - 1) * squares) / count
    reach = t_quantile(groups - 1, level) * stderr
    low, high = mean - reach, mean + reach
    if lowest >= 0.0 and highest <= most:  # a reward that is a share cannot be more than all, nor a time negative
        low, high = max(0.0, low), min(most, high)
    return Estimate(mean=mean, stderr=stderr, low=low, high=high, level=level)


def mean_estimate(
    values: Sequence[float], level: float = 0.95, low: float = 0.0, high: float = 1.0
) -> Estimate | None:
    """The mean of independent values; its interval is cut at `low` and `high`, which no value passes."""
    if not values:
        return None
    count = len(values)
    if count == 1:
        return Estimate(mean=values[0], level=level)
    if min(values) == max(values):
        if (low, high) == (0.0, 1.0):
            return _unanimous(values[0], count, level)
        return _exactly(values[0], level)
    mean = math.fsum(values) / count
    stderr = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1) / count)
    reach = t_quantile(count - 1, level) * stderr
    return Estimate(
        mean=mean, stderr=stderr, low=max(low, mean - reach), high=min(high, mean + reach), level=level
    )


def _exactly(value: float, level: float) -> Estimate:
    """All values are the same, and nothing bounds what others may be."""
    return Estimate(mean=value, stderr=0.0, low=value, high=value, level=level)


def _unanimous(value: float, groups: int, level: float) -> Estimate:
    """All values are the same. For 0 and 1 the exact binomial bound over the clusters (Clopper and Pearson): values of
    0 to 1 with the mean m are all 1 in G clusters with a chance of at most m^G. For others there is no bound."""
    low = high = value
    bound: float = ((1.0 - level) / 2.0) ** (1.0 / groups)
    if value == 1.0:
        low = bound
    elif value == 0.0:
        high = 1.0 - bound
    return Estimate(mean=value, stderr=0.0, low=low, high=high, level=level)


# --- Student's t ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def t_quantile(freedom: int, level: float) -> float:
    """The t with which the interval -t to t holds `level` of Student's distribution."""
    if freedom < 1 or not 0.0 < level < 1.0:
        raise ValueError(
            f"t_quantile({freedom}, {level}): expected 1 degree of freedom or more, a level in (0, 1)"
        )
    outside = 1.0 - level
    if freedom == 1:
        return 1.0 / math.tan(math.pi * outside / 2.0)
    if freedom == 2:
        return level * math.sqrt(2.0 / (outside * (2.0 - outside)))
    low, high = 0.0, 1.0
    while two_sided(high, freedom) > outside:
        low, high = high, 2.0 * high
    for _ in range(QUANTILE_STEPS):
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        if two_sided(middle, freedom) > outside:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0


def two_sided(t: float, freedom: int) -> float:
    """Chance that Student's t lies beyond -|t| or |t|."""
    square = t * t
    return incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + square), square / (freedom + square))


def incomplete_beta(a: float, b: float, x: float, rest: float | None = None) -> float:
    """The regularised incomplete beta function I_x(a, b). rest: 1 - x, where the caller has it more exactly."""
    rest = 1.0 - x if rest is None else rest
    if x <= 0.0:
        return 0.0
    if rest <= 0.0:
        return 1.0
    front = math.exp(_log_beta(a, b) + a * _log_of(x, rest) + b * _log_of(rest, x))
    if x < (a + 1.0) / (a + b + 2.0):
        return min(1.0, front * _beta_fraction(a, b, x) / a)
    return max(0.0, 1.0 - front * _beta_fraction(b, a, rest) / b)


def _log_of(x: float, rest: float) -> float:
    return math.log(x) if x < 0.5 else math.log1p(-rest)


def _log_beta(a: float, b: float) -> float:
    """log of 1 / B(a, b); for a large a the difference of two large logarithms is taken from its series."""
    large, small = max(a, b), min(a, b)
    if large < 1e4 or small > 10.0:
        return math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    ratio = small * math.log(large) + small * (small - 1.0) / (2.0 * large)
    ratio -= small * (small - 1.0) * (2.0 * small - 1.0) / (12.0 * large * large)
    return ratio - math.lgamma(small)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Its continued fraction, by the method of Lentz."""
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    result = d
    for m in range(1, FRACTION_STEPS):
        for term in _beta_terms(a, b, x, m):
            d = 1.0 + term * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + term / c
            c = c if abs(c) > tiny else tiny
            result *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return result


def _beta_terms(a: float, b: float, x: float, m: int) -> Iterable[float]:
    yield m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
    yield -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
