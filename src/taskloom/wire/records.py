"""The records of a journal's `events` stream: what a run says about itself, in order.

A writer is one process of one task; its records are numbered from 0 and that number is never reused, so
(task, writer, number) names a record for ever: the server applies each once. Scalars and console bytes are
not here, they have streams of their own (see `messages.JournalBatch`).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from taskloom.domain.artifact import Artifact, Model, ModelLink, Sample
from taskloom.domain.evaluation import EvalJob, EvalRun, Step
from taskloom.domain.task import TaskEdit, TaskType

OpenMode = Literal["new", "reset", "resume"]
EndStatus = Literal["completed", "failed", "aborted"]


class Opened(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="record", tag="opened"):
    """The task begins (or begins again) to run under a script that a person started.

    new     create it; applied to an existing task it changes nothing (the record came twice by two roads)
    reset   drop the results of the earlier run first, then begin; creates the task when it is not there
    resume  keep everything and go on; creates the task when it is not there
    """

    mode: OpenMode
    name: str
    project: str
    type: TaskType = TaskType.TRAINING
    time: float
    tags: tuple[str, ...] = ()
    system_tags: tuple[str, ...] = ()
    parent: str = ""
    comment: str = ""
    output_uri: str = ""
    runtime: dict[str, Any] = {}


class Edited(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="record", tag="edited"):
    edit: TaskEdit
    time: float


class Ended(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="record", tag="ended"):
    """The script is over. Under a lease it only leaves its reason: the holder of the lease ends the task."""

    status: EndStatus
    time: float
    reason: str = ""
    message: str = ""  # a traceback, for example


class SeriesNamed(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="record", tag="series"):
    """Gives the number that this writer's scalar rows use for a series. Comes before its first row."""

    number: int
    title: str
    series: str


class Plotted(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="record", tag="plot"):
    """A plot of any kind as plotly JSON text. The same title, series and iteration again replaces it.

    kind: plotly, table, confusion_matrix, histogram, ... (what reported it; the figure is always plotly's)
    """

    title: str
    series: str
    iteration: int
    time: float
    kind: str
    figure: str


class ArtifactStored(
    msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="record", tag="artifact"
):
    """An artifact whose bytes the server already holds (or which only names a `uri`). Same name: replaced."""

    artifact: Artifact


class ArtifactRemoved(
    msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="record", tag="artifact_removed"
):
    name: str
    time: float


class ModelStored(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="record", tag="model"):
    """A model made or used by the task; creates or updates the model, and links it when `link` is given.

    changed: the fields of the model that are told about one that is there; empty: all of them. Of `metadata` the
    entries that are given are added. What people changed on the server meanwhile so stays theirs.
    """

    model: Model
    link: ModelLink | None = None
    changed: tuple[str, ...] = ()


class Sampled(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="record", tag="sample"):
    """A debug sample whose bytes the server already holds (or which only names a `uri`).

    history: of this title and series, keep only that many iterations, the newest; 0 keeps all.
    """

    sample: Sample
    history: int = 0


class ModelUsed(
    msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="record", tag="model_used"
):
    """The task loaded weights. The server links the newest model of that fingerprint as an input, else a new one.

    fingerprint as of a model; empty when it is not known. uri: where they were loaded from.
    """

    fingerprint: str = ""
    uri: str = ""
    name: str = ""
    framework: str = ""
    time: float


class ArtifactUsed(
    msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="record", tag="artifact_used"
):
    """The task read an artifact of another task: lineage from data to what was made of it."""

    task: str
    name: str
    time: float


class JobStored(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="record", tag="job"):
    """The recorded task is an evaluation job; again with what changed when it is continued."""

    job: EvalJob


class RunStored(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="record", tag="run"):
    """A run of an evaluation as it stands now: when it begins and when it ends. The newest wins.

    It may belong to a job that is another task than the one whose journal this is (a hosted run). One that begins
    (again) has no steps: those of an earlier attempt go.
    """

    run: EvalRun


class StepsTaken(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="record", tag="steps"):
    """Steps of a run's trace from number `start` (0 is the first) on, in order."""

    run: str
    job: str
    start: int
    steps: tuple[Step, ...]


Record = (
    Opened
    | Edited
    | Ended
    | SeriesNamed
    | Plotted
    | ArtifactStored
    | ArtifactRemoved
    | ModelStored
    | Sampled
    | ModelUsed
    | ArtifactUsed
    | JobStored
    | RunStored
    | StepsTaken
)
