"""Artifacts and models as tasks name them; their bytes come in and go in `holdings`.

Only complete bytes can be named (BlobMissing otherwise: the sender uploads them, again if need be). A digest
that loses a name is marked in the same transaction; `delete_unnamed_bytes` then deletes what nothing names any
more. Methods that take an open connection `tx` belong into the caller's transaction on main.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection

from taskloom.domain.artifact import Artifact, Model, ModelLink, Sample, StoredFile, check_digest
from taskloom.domain.errors import BadInput, BlobMissing, Conflict, NotFound, TooLarge
from taskloom.domain.project import check_tag, check_text
from taskloom.domain.task import Task
from taskloom.server.artifacts import elsewhere_store, file_store, importing, store, use_store, using
from taskloom.server.artifacts.files import FileKeeper, filled
from taskloom.server.artifacts.holdings import Holdings
from taskloom.server.artifacts.query import page
from taskloom.server.artifacts.samples import SampleKeeper
from taskloom.server.blobs import Blobs
from taskloom.server.call import Caller
from taskloom.server.db import Database
from taskloom.server.events import EventBus
from taskloom.server.settings import Clock, Settings
from taskloom.wire.messages import LiveEvent, ModelCreate, ModelEdit, ModelQuery, SamplesQuery
from taskloom.wire.records import ArtifactUsed, ModelUsed

LONGEST_NAME = 1024
ABOUT = frozenset({"name", "comment", "tags", "system_tags", "metadata", "project"})
"""What of a published model may still be changed."""
LARGEST_DOCUMENT = 4 * 2**20  # bytes of an artifact's or model's description, previews included
_ID = re.compile(r"[0-9a-f]{32}")


class ArtifactService:
    def __init__(self, db: Database, blobs: Blobs, bus: EventBus, clock: Clock, settings: Settings) -> None:
        self._db, self._bus, self._clock, self._settings = db, bus, clock, settings
        self.holdings = Holdings(db, blobs, clock, settings)
        self.files = FileKeeper(db)
        self._samples = SampleKeeper(db, clock)

    async def start(self) -> None:
        await self.holdings.start()

    async def stop(self) -> None:
        await self.holdings.stop()

    async def delete_unnamed_bytes(self) -> None:
        """Delete the bytes that lost their last name, and those that waited a day for their first."""
        await self.holdings.delete_unnamed_bytes()

    # --- a task's artifacts and models, inside the caller's transaction -----------------------------------

    def store_artifact(self, tx: Connection, task_id: str, artifact: Artifact) -> None:
        """Name bytes; an artifact of the same name is replaced. Raises BlobMissing, BadInput."""
        _check_label(artifact.name, "artifact name")
        _check_size(artifact, f"artifact {artifact.name!r}")
        if artifact.fingerprint:
            check_digest(artifact.fingerprint)
        artifact = filled(tx, artifact)
        if artifact.digest:
            size = _complete(tx, artifact.digest, f"artifact {artifact.name!r}")
            artifact = msgspec.structs.replace(artifact, size=size)
        if not artifact.created or not math.isfinite(artifact.created):
            artifact = msgspec.structs.replace(artifact, created=self._clock())
        before = store.artifact_digest(tx, task_id, artifact.name)
        store.put_artifact(tx, task_id, artifact)
        if before and before != artifact.digest:
            store.unname(tx, [before])

    def remove_artifact(self, tx: Connection, task_id: str, name: str) -> bool:
        """Whether there was one of this name."""
        digest = store.artifact_digest(tx, task_id, name)
        if digest is None:
            return False
        store.drop_artifact(tx, task_id, name)
        store.unname(tx, [digest])
        return True

    def store_model(
        self, tx: Connection, task: Task, model: Model, link: ModelLink | None, changed: Collection[str] = ()
    ) -> None:
        """Create or update a model as its run tells it, and link it; `changed` as of `ModelStored`.

        A task that only uses a model that is there, or that reports on a published one, changes nothing of it.
        A link to an unknown model about which nothing is told leads nowhere and is left out.
        """
        if link is not None:
            _check_direction(link)
        used = link is not None and link.direction != store.OUTPUT
        found = store.find_model(tx, _check_id(model.id))
        if found is None and model == Model(id=model.id):
            return
        if found is None or not (used or found.published):
            told = model if found is None or not changed else _merged(found, model, changed)
            self._put_run_model(tx, task, told, found, used)
        if link is not None:
            _check_label(link.name, "model name")
            store.put_link(tx, task.id, msgspec.structs.replace(link, model=model.id))

    def use_model(self, tx: Connection, task: Task, used: ModelUsed) -> None:
        """Its run loaded weights, see `using`."""
        using.use_model(tx, task, used, self._clock())

    def use_artifact(self, tx: Connection, task_id: str, used: ArtifactUsed) -> None:
        """Its run read an artifact of another task, which may be gone by now."""
        using.use_artifact(tx, task_id, used, LONGEST_NAME)

    def link_model(self, tx: Connection, task_id: str, link: ModelLink) -> None:
        """The task refers to a model that is there; NotFound when it is not."""
        _check_direction(link)
        if store.find_model(tx, link.model) is None:
            raise NotFound(f"no model {link.model[:80]!r}", model=link.model[:80])
        _check_label(link.name, "model name")
        store.put_link(tx, task_id, link)

    async def refer(self, task_id: str, link: ModelLink) -> None:
        """The same in a transaction of its own."""
        await self._db.write(lambda tx: self.link_model(tx, task_id, link))

    def unlink_model(self, tx: Connection, task_id: str, direction: str, name: str) -> bool:
        """The model itself stays. Whether the task referred to one so."""
        return store.drop_link(tx, task_id, direction, name)

    def of_task(self, tx: Connection, task_id: str) -> tuple[Artifact, ...]:
        """In the order of their creation."""
        return store.artifacts_of(tx, [task_id]).get(task_id, ())

    def links_of_task(self, tx: Connection, task_id: str) -> tuple[ModelLink, ...]:
        """In the order in which they were first made."""
        return store.links_of(tx, [task_id]).get(task_id, ())

    def of_tasks(self, tx: Connection, task_ids: Sequence[str]) -> dict[str, tuple[Artifact, ...]]:
        """The same for a page of tasks at once; tasks without any are missing."""
        return store.artifacts_of(tx, task_ids)

    def links_of_tasks(self, tx: Connection, task_ids: Sequence[str]) -> dict[str, tuple[ModelLink, ...]]:
        return store.links_of(tx, task_ids)

    def drop_results(self, tx: Connection, task_id: str) -> None:
        """For a reset or a deletion: its artifacts, its links, what it used, and the models it made.

        Published models stay, and so do models that other tasks refer to. `delete_unnamed_bytes` afterwards.
        """
        digests = store.drop_artifacts(tx, task_id)
        digests += file_store.drop_samples(tx, task_id)
        for model in store.own_models(tx, task_id):
            digests += self._drop_model(tx, model)
        store.drop_links(tx, task_id)
        use_store.drop_uses(tx, task_id)
        digests += self.files.drop_of_task(tx, task_id)
        store.unname(tx, digests)

    def lost_names(self, tx: Connection, digests: Sequence[str]) -> None:
        """An execution named these bytes and does not any more. `delete_unnamed_bytes` afterwards."""
        store.unname(tx, digests)

    def must_hold(self, tx: Connection, digest: str) -> None:
        """BlobMissing unless the bytes are here, complete."""
        if store.size_of(tx, check_digest(digest)) is None:
            raise BlobMissing(f"the bytes {digest} are not here; upload them first", digest=digest)

    def stored_elsewhere(self, tx: Connection, task_id: str) -> list[str]:
        """Addresses below the task's own folders at destinations, of what `drop_results` will drop."""
        return elsewhere_store.stored_elsewhere(tx, task_id)

    def named_by_nobody(self, tx: Connection, uris: Sequence[str]) -> list[str]:
        """Those of them that may be removed by whoever has the credentials; this server never does."""
        named = elsewhere_store.still_named(tx, uris)
        return [uri for uri in uris if uri not in named]

    def _drop_model(self, tx: Connection, model: Model) -> list[str]:
        """The digests that lose a name."""
        store.drop_model(tx, model.id)
        store.note_telemetry(tx, model.id, self._clock())
        return [model.digest, *file_store.drop_samples(tx, model.id)]

    # --- files and samples -------------------------------------------------------------------------------

    async def find_file(self, path: str) -> StoredFile | None:
        """The file at a clean path, see `paths`."""
        return await self.files.find_file(path)

    async def put_samples(self, owner_id: str, samples: Sequence[Sample]) -> None:
        """Samples of a task or a model; one whose `uri` is a file of ours gets its bytes."""
        if samples:
            await self._samples.put_samples(owner_id, samples)
            self._bus.publish(LiveEvent(kind="samples", task=owner_id, time=self._clock()))

    async def drop_samples(self, owner_id: str) -> None:
        """All samples of a task or a model, with the bytes that nothing else names."""

        def work(tx: Connection) -> None:
            store.unname(tx, file_store.drop_samples(tx, owner_id))

        await self._db.write(work)
        await self.delete_unnamed_bytes()

    async def list_samples(self, owner_id: str, query: SamplesQuery) -> tuple[list[Sample], int]:
        """A page and how many there are; by title, series, newest iteration first."""
        return await self._samples.list_samples(owner_id, query, self._settings.max_page)

    def store_sample(self, tx: Connection, owner_id: str, sample: Sample, history: int = 0) -> None:
        """Inside the caller's transaction."""
        self._samples.store_sample(tx, owner_id, sample, history)

    async def delete_dropped_samples(self, ended: bool) -> None:
        """The bytes of samples that made room for newer ones. `ended`: the task is over, so do not put it off."""
        if self._samples.leaves_bytes(ended):
            await self.delete_unnamed_bytes()

    def _put_run_model(self, tx: Connection, task: Task, model: Model, found: Model | None, used: bool) -> None:
        now = self._clock()
        kept = msgspec.structs.replace(
            model,
            task=found.task if found else model.task or ("" if used else task.id),
            project=model.project or (found.project if found else "") or task.project,
            user=found.user if found else model.user or task.user,
            created=found.created if found else model.created or now,
            published=False,
            last_update=now,
        )
        store.put_model(tx, _checked(tx, kept))
        if found is not None and found.digest != kept.digest:
            store.unname(tx, [found.digest])

    async def list_artifacts(self, task_id: str) -> tuple[Artifact, ...]:
        def work(tx: Connection) -> tuple[Artifact, ...]:
            if not store.has_task(tx, task_id):
                raise NotFound(f"no task {task_id!r}")
            return self.of_task(tx, task_id)

        return await self._db.read(work)

    # --- models ------------------------------------------------------------------------------------------

    async def query_models(self, query: ModelQuery) -> tuple[list[Model], int]:
        if not 1 <= query.limit <= self._settings.max_page or not 0 <= query.offset < 2**31:
            raise BadInput(f"limit: expected 1 to {self._settings.max_page}; offset: 0 or more")
        return await self._db.read(lambda tx: page(tx, query))

    async def get_model(self, model_id: str) -> Model:
        return await self._db.read(lambda tx: _model(tx, model_id))

    async def create_model(self, caller: Caller, wanted: ModelCreate) -> Model:
        """Register a model by hand; its bytes, if it has some here, are uploaded before."""
        now = self._clock()
        fresh = msgspec.structs.replace(
            wanted.model,
            id=_check_id(wanted.model.id) if wanted.model.id else uuid.uuid4().hex,
            published=False,
            user=caller.user,
            created=now,
            last_update=now,
        )

        def work(tx: Connection) -> Model:
            if store.find_model(tx, fresh.id) is not None:
                raise Conflict(f"model {fresh.id} exists", model=fresh.id)
            project = fresh.project or store.task_project(tx, fresh.task)
            made = _checked(tx, msgspec.structs.replace(fresh, project=project))
            store.put_model(tx, made)
            return made

        return self._told(await self._db.write(work))

    async def import_model(self, model_id: str, wanted: Model) -> Model:
        """See `importing`."""
        _check_id(model_id)
        return self._told(await self._db.write(lambda tx: importing.put_model(tx, model_id, wanted, _checked)))

    async def edit_model(self, model_id: str, edit: ModelEdit, *, awaited: bool = False) -> Model:
        """Of a published model only what people write about it, see `ABOUT`; another value of the rest: Conflict.

        `awaited`: it was published while its weights were still on their way, and here they are.
        """
        given = {name: value for name, value in msgspec.structs.asdict(edit).items() if value is not None}

        def work(tx: Connection) -> Model:
            found = _model(tx, model_id)
            changes = {name: value for name, value in given.items() if value != getattr(found, name)}
            if found.published and not (awaited and not found.digest) and changes.keys() - ABOUT:
                fixed = ", ".join(sorted(changes.keys() - ABOUT))
                raise Conflict(f"model {model_id} is published; its {fixed} cannot be changed", model=model_id)
            if (
                "uri" in changes and edit.digest is None
            ):  # other weights: what was known of the bytes is not theirs
                changes |= {"digest": "", "size": 0, "filename": ""}
            if changes.keys() & {"uri", "digest"}:
                changes = {"fingerprint": "", **changes, "contents": ""}
            changed = _checked(tx, msgspec.structs.replace(found, **changes, last_update=self._clock()))
            store.put_model(tx, changed)
            if found.digest != changed.digest:
                store.unname(tx, [found.digest])
            return changed

        changed = self._told(await self._db.write(work))
        if edit.digest is not None or edit.uri is not None:
            await self.delete_unnamed_bytes()
        return changed

    async def publish_model(self, model_id: str) -> Model:
        """Read-only from now on. A published one may be published again."""

        def work(tx: Connection) -> Model:
            found = _model(tx, model_id)
            if found.published:
                return found
            published = msgspec.structs.replace(found, published=True, last_update=self._clock())
            store.put_model(tx, published)
            return published

        return self._told(await self._db.write(work))

    async def users_of(self, model_id: str) -> list[str]:
        """Ids of the tasks that use a model as their input."""
        return await self._db.read(lambda tx: store.using_tasks(tx, model_id))

    async def change_metadata(
        self, model_id: str, items: Mapping[str, Any], *, gone: Collection[str] = (), replace: bool = False
    ) -> Model:
        """Add or change entries, take some away; `replace`: what is not among `items` goes. Published or not."""

        def work(tx: Connection) -> Model:
            found = _model(tx, model_id)
            kept = {} if replace else {key: value for key, value in found.metadata.items() if key not in gone}
            changed = msgspec.structs.replace(found, metadata={**kept, **items}, last_update=self._clock())
            store.put_model(tx, _checked(tx, changed))
            return changed

        return self._told(await self._db.write(work))

    async def frameworks(self, projects: Collection[str]) -> list[str]:
        """Of the models in these projects, or of all; sorted, each once."""
        return await self._db.read(lambda tx: store.frameworks(tx, list(projects)))

    async def delete_model(self, model_id: str, *, force: bool = False, with_file: bool = True) -> Model:
        """With its bytes, when nothing else names them; links of tasks to it go, too.

        force: also one that is published, or that tasks use as an input (Conflict otherwise). with_file: the file of ours that it names goes as well, unless it is still named by others.
        """

        def work(tx: Connection) -> Model:
            found = _model(tx, model_id) if force else _unpublished(tx, model_id, "deleted")
            users = [] if force else store.using_tasks(tx, model_id)
            if users:
                raise Conflict(
                    f"model {model_id} is used by {len(users)} tasks; it is only deleted by force",
                    tasks=users[:10],
                )
            digests = self._drop_model(tx, found)
            if with_file:
                self.files.drop_of_model(tx, found)
            store.unname(tx, digests)
            return found

        gone = self._told(await self._db.write(work))
        await self.delete_unnamed_bytes()
        return gone

    def _told(self, model: Model) -> Model:
        event = LiveEvent(kind="artifacts", task=model.task, project=model.project, time=self._clock())
        self._bus.publish(event)
        return model


