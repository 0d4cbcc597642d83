"""What a run used: the model whose weights it loaded, the artifacts of other tasks that it read.

A file is known again by its fingerprint, so a model is found wherever its bytes lie. What a task made itself is
no input of it. Everything here happens in the transaction that applies the run's records.
"""

from __future__ import annotations

import uuid

from sqlalchemy import Connection

from taskloom.domain.artifact import Model, ModelLink, check_digest
from taskloom.domain.errors import BadInput
from taskloom.domain.project import check_text
from taskloom.domain.task import Task
from taskloom.server.artifacts import store, use_store
from taskloom.wire.records import ArtifactUsed, ModelUsed

LONGEST = 8192  # characters of an address
INPUT = "input"


def use_model(tx: Connection, task: Task, used: ModelUsed, now: float) -> None:
    """Link the model as an input, once; one about which nothing is known is registered first."""
    uri = check_text(used.uri, "model uri")
    if len(uri) > LONGEST:
        raise BadInput(f"model uri has {len(uri)} characters; expected at most {LONGEST}")
    if used.fingerprint:
        check_digest(used.fingerprint)
    if not (used.fingerprint or uri):
        raise BadInput("a model that was used needs a fingerprint or a uri")
    found = use_store.known_model(tx, task.id, used.fingerprint, uri)
    if found is not None and found.task == task.id:
        return
    model = found or _registered(tx, task, used, now)
    links = [link for link in store.links_of(tx, [task.id]).get(task.id, ()) if link.direction == INPUT]
    if all(link.model != model.id for link in links):
        taken = {link.name for link in links}
        wanted = _cut(used.name) or _last(uri) or model.name or model.id
        store.put_link(tx, task.id, ModelLink(_free(wanted, taken), model.id, INPUT))


def use_artifact(tx: Connection, task_id: str, used: ArtifactUsed, longest_name: int) -> None:
    name = check_text(used.name, "artifact name")
    if not 1 <= len(name) <= longest_name:
        raise BadInput(f"artifact name has {len(name)} characters; expected 1 to {longest_name}")
    if len(used.task) != 32 or not used.task.isalnum():
        raise BadInput(f"task id {used.task[:80]!a}: expected 32 lower-case hexadecimal digits")
    if used.task != task_id:
        use_store.put_use(tx, task_id, used.task, name, used.time)


def _registered(tx: Connection, task: Task, used: ModelUsed, now: float) -> Model:
    model = Model(
        id=uuid.uuid4().hex,
        name=_cut(used.name) or _last(used.uri) or used.fingerprint,
        project=task.project,
        uri=used.uri,
        filename=_last(used.uri),
        framework=check_text(used.framework, "model framework")[:200],
        fingerprint=used.fingerprint,
        user=task.user,
        created=now,
        last_update=now,
    )
    store.put_model(tx, model)
    return model


def _cut(name: str) -> str:
    return check_text(name, "model name")[:1000]


def _last(uri: str) -> str:
    return uri.rstrip("/").rpartition("/")[2][:1000]


def _free(wanted: str, taken: set[str]) -> str:
    """Two files of one name are two inputs."""
    names = (wanted if number == 1 else f"{wanted} ({number})" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)
