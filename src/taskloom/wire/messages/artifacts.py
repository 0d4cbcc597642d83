"""Artifacts, models and bytes."""

from __future__ import annotations

from typing import Any

import msgspec

from taskloom.domain.artifact import Artifact, Model
from taskloom.domain.metrics import WireNumber
from taskloom.wire.messages.base import Answer, Request
from taskloom.wire.messages.tasks import Condition
from taskloom.wire.records import Plotted


class ArtifactList(Answer, frozen=True, kw_only=True):
    artifacts: list[Artifact]


class BlobStatus(Answer, frozen=True, kw_only=True):
    """`received` bytes of an upload that was cut; whole when `complete`."""

    digest: str
    complete: bool
    size: int = 0
    received: int = 0


class ModelQuery(Request, frozen=True, kw_only=True):
    """Which models, in which order, which page. Empty means any.

    name: a part of it, case-insensitive. tags, system_tags: the tag language of `domain.tagquery`. where: every
    condition holds; any_of: in every list at least one does; their keys are `id`, `name`, `comment`, `project`
    (a path), `task`, `user`, `framework`, `uri`, `digest`, `fingerprint`, `parent`, `published`, `created`,
    `last_update`, `iteration`, and `metadata.KEY`. order_by: the same without metadata, a leading `-` reverses;
    by default the last changed first.
    """

    ids: list[str] = []
    name: str = ""
    project: str = ""
    task: str = ""
    digest: str = ""
    tags: list[str] = []
    system_tags: list[str] = []
    framework: str = ""
    only_published: bool = False
    where: list[Condition] = []
    any_of: list[list[Condition]] = []
    order_by: list[str] = []
    limit: int = 100
    offset: int = 0


class ModelList(Answer, frozen=True, kw_only=True):
    models: list[Model]
    total: int


class ModelCreate(Request, frozen=True, kw_only=True):
    model: Model


class ModelEdit(Request, frozen=True, kw_only=True):
    """What is None stays. Of a published model only name, project, comment, tags and metadata can be changed."""

    name: str | None = None
    project: str | None = None
    comment: str | None = None
    tags: tuple[str, ...] | None = None
    system_tags: tuple[str, ...] | None = None
    task: str | None = None
    parent: str | None = None
    labels: dict[str, int] | None = None
    design: str | None = None
    framework: str | None = None
    iteration: int | None = None
    metadata: dict[str, Any] | None = None
    digest: str | None = None
    size: int | None = None
    filename: str | None = None
    uri: str | None = None
    fingerprint: str | None = None


class ModelPoint(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A point of a curve of a model; told again for the same iteration, the new one counts."""

    title: str
    series: str
    iteration: int
    value: WireNumber
    time: float


class ModelReport(Request, frozen=True, kw_only=True):
    """What is told of a model itself. Plots as of a task: the same title, series and iteration replaces one."""

    points: list[ModelPoint] = []
    plots: list[Plotted] = []


class ModelDelete(Request, frozen=True, kw_only=True):
    """Query string. `force`: also a published one, and one that other tasks use as an input."""

    force: bool = False
