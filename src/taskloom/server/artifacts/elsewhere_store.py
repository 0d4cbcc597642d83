"""SQL of bytes that a task stored at a destination of its own: their addresses, and who else names them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, select

from taskloom.domain.artifact import Artifact, Sample
from taskloom.domain.destination import lies_in_folder_of
from taskloom.server.artifacts.store import own_models
from taskloom.server.tables import artifacts, models, samples

_artifact_of = msgspec.msgpack.Decoder(Artifact)
_sample_of = msgspec.msgpack.Decoder(Sample)
AT_ONCE = 500


def stored_elsewhere(tx: Connection, task_id: str) -> list[str]:
    """What goes with the task's results and lies in its own folder at a destination."""
    found = [model.uri for model in own_models(tx, task_id)]
    rows = select(artifacts.c.document).where(artifacts.c.task_id == task_id, artifacts.c.digest == "")
    found += [_artifact_of.decode(document).uri for document in tx.execute(rows).scalars()]
    rows = select(samples.c.document).where(samples.c.owner_id == task_id, samples.c.digest == "")
    found += [_sample_of.decode(document).uri for document in tx.execute(rows).scalars()]
    return [uri for uri in dict.fromkeys(found) if lies_in_folder_of(uri, task_id)]


def still_named(tx: Connection, uris: Sequence[str]) -> set[str]:
    """Which of them a model or an artifact that is there names."""
    found: set[str] = set()
    for start in range(0, len(uris), AT_ONCE):
        named = select(models.c.uri).where(models.c.uri.in_(uris[start : start + AT_ONCE]))
        found |= set(tx.execute(named).scalars())
    if uris:
        wanted = set(uris)
        for document in tx.execute(select(artifacts.c.document).where(artifacts.c.digest == "")).scalars():
            found |= {_artifact_of.decode(document).uri} & wanted
    return found
