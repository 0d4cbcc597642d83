"""A run's trace: its steps in order, the answer, and how it ended. The steps are the record, the sums are views."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from taskloom.domain.evaluation import RunStatus, Step, StopReason, Usage


@dataclass(slots=True)
class Trace:
    """`content`: the answer that is graded, a text or any JSON. `usage`: summed over the agent's steps."""

    trace_id: str = ""
    steps: list[Step] = field(default_factory=list[Step])
    status: RunStatus = "running"
    stop_reason: StopReason = ""
    content: Any = None
    usage: Usage = field(default_factory=Usage)
    agent_steps: int = 0
    extra: dict[str, Any] = field(default_factory=dict[str, Any])

    def record(self, step: Step) -> None:
        """Append; sum up what it used."""
        self.steps.append(step)
        if step.source == "agent":
            self.agent_steps += 1
        if step.usage is not None:
            self.usage = self.usage + step.usage
