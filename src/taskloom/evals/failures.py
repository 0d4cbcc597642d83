"""Why a run failed, by the boundary that the failure crossed. A failed run is data: these never leave the engine."""

from __future__ import annotations

from taskloom.domain.evaluation import Boundary


class RunFailure(Exception):
    """Base. `boundary`: see `domain.evaluation.Boundary`."""

    boundary: Boundary = "infrastructure"


class InfrastructureFailure(RunFailure):
    """No place, no connection, a process or a line that was lost, an answer that is none. May be tried again."""


class EnvironmentFailure(RunFailure):
    """The environment said no before the prompt: unknown template, arguments that do not bind, its own exception."""

    boundary = "environment"


class AgentFailure(RunFailure):
    """The agent, or the model behind it."""

    boundary = "agent"


class GraderFailure(RunFailure):
    """The environment had no grade for the answer."""

    boundary = "grader"
