"""Evaluations: jobs, runs and their traces; tasksets; leaderboards."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from taskloom.domain.evaluation import Comparison, EvalJob, EvalRow, EvalRun, Figures, Step
from taskloom.wire.messages.base import Answer, Request

RunOrder = Literal["position", "-reward", "reward", "-seconds", "-cost", "-started"]


class JobQuery(Request, frozen=True, kw_only=True):
    """Query string. Newest first. `agent`, `model` and `taskset` are exact, `search` is a part of the name."""

    project: str = ""
    taskset: str = ""
    agent: str = ""
    model: str = ""
    search: str = ""
    limit: int = 100
    offset: int = 0


class JobRecord(Answer, frozen=True, kw_only=True):
    """A job with the state of its task and the counts of its runs. `reward`: failures as 0; `graded`: without."""

    job: EvalJob
    project: str = ""
    task_name: str = ""
    status: str = ""
    user: str = ""
    started: float = 0.0
    completed: float = 0.0
    last_update: float = 0.0
    runs: int = 0
    counts: dict[str, int] = {}  # by status
    failures: dict[str, int] = {}  # by boundary
    reward: float = 0.0
    graded: float | None = None


class JobList(Answer, frozen=True, kw_only=True):
    jobs: list[JobRecord]
    total: int


class RunQuery(Request, frozen=True, kw_only=True):
    """Query string. `search`: a part of the slug. At most a page; `fields` of EvalRun are always whole."""

    status: str = ""
    boundary: str = ""
    slug: str = ""
    search: str = ""
    order: RunOrder = "position"
    limit: int = 200
    offset: int = 0


class RunList(Answer, frozen=True, kw_only=True):
    runs: list[EvalRun]
    total: int


class StepsQuery(Request, frozen=True, kw_only=True):
    """Query string. Steps from number `start` on; at most `limit`, fewer when they are large."""

    start: int = 0
    limit: int = 200


class StepPage(Answer, frozen=True, kw_only=True):
    """`start`: the number of the first one here; `total`: how many the run has by now."""

    start: int
    total: int
    steps: list[Step]


class ReportQuery(Request, frozen=True, kw_only=True):
    """Query string. threshold: a reward from it on is a pass. column: figures for each value of it, too."""

    threshold: float = 1.0
    level: float = 0.95
    column: str = ""


class JobReport(Answer, frozen=True, kw_only=True):
    """Figures for each eval task (`by_slug`) are in `figures` alone, and in those only where one job is reported."""

    job: EvalJob
    figures: Figures
    by_column: dict[str, Figures] = {}


class CompareQuery(Request, frozen=True, kw_only=True):
    """Query string."""

    first: str
    second: str
    threshold: float = 1.0
    level: float = 0.95
    limit: int = 100


class JobComparison(Answer, frozen=True, kw_only=True):
    first: JobReport
    second: JobReport
    comparison: Comparison


class LeaderboardQuery(Request, frozen=True, kw_only=True):
    """Query string. An entry for each agent and model on a taskset; `column` splits them by its values.

    version 0: all versions of the taskset. newest: only the newest job of each agent and model counts.
    """

    taskset: str
    version: int = 0
    column: str = ""
    newest: bool = True
    threshold: float = 1.0
    level: float = 0.95
    limit: int = 100


class LeaderboardEntry(Answer, frozen=True, kw_only=True):
    agent: str
    model: str
    jobs: list[str]
    figures: Figures
    by_column: dict[str, Figures] = {}


class Leaderboard(Answer, frozen=True, kw_only=True):
    """Best mean reward first."""

    taskset: str
    version: int
    entries: list[LeaderboardEntry]


class TasksetInfo(Answer, frozen=True, kw_only=True):
    """facets: for each column the values with how many rows have them, the most frequent first (at most 100).

    A list of tasksets has only the names of the columns there, other answers nothing.
    """

    id: str
    name: str
    description: str = ""
    version: int = 0
    rows: int = 0
    user: str = ""
    created: float = 0.0
    changed: float = 0.0
    facets: dict[str, list[Facet]] = {}


class Facet(msgspec.Struct, frozen=True):
    value: Any
    rows: int


class TasksetQuery(Request, frozen=True, kw_only=True):
    """Query string. `search`: a part of the name."""

    search: str = ""
    limit: int = 100
    offset: int = 0


class TasksetList(Answer, frozen=True, kw_only=True):
    tasksets: list[TasksetInfo]
    total: int


class RowsQuery(Request, frozen=True, kw_only=True):
    """Query string. version 0: the newest. `search`: a part of the slug. `column` and `value` (as JSON): a facet."""

    version: int = 0
    env: str = ""
    search: str = ""
    column: str = ""
    value: str = ""
    limit: int = 1000
    offset: int = 0


class RowPage(Answer, frozen=True, kw_only=True):
    taskset: TasksetInfo
    version: int
    rows: list[EvalRow]
    total: int


class TasksetVersion(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    version: int
    created: float
    user: str = ""
    rows: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0


class VersionList(Answer, frozen=True, kw_only=True):
    """Newest first."""

    versions: list[TasksetVersion]


class TasksetUpload(Request, frozen=True, kw_only=True):
    """Add and change rows by their slugs, remove others; rows that are equal change nothing.

    What changes makes one new version; nothing changed makes none. `continues`: the version that an earlier part of
    the same upload made, so that a large one that comes in parts is one version. `expects`: refuse (409) unless
    the taskset is at that version. New rows stand behind the others in the order in which they come.
    """

    rows: list[EvalRow] = []
    remove: list[str] = []
    description: str | None = None
    continues: int = 0
    expects: int | None = None


class TasksetChanged(Answer, frozen=True, kw_only=True):
    taskset: TasksetInfo
    created: int = 0
    updated: int = 0
    removed: int = 0
    unchanged: int = 0
