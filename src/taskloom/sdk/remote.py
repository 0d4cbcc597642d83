"""A task that does not run in this process: what is recorded on it becomes a call to the server at once.

Edits, artifacts and models are calls; scalars and plots of such a task go through a journal of their own,
because the code that reports them should not have to know where the task runs.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from taskloom.domain.artifact import ModelLink
from taskloom.domain.errors import NotFound
from taskloom.domain.task import Task
from taskloom.journal import layout
from taskloom.journal.writer import Writer
from taskloom.sdk.delivery import Delivery
from taskloom.sdk.notices import Notices
from taskloom.sdk.reports.logger import Logger
from taskloom.sdk.session import required_address
from taskloom.wire.connection import data_folder
from taskloom.wire.messages import JournalBatch, TaskEditRequest
from taskloom.wire.operations import DELETE_ARTIFACT, EDIT_TASK, GET_TASK, LINK_MODEL, PUT_ARTIFACT, SHIP_JOURNAL
from taskloom.wire.records import ArtifactRemoved, ArtifactStored, Edited, ModelStored, Record

if TYPE_CHECKING:
    from taskloom.sdk.weight_files import WeightFiles
    from taskloom.wire.send import Client

SPOOL_FOLDER = "spool"


class RemoteTask:
    """A `Recorder` of a task that lives on the server. `task` is what was last read of it."""

    live = False

    def __init__(self, task: Task, client: Callable[[], Client]) -> None:
        self._task = task
        self._client = client
        self._notices = Notices()
        self._weight_files: WeightFiles | None = None
        self._logger: Logger | None = None
        self._writer: Writer | None = None
        self._delivery: Delivery | None = None

    @property
    def id(self) -> str:
        return self._task.id

    @property
    def project_name(self) -> str:
        return self._task.project

    @property
    def spool(self) -> Path:
        folder = data_folder() / "cache" / SPOOL_FOLDER
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def client(self) -> Client:
        return self._client()

    def document(self) -> Task:
        return self._task

    def reload(self) -> Task:
        self._task = self.client().call(GET_TASK, task=self.id)
        return self._task

    def accept(self, task: Task) -> None:
        """What a call answered is the newest that is known."""
        self._task = task

    def record(self, record: Record) -> None:
        match self._brought(record):
            case Edited(edit=edit):
                self._task = self.client().call(EDIT_TASK, TaskEditRequest(edit=edit), task=self.id)
            case ArtifactStored(artifact=artifact):
                self.client().call(PUT_ARTIFACT, artifact, task=self.id)
                self.reload()
            case ArtifactRemoved(name=name):
                self.client().call(DELETE_ARTIFACT, task=self.id, name=name)
                self.reload()
            case ModelStored(link=ModelLink(direction="input") as link, model=model):
                self._task = self.client().call(
                    LINK_MODEL, msgspec.structs.replace(link, model=model.id), task=self.id
                )
            case other:
                # A writer that lives for one record: the same road as a running script's, applied once.
                batch = JournalBatch(writer=uuid.uuid4().hex, events=[other])
                self.client().call(SHIP_JOURNAL, batch, task=self.id)
                self.reload()

    def _brought(self, record: Record) -> Record:
        """With its bytes where they belong, or with what a storage destination refused told once."""
        from taskloom.domain.destination import uri_root
        from taskloom.journal.uploads import bring_now, need_of

        sent = bring_now(record, self.spool, required_address())
        if sent != record and (need := need_of(record)) is not None:
            self.tell(f"{uri_root(need.uri)} does not take files, they are kept on the Taskloom server")
        return sent

    @property
    def weight_files(self) -> WeightFiles:
        if self._weight_files is None:
            from taskloom.sdk.weight_files import WeightFiles

            self._weight_files = WeightFiles()
        return self._weight_files

    def project_destination(self) -> str:
        from taskloom.sdk.destinations import ask_project

        return ask_project(self.project_name, required_address())

    def tell(self, text: str) -> None:
        self._notices.once(text, text)

    def wait_shipped(self, timeout: float, *, while_moving: bool = False) -> bool:
        if self._writer is None or self._delivery is None:
            return True
        return self._delivery.wait(self._writer, timeout, while_moving=while_moving)

    @property
    def logger(self) -> Logger:
        """Reports go into a journal of this process and are shipped by a companion until it ends."""
        if self._logger is None:
            if not self.id:
                raise NotFound("the task has no id")
            root = layout.journal_root(data_folder())
            self._writer = Writer.create(
                root,
                self.id,
                role="child",
                name=self._task.name,
                project=self._task.project,
                tell=self._notices.say,
            )
            self._delivery = Delivery(self._writer.task_folder)
            self._delivery.start()
            self._logger = Logger(self._writer, self._notices)
        return self._logger

    def close(self) -> None:
        if self._writer is not None and self._delivery is not None:
            self._writer.close()
            self._delivery.wait(self._writer, 10.0)
            self._delivery.leave()
