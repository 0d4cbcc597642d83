"""Artifacts and models: named blobs with a digest. A model is an artifact that is weights, with lineage.

Bytes are addressed by their SHA-256; names, paths and types that users give are data and never become a
path on the server.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from taskloom.domain.errors import BadInput

NOTEBOOK_KIND = "notebook"  # the file of the notebook in which the task ran: no result of the run
_DIGEST = re.compile(r"[0-9a-f]{64}")
DESIGN, LABELS = "design", "labels"
"""Names of the configuration objects of a task that the models which it makes take over."""


def check_digest(text: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise BadInput(f"digest {text[:80]!r}: expected 64 lower-case hexadecimal digits of a SHA-256")
    return text


class Artifact(msgspec.Struct, frozen=True, omit_defaults=True):
    """One artifact of a task.

    kind     what it was: file, folder, dict, pandas, numpy, image, text, object (pickled), notebook
    digest   SHA-256 of the bytes; empty when `uri` names bytes that Taskloom does not hold
    uri      where the bytes are, when they were stored somewhere by an address: elsewhere, or as a file of ours
    fingerprint  SHA-256 of bytes that are elsewhere, where it is known; empty where `digest` tells it
    filename name to give a downloaded copy, with its extension
    preview  short text for people; made by the SDK, so that nothing has to be opened to be shown
    """

    name: str
    kind: str = "file"
    digest: str = ""
    size: int = 0
    filename: str = ""
    media_type: str = ""
    uri: str = ""
    metadata: dict[str, Any] = {}
    preview: str = ""
    created: float = 0.0
    fingerprint: str = ""


class Model(msgspec.Struct, frozen=True, omit_defaults=True):
    """Weights, with what made them. `task` is the task that created it; tasks refer to models by id.

    digest and uri as of an artifact: both when the weights were stored under an address of our file server.
    fingerprint: SHA-256 of the bytes wherever they are, by which a file that is loaded is known again; empty where
    `digest` tells it. Of a folder: of the lines `DIGEST  PATH` of its files, sorted by path, each ended by a newline.
    contents: of files that were packed into a zip file, the fingerprint of the folder that they are when unpacked.
    parent: id of the model that it was made from.
    """

    id: str
    name: str = ""
    project: str = ""
    task: str = ""
    digest: str = ""
    size: int = 0
    filename: str = ""
    uri: str = ""
    framework: str = ""
    iteration: int | None = None
    tags: tuple[str, ...] = ()
    system_tags: tuple[str, ...] = ()
    comment: str = ""
    labels: dict[str, int] = {}
    design: str = ""
    metadata: dict[str, Any] = {}
    published: bool = False
    user: str = ""
    created: float = 0.0
    last_update: float = 0.0
    parent: str = ""
    fingerprint: str = ""
    contents: str = ""


class ModelLink(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a task refers to a model: `direction` is `input` or `output`."""

    name: str
    model: str
    direction: str = "output"


class Sample(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A debug sample: an image, a sound or a page that a run showed at an iteration.

    The same title, series, iteration and name again replaces it. `digest` names bytes that the server holds;
    without it `uri` says where they are.
    """

    title: str
    series: str
    iteration: int
    time: float
    name: str = ""
    digest: str = ""
    size: int = 0
    media_type: str = ""
    uri: str = ""
    fingerprint: str = ""  # SHA-256 of bytes that are elsewhere


class StoredFile(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Bytes that a client stored under a path of its own choice. `task` is the id that its path tells."""

    path: str
    digest: str
    size: int
    media_type: str = ""
    task: str = ""
    user: str = ""
    created: float = 0.0
