"""Evaluations as values: jobs, runs, steps and grades, as they are journalled, stored and told.

A job is a recorded task of type `testing`; its id is that task's. A run is one agent's one graded try at an eval
task and belongs to a job. The words of statuses, stop reasons and steps are those of HUD's traces (seed 002). What
an environment is, and who may speak to it, stands in `taskloom.evals`; how figures are made of runs in `statistics`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

RunStatus = Literal["running", "completed", "error", "cancelled"]
StopReason = Literal["", "done", "max_steps", "max_tokens", "max_cost", "length", "timeout", "malformed_tool_call"]
StepSource = Literal["user", "agent", "tool", "task", "subagent", "system"]

Boundary = Literal["", "infrastructure", "environment", "agent", "grader"]
"""Where a failed run failed. infrastructure: no place, no connection, a lost process or line. environment: its own
code, up to the prompt. agent: the agent or its model. grader: from the answer to the grade."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens and money of model calls. cached: of the prompt's, those that the provider did not compute again."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cost_usd + other.cost_usd,
        )


class TokenSample(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a trainer needs of one model call; the last two have the same length."""

    prompt_token_ids: tuple[int, ...] = ()
    output_token_ids: tuple[int, ...] = ()
    output_logprobs: tuple[float, ...] = ()


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    name: str
    arguments: dict[str, Any] = {}


class ToolResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """content: blocks as MCP has them, `{"type": "text", "text": ...}` or `{"type": "image", "data", "mimeType"}`."""

    content: tuple[dict[str, Any], ...] = ()
    is_error: bool = False


class TaskCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call to the environment: `setup` started the template and gave the prompt, `evaluate` gave the grade."""

    phase: Literal["setup", "evaluate"]
    name: str
    arguments: dict[str, Any] = {}
    result: Any = None


class Step(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One step of a trace. Times are seconds since the epoch; 0: not told.

    user and system    `messages` (role and content, as chat models take them)
    agent              one model call: `content`, `reasoning`, `tool_calls`, `model`, `usage`, `sample`, `cached`
                       (answered from the cache of model calls), `finish_reason`, `refusal`
    tool               `call` and its `result`
    task               `task_call`
    """

    source: StepSource
    messages: tuple[dict[str, Any], ...] = ()
    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    model: str = ""
    usage: Usage | None = None
    sample: TokenSample | None = None
    cached: bool = False
    finish_reason: str = ""
    refusal: str = ""
    call: ToolCall | None = None
    result: ToolResult | None = None
    task_call: TaskCall | None = None
    error: str = ""
    started: float = 0.0
    ended: float = 0.0
    extra: dict[str, Any] = {}


class SubScore(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A part of a grade. value: 0 to 1; weight below 0: a penalty; children: what it was combined from."""

    name: str
    value: float
    weight: float = 1.0
    children: tuple[SubScore, ...] = ()
    info: dict[str, Any] = {}


class Grade(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What an environment said of an answer. `raw`: its frame as it came, without the parts that stand here."""

    reward: float = 0.0
    done: bool = True
    content: str = ""
    info: dict[str, Any] = {}
    is_error: bool = False
    subscores: tuple[SubScore, ...] = ()
    raw: dict[str, Any] = {}


class EvalRun(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A run as it stands now; stored again with every change, the newest wins.

    id           32 hexadecimal digits; also the trace's id
    job          id of its job; `task`: id of the recorded task that it ran in (the job, or a hosted run's own)
    position     its place in the job: eval tasks in order, then the tries of each
    group        common to the tries of one eval task in one call
    grade        None: not graded, so that it has no reward
    attempt      1 for the first; more after faults of the infrastructure
    """

    id: str
    job: str
    task: str = ""
    position: int = 0
    group: str = ""
    slug: str = ""
    env: str = ""
    template: str = ""
    args: dict[str, Any] = {}
    columns: dict[str, Any] = {}
    status: RunStatus = "running"
    boundary: Boundary = ""
    error: str = ""
    stop_reason: StopReason = ""
    answer: Any = None
    grade: Grade | None = None
    usage: Usage = Usage()
    steps: int = 0
    attempt: int = 1
    agent: str = ""
    model: str = ""
    runtime: str = ""
    started: float = 0.0
    ended: float = 0.0
    extra: dict[str, Any] = {}

    @property
    def reward(self) -> float | None:
        return None if self.grade is None or self.grade.is_error else self.grade.reward


class EvalJob(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The receipt of many runs; stored again when it is continued.

    taskset       name, and version where it came from a server (0: a local one)
    fingerprints  what a resumed job has to meet again: digests of `environment`, `agent`, `taskset`
    spec          how to run it again: what `taskloom eval` was given
    trained_by    id of the task that made the evaluated model, where that is known
    expected      runs that it means to have; 0: open
    """

    id: str
    name: str = ""
    taskset: str = ""
    taskset_version: int = 0
    group: int = 1
    agent: str = ""
    model: str = ""
    trained_by: str = ""
    expected: int = 0
    fingerprints: dict[str, str] = {}
    spec: dict[str, Any] = {}
    created: float = 0.0


class EvalRow(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An eval task as a taskset on the server holds it; `slug` is its name there. The last three: not set is None."""

    slug: str
    env: str
    id: str
    args: dict[str, Any] = {}
    columns: dict[str, Any] | None = None
    validation: list[dict[str, Any]] | None = None
    agent_config: dict[str, Any] | None = None


# --- figures ------------------------------------------------------------------------------------------------


class Estimate(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A mean with its standard error and confidence interval; without the latter two where one value is all."""

    mean: float
    stderr: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = 0.95


class SlugFigures(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The tries at one eval task: how many counted, how many of them passed, mean and spread of their rewards."""

    slug: str
    runs: int
    counted: int
    passed: int
    mean: float | None = None
    deviation: float | None = None


class Figures(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the runs of a job come to. Source: `domain.statistics`, which says how each is made.

    counted      runs that say something of the model: graded ones, and those where the agent failed (reward 0)
    excluded     ended runs that do not, by boundary; `cancelled` and `running` beside them
    failures     runs whose status is `error`, by boundary, whether they count or not
    reward       mean over what counted, the interval clustered by eval task
    reward_all   mean over all ended runs, every failure as 0 (what `Job.reward` tells)
    graded       mean over graded runs alone
    pass_at      chance that one of k tries passes, by k; pass_all: that all k pass (pass^k)
    """

    runs: int
    slugs: int
    counted: int
    excluded: dict[str, int] = {}
    failures: dict[str, int] = {}
    cancelled: int = 0
    running: int = 0
    threshold: float = 1.0
    reward: Estimate | None = None
    reward_all: float = 0.0
    graded: float | None = None
    pass_at: dict[int, Estimate] = {}
    pass_all: dict[int, Estimate] = {}
    usage: Usage = Usage()
    seconds: Estimate | None = None
    by_slug: list[SlugFigures] = []


class SlugDifference(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    slug: str
    first: float
    second: float
    difference: float


class Comparison(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Two jobs on the eval tasks that both have: second minus first.

    difference   mean of the differences by slug, with its interval
    p_value      two-sided, that no difference is behind it; `method` names the test
    better, worse, equal  slugs by the sign of their difference
    slugs        those that differ most first
    """

    first: str
    second: str
    paired: int
    difference: Estimate | None = None
    p_value: float | None = None
    method: str = ""
    better: int = 0
    worse: int = 0
    equal: int = 0
    slugs: list[SlugDifference] = []
    only_first: list[str] = []
    only_second: list[str] = []
