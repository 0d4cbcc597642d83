"""What a template's author handles: the answer that comes in, the result that goes out."""

from __future__ import annotations

import math
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

T = TypeVar("T")


class Answer(BaseModel, Generic[T]):
    """An answer for a template that declares `returns=T`.

    content: the value as T; when it does not parse, the answer as it came. raw: its text. parsed: whether it did.
    """

    content: T | Any
    raw: str = ""
    parsed: bool = True


class SubScore(BaseModel):
    """A part of a grade. value: 0 to 1; a weight below 0 is a penalty; children: what it was combined from."""

    model_config = ConfigDict(extra="forbid")

    name: str
    value: float = Field(ge=0.0, le=1.0, allow_inf_nan=False)
    weight: float = Field(default=1.0, allow_inf_nan=False)
    children: list[SubScore] | None = None
    info: dict[str, Any] | None = None


class EvaluationResult(BaseModel):
    """What a template may yield as its second value. `reward`: finite, usually 0 to 1. More fields may be given."""

    model_config = ConfigDict(extra="allow")

    reward: float = 0.0
    done: bool = True
    content: str | None = None
    info: dict[str, Any] = Field(default_factory=dict)
    isError: bool = False
    subscores: list[SubScore] | None = None

    @field_validator("reward")
    @classmethod
    def _finite(cls, reward: float) -> float:
        if not math.isfinite(reward):
            raise ValueError(f"reward {reward}: expected a finite number")
        return reward

    @classmethod
    def from_float(cls, value: float) -> EvaluationResult:
        return cls(reward=value)