def _model(tx: Connection, model_id: str) -> Model:
    found = store.find_model(tx, model_id)
    if found is None:
        raise NotFound(f"no model {model_id[:80]!r}", model=model_id[:80])
    return found


def _unpublished(tx: Connection, model_id: str, verb: str) -> Model:
    found = _model(tx, model_id)
    if found.published:
        raise Conflict(f"model {model_id} is published; it cannot be {verb}", model=model_id)
    return found


def _merged(found: Model, told: Model, changed: Collection[str]) -> Model:
    unknown = sorted(set(changed) - set(Model.__struct_fields__))
    if unknown:
        raise BadInput(f"a model has no {unknown[0][:80]!a}")
    values = {name: getattr(told, name) for name in changed}
    if "metadata" in values:
        values["metadata"] = {**found.metadata, **told.metadata}
    return msgspec.structs.replace(found, **values)


def _complete(tx: Connection, digest: str, what: str) -> int:
    size = store.size_of(tx, check_digest(digest))
    if size is None:
        raise BlobMissing(f"{what}: the bytes {digest} are not here; upload them first", digest=digest)
    return size


def _checked(tx: Connection, model: Model) -> Model:
    """The model with its size as the server knows it."""
    for what in ("name", "project", "task", "framework", "filename", "uri", "parent"):
        check_text(getattr(model, what), f"model {what}")
    if len(model.name) > LONGEST_NAME:
        raise BadInput(f"model name has {len(model.name)} characters; expected at most {LONGEST_NAME}")
    for tag in (*model.tags, *model.system_tags):
        check_tag(tag)
    _check_size(model, f"model {model.id}")
    for told in (model.fingerprint, model.contents):
        if told:
            check_digest(told)
    model = filled(tx, model)
    if not model.digest:
        return model
    return msgspec.structs.replace(model, size=_complete(tx, model.digest, f"model {model.id}"))


def _check_size(value: Artifact | Model, what: str) -> None:
    size = len(msgspec.msgpack.encode(value))
    if size > LARGEST_DOCUMENT:
        raise TooLarge(f"{what}: the description has {size} bytes; expected at most {LARGEST_DOCUMENT}")


def _check_label(name: str, what: str) -> str:
    if not 1 <= len(check_text(name, what)) <= LONGEST_NAME:
        raise BadInput(f"{what} has {len(name)} characters; expected 1 to {LONGEST_NAME}")
    return name


def _check_direction(link: ModelLink) -> None:
    if link.direction not in {"input", store.OUTPUT}:
        raise BadInput(f"direction {link.direction[:80]!a} of a model: expected 'input' or 'output'")


def _check_id(model_id: str) -> str:
    if not _ID.fullmatch(model_id):
        raise BadInput(f"model id {model_id[:80]!r}: expected 32 hexadecimal digits")
    return model_id
