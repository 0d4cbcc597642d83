"""Runs as values, in the fewest words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from taskloom.domain.evaluation import EvalRun, Grade


def graded(slug: str, reward: float, **fields: Any) -> EvalRun:
    return EvalRun(id="0" * 32, job="j", slug=slug, status="completed", grade=Grade(reward=reward), **fields)


def failed(slug: str, boundary: Any, **fields: Any) -> EvalRun:
    return EvalRun(id="0" * 32, job="j", slug=slug, status="error", boundary=boundary, error="it broke", **fields)


def job(rewards: Mapping[str, Iterable[float]]) -> list[EvalRun]:
    """By slug the rewards of its tries."""
    return [graded(slug, reward) for slug, tries in rewards.items() for reward in tries]
