"""The environment of the benchmark of evaluations: a prompt, then a full score."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from taskloom.evals import Environment

env = Environment("noop")


@env.template(id="noop")
async def noop(number: int = 0) -> AsyncGenerator[Any, Any]:
    yield f"say yes {number}"
    yield 1.0
