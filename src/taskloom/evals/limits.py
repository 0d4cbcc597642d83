"""Limits of one run: time, steps, tokens, money. None: without."""

from __future__ import annotations

from dataclasses import dataclass

from taskloom.domain.evaluation import StopReason


@dataclass(frozen=True)
class Limits:
    """What one run may use. ValueError for a limit that is not above 0, or an agent's time that the run's cuts off.

    run_timeout    seconds from provisioning up to the answer; what it cuts off is not graded
    agent_timeout  seconds of the agent alone; what it has said by then is graded
    max_steps      model calls of the agent
    max_tokens     of prompts and completions of all its model calls
    max_cost       US dollars, as the agent's prices say
    """

    run_timeout: float | None = None
    agent_timeout: float | None = None
    max_steps: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None

    def __post_init__(self) -> None:
        for name in ("run_timeout", "agent_timeout", "max_steps", "max_tokens", "max_cost"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} {value}: expected a number above 0")
        if self.run_timeout is not None and (self.agent_timeout or 0.0) >= self.run_timeout:
            raise ValueError(
                f"agent_timeout {self.agent_timeout}: expected less than run_timeout {self.run_timeout}"
            )


class LimitReached(Exception):
    """A step passed a limit: the agent ends, and what it has said is graded."""

    def __init__(self, reason: StopReason, text: str) -> None:
        super().__init__(text)
        self.reason: StopReason = reason
