"""Graders as callables, and how their sub-scores become one result.

    yield await combine(
        SubScore(name="answer", value=exact_match(answer, "Paris"), weight=0.6),
        ShellGrader("pytest -q", cwd=root, weight=0.4)(answer),
        SubScore(name="too long", value=float(len(answer) > 500), weight=-0.2),
    )

A grader that cannot say raises: the run then has no grade, and the failure is the grader's, which is no 0.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Self, cast, overload

from taskloom.evals.failures import GraderFailure
from taskloom.evals.results import EvaluationResult, SubScore

Verdict = float | tuple[float, dict[str, Any]] | SubScore
"""What a grader may say: a value from 0 to 1 (a bool counts), that with its info, or a whole sub-score."""


class Grader(ABC):
    """One way to grade an answer; `score` is what a subclass writes. Called with an answer, it gives its sub-score.

    name    of the sub-score; the class's in small letters when left out
    weight  of the sub-score in `combine`; below 0 it is a penalty
    """

    def __init__(self, *, name: str = "", weight: float = 1.0) -> None:
        self.name = name or _words(type(self).__name__)
        self.weight = _finite_weight(self.name, weight)

    @abstractmethod
    async def score(self, answer: Any) -> Verdict:
        """From 0 to 1. An exception means that it cannot say."""

    async def __call__(self, answer: Any = None) -> SubScore:
        return as_subscore(self.name, self.weight, await self.score(answer))

    @classmethod
    async def grade(cls, weight: float = 1.0, name: str = "", *, answer: Any = None, **options: Any) -> SubScore:
        """Make it with these options and call it, in one."""
        made: Self = cls(name=name, weight=weight, **options)
        return await made(answer)


Function = Callable[..., Awaitable[Verdict]]
Scoring = Callable[..., Coroutine[Any, Any, SubScore]]


@overload
def grader(function: Function, /) -> Scoring: ...
@overload
def grader(*, name: str = "", weight: float = 1.0) -> Callable[[Function], Scoring]: ...
def grader(
    function: Function | None = None, /, *, name: str = "", weight: float = 1.0
) -> Scoring | Callable[[Function], Scoring]:
    """Makes a grader of an async function that gives a verdict; calls may say `name=` and `weight=` of their own.

    @grader(weight=0.3)
    async def short(answer, most=100):
        return len(answer) <= most

    yield await combine(short(answer), short(answer, 10, name="very short"))
    """
    if function is None:
        return functools.partial(_make_grader, name=name, weight=weight)
    return _make_grader(function, name=name, weight=weight)


def _make_grader(function: Function, *, name: str, weight: float) -> Scoring:
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"@grader on {function!r}: expected an async function")
    usual = name or function.__name__

    @functools.wraps(function)
    async def scoring(*args: Any, name: str = usual, weight: float = weight, **options: Any) -> SubScore:
        return as_subscore(name, _finite_weight(name, weight), await function(*args, **options))

    return scoring


def as_subscore(name: str, weight: float, verdict: Any) -> SubScore:
    """A verdict as a sub-score; GraderFailure for one that is no number from 0 to 1."""
    if isinstance(verdict, SubScore):
        return verdict.model_copy(update={"name": name, "weight": weight})
    info: dict[str, Any] | None = None
    if isinstance(verdict, tuple):
        verdict, info = _split(name, cast("tuple[Any, ...]", verdict))
    if not isinstance(verdict, int | float) or not 0.0 <= verdict <= 1.0:
        raise GraderFailure(f"the grader {name} gave {verdict!r:.80}: expected a number from 0 to 1")
    return SubScore(name=name, value=float(verdict), weight=weight, info=info)


def _split(name: str, verdict: tuple[Any, ...]) -> tuple[Any, dict[str, Any]]:
    if len(verdict) != 2 or not isinstance(verdict[1], dict):
        raise GraderFailure(
            f"the grader {name} gave {verdict!r:.80}: expected a number, or one with its info as a dict"
        )
    return verdict[0], cast("dict[str, Any]", verdict[1])


# --- together ---------------------------------------------------------------------------------------------------


async def combine(*items: SubScore | Awaitable[SubScore]) -> EvaluationResult:
    """Run what is to be awaited all at once and weigh the sub-scores: a result with their mean as its reward.

    Positive weights are scaled to a sum of 1 (and stand so in the result); a weight below 0 takes its size times the value
    away. The reward stays from 0 to 1. Names that clash are numbered, `tests-1`, `tests-2`; children are kept. When one
    fails, the others are cancelled and its exception goes on. ValueError without a positive weight.
    """
    subscores = number_names(await _gather(items))
    total = _positive_total(subscores)
    scaled = [
        one.model_copy(update={"weight": one.weight / total}) if one.weight > 0 else one for one in subscores
    ]
    return EvaluationResult(reward=_weighed(scaled), subscores=scaled)


def combine_mean(weight: float, subscores: Sequence[SubScore], *, name: str = "mean") -> SubScore:
    """The weighted mean as one sub-score, penalties taken away as in `combine`; its parts are its children."""
    numbered = number_names(subscores)
    total = _positive_total(numbered)
    scaled = [one.model_copy(update={"weight": one.weight / total}) if one.weight > 0 else one for one in numbered]
    return SubScore(name=name, value=_weighed(scaled), weight=_finite_weight(name, weight), children=scaled)


def combine_any(weight: float, subscores: Sequence[SubScore], *, name: str = "any") -> SubScore:
    """The best of them as one sub-score; they are its children."""
    return _chosen(max, weight, subscores, name)


def combine_all(weight: float, subscores: Sequence[SubScore], *, name: str = "all") -> SubScore:
    """The worst of them as one sub-score; they are its children."""
    return _chosen(min, weight, subscores, name)


def number_names(subscores: Sequence[SubScore]) -> list[SubScore]:
    """The same, with `-1`, `-2` ... behind names that are there more than once; no number makes a new clash."""
    if not subscores:
        raise ValueError("no sub-scores: expected one at least")
    often = {name for name, count in Counter(one.name for one in subscores).items() if count > 1}
    taken = {one.name for one in subscores}
    numbers: Counter[str] = Counter()
    named: list[SubScore] = []
    for one in subscores:
        name = one.name
        if name in often:
            while name in taken:
                numbers[one.name] += 1
                name = f"{one.name}-{numbers[one.name]}"
            taken.add(name)
        named.append(one.model_copy(update={"name": name}))
    return named


def _chosen(
    choose: Callable[[Sequence[float]], float], weight: float, subscores: Sequence[SubScore], name: str
) -> SubScore:
    numbered = number_names(subscores)
    value = choose([one.value for one in numbered])
    return SubScore(name=name, value=value, weight=_finite_weight(name, weight), children=numbered)


def _positive_total(subscores: Sequence[SubScore]) -> float:
    total = math.fsum(one.weight for one in subscores if one.weight > 0)
    if not 0.0 < total < math.inf:
        raise ValueError(
            "no weight above 0: expected one at least, with a finite sum; penalties alone grade nothing"
        )
    return total


def _weighed(scaled: Sequence[SubScore]) -> float:
    return min(1.0, max(0.0, math.fsum(one.weight * one.value for one in scaled)))


async def _gather(items: Sequence[SubScore | Awaitable[SubScore]]) -> list[SubScore]:
    """Their sub-scores in order; all tasks have ended when this returns or raises."""
    tasks = [None if isinstance(item, SubScore) else asyncio.ensure_future(_awaited(item)) for item in items]
    running = [task for task in tasks if task is not None]
    try:
        await asyncio.gather(*running)
    except BaseException:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        raise
    return [
        item if task is None else task.result()  # pyright: ignore[reportReturnType]
        for item, task in zip(items, tasks, strict=True)
    ]


async def _awaited(item: Any) -> SubScore:
    if not inspect.isawaitable(item):
        hint = "; a grader has to be called with the answer" if callable(item) else ""
        raise TypeError(f"{item!r:.80} in combine: expected a SubScore or something to await{hint}")
    found: Any = await item
    if not isinstance(found, SubScore):
        raise TypeError(f"{found!r:.80} was awaited in combine: expected a SubScore")
    return found


def _finite_weight(name: str, weight: float) -> float:
    if isinstance(weight, bool) or not math.isfinite(weight):
        raise ValueError(f"weight {weight} of {name}: expected a finite number")
    return float(weight)


def _words(name: str) -> str:
    """`MyGrader` as `my_grader`; an abbreviation stays one word."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
