"""The running task of this process: journal, local copy, companion, watchers, and their orderly end.

`current` is the only process-wide name of the SDK. A session is a `Recorder`: everything that is said about
the live task passes `record`, which journals it and applies it to the local copy, so that a question about
the live task needs no network. Which task it is was decided in `identity`; how a person speaks to it is
`task` and `logger`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from taskloom.domain.artifact import NOTEBOOK_KIND
from taskloom.domain.errors import BadInput
from taskloom.domain.status import Status
from taskloom.domain.task import Task, TaskEdit, apply_edit
from taskloom.journal import layout
from taskloom.journal.reader import Reader
from taskloom.journal.writer import Writer
from taskloom.sdk.delivery import Delivery
from taskloom.sdk.ending import Ending, Outcome
from taskloom.sdk.history import History
from taskloom.sdk.identity import Identity, child_environment
from taskloom.sdk.notices import Notices
from taskloom.sdk.reports.logger import Logger
from taskloom.wire.client import Address
from taskloom.wire.configuration import SETTINGS, setting
from taskloom.wire.connection import find_address
from taskloom.wire.records import (
    ArtifactRemoved,
    ArtifactStored,
    ArtifactUsed,
    Edited,
    Ended,
    ModelStored,
    ModelUsed,
    Opened,
    Record,
)

if TYPE_CHECKING:
    from taskloom.sdk.weight_files import WeightFiles
    from taskloom.wire.send import Client

OFFLINE_FOLDER = "offline"
FORK_PATIENCE = 2.0  # seconds; looking at code and packages takes a tenth of one
YIELD = 0.005
BY_SETTING: Literal["by setting"] = "by setting"
WATCHER_STOP = 0.5  # a child that lives on keeps its console open; what is printed by now is taken much sooner
NO_SERVER = (
    "no server is configured: start one with `taskloom up`, or set TASKLOOM_URL and TASKLOOM_API_KEY "
    "(or TASKLOOM_DATA, when the server's data folder is not the default one)"
)


class Watcher(Protocol):
    """Something that watches the script until it is stopped, in at most so many seconds."""

    def stop(self, timeout: float) -> None: ...


@dataclass
class Process:
    """What this process remembers between tasks."""

    session: Session | None = None
    offline: bool = False
    offline_id: str = ""
    seed: int | Literal["by setting"] | None = BY_SETTING  # until `Task.set_random_seed` is called
    settings_checked: bool = False
    turn: int = 0
    forks_watched: bool = False
    client: Client | None = None  # for calls outside of any task
    client_pid: int = 0
    closed_here: set[str] = field(default_factory=set[str])
    fetched: dict[str, str] = field(default_factory=dict[str, str])  # models, by the paths of their local copies


current = Process()


class _Forks:
    """Makes a fork wait, for a moment, until no thread of ours is in the middle of an import.

    Python keeps a lock for every module that is being imported. A process forked meanwhile inherits it locked, with
    nobody to open it, and hangs when it imports the same module.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._waited = False

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        with self._lock:
            yield

    def wait(self) -> None:
        self._waited = self._lock.acquire(timeout=FORK_PATIENCE)

    def go_on(self) -> None:
        if self._waited:
            self._waited = False
            self._lock.release()

    def forget(self) -> None:
        """In the forked process: whoever held the lock stayed behind."""
        self._lock, self._waited = threading.RLock(), False


_forks = _Forks()


class Session:
    """One task, live in this process. Made by `Task.init`; ended by `close`, once."""

    live = True

    def __init__(self, identity: Identity, document: Task, data: Path, notices: Notices) -> None:
        self.identity = identity
        self.data = data
        self.notices = notices
        self.offline = is_offline()
        self.closed = False
        self.before_end: Callable[[], None] | None = None
        self.functions: set[str] = set()  # names of the function tasks that it made
        self.loaded_models = False  # which ones, only the server knows
        self.stdout_recorded = False  # by a tee here, or by the worker that started this process
        self.owner = identity.role == "main"
        self._lock = threading.RLock()
        self._document = document
        self._artifacts = {one.name: one for one in document.artifacts}
        self._artifacts_changed = (
            False  # the document is made anew when it is asked for: a run may store thousands
        )
        self._pid = os.getpid()
        self._client: Client | None = None
        self._history: History | None = None
        self._outputs = False
        self._project_destination: str | None = None
        self._weight_files: WeightFiles | None = None
        self._artifacts_used: set[tuple[str, str, str]] = set()
        self.weights: Any = None  # who is told of models that frameworks save and load: see `weights`
        self._watchers: list[Watcher] = []
        self.settling: list[Callable[[float], None]] = []  # wait until what is being found out is recorded
        self._environment: dict[str, str | None] = {}
        self._capture: threading.Thread | None = None
        self._ending = Ending(self.close)
        self.writer = self._open_writer()
        self.logger = Logger(self.writer, notices, self)
        self.delivery = Delivery(self.writer.task_folder)

    def _open_writer(self) -> Writer:
        document = self._document
        return Writer.create(
            self.identity.root,
            self.identity.task,
            role=self.identity.role,
            lease=self.identity.lease,
            offline=self.offline,
            name=document.name,
            project=document.project,
            tell=self.notices.say,
        )

    # --- beginning ----------------------------------------------------------------------------------------

    def begin(self, opened: Opened | None, history: History | None) -> None:
        """Open the task and put the hooks in; `opened` None: somebody else did."""
        current.session = self
        self._history = history
        if opened is not None:
            self.record(opened)
        if not current.forks_watched:
            current.forks_watched = True
            os.register_at_fork(before=_forks.wait, after_in_parent=_forks.go_on, after_in_child=_after_fork)
        if not self.owner:
            return
        self.change_environment(child_environment(self.identity))
        if self.offline:
            self.change_environment({SETTINGS["sdk.offline"].variable: "1"})
        self._ending.install()

    def deliver(self) -> None:
        """Start the companion, once; starting a process takes milliseconds, so the script does not wait for it."""
        if self.identity.lease or self.offline or not self.owner:
            return
        with self.notices.boundary("the shipper could not be started"):
            self.delivery.start()

    def watch(self, watcher: Watcher) -> None:
        """Have it stopped at the end; the last one first."""
        self._watchers.append(watcher)

    def in_background(self, work: Callable[[], None]) -> None:
        """Look at code and packages while the script goes on; `close` waits for it, bounded."""

        def run() -> None:
            time.sleep(YIELD)  # or Task.init would wait until the interpreter takes the turn away from this thread
            with _forks.held(), self.notices.boundary("code and packages could not be captured"):
                work()

        self._capture = threading.Thread(target=run, name="taskloom-capture", daemon=True)
        self._capture.start()

    def change_environment(self, values: dict[str, str]) -> None:
        """For the processes that are started below this one, until `close`."""
        for name, value in values.items():
            self._environment.setdefault(name, os.environ.get(name))
            os.environ[name] = value

    def after_fork(self) -> None:
        """In a forked child: a helper with a journal of its own, without the parent's hooks and watchers."""
        self._lock = threading.RLock()
        self.owner = False
        self._capture = None
        self._watchers = []
        self._client = None
        self._ending.undo()
        self.writer.become_child()
        self.delivery.forget()

    # --- the recorder -------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return self.identity.task

    @property
    def project_name(self) -> str:
        return self._document.project

    @property
    def spool(self) -> Path:
        folder = self.writer.task_folder / layout.FILES_FOLDER
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def document(self) -> Task:
        with self._lock:
            if self._artifacts_changed:
                self._artifacts_changed = False
                self._document = msgspec.structs.replace(self._document, artifacts=tuple(self._artifacts.values()))
            return self._document

    def record(self, record: Record) -> None:
        with self._lock:
            if isinstance(record, Edited):
                self._document = apply_edit(self._document, record.edit)
            self.writer.record(record)
            self._keep_outputs(record)
        if isinstance(record, ModelStored) or (
            isinstance(record, ArtifactStored) and record.artifact.kind != NOTEBOOK_KIND
        ):
            self._note_outputs()
        elif isinstance(record, ModelUsed):
            self.loaded_models = True

    def use_artifact(self, task: str, name: str, digest: str) -> None:
        """This run read an artifact of another task; told once."""
        if task != self.id and (task, name, digest) not in self._artifacts_used and not self.closed:
            self._artifacts_used.add((task, name, digest))
            self.record(ArtifactUsed(task=task, name=name, time=time.time()))

    def _keep_outputs(self, record: Record) -> None:
        match record:
            case ArtifactStored(artifact=stored):
                self._artifacts.pop(stored.name, None)
                self._artifacts[stored.name] = stored
                self._artifacts_changed = True
            case ArtifactRemoved(name=name):
                self._artifacts.pop(name, None)
                self._artifacts_changed = True
            case ModelStored(link=link) if link is not None:
                task = self._document
                others = tuple(m for m in task.models if (m.direction, m.name) != (link.direction, link.name))
                self._document = msgspec.structs.replace(task, models=(*others, link))
            case _:
                pass

    def edit(self, edit: TaskEdit) -> None:
        self.record(Edited(edit=edit, time=time.time()))

    def client(self) -> Client:
        if self._client is None or self._pid != os.getpid():
            from taskloom.wire.send import Client

            self._client, self._pid = Client(required_address()), os.getpid()
        return self._client

    def project_destination(self) -> str:
        """Asked once, when it is needed; what nobody can tell now is looked for in the settings instead."""
        if self._project_destination is None:
            from taskloom.sdk.destinations import ask_project

            self._project_destination = "" if self.offline else ask_project(self.project_name, find_address())
        return self._project_destination

    @property
    def weight_files(self) -> WeightFiles:
        if self._weight_files is None:
            from taskloom.sdk.weight_files import WeightFiles

            self._weight_files = WeightFiles()
        return self._weight_files

    def tell(self, text: str) -> None:
        self.notices.once(text, text)

    def wait_shipped(self, timeout: float, *, while_moving: bool = False) -> bool:
        self.settle(timeout)
        shipped = not self.offline and self.delivery.wait(self.writer, timeout, while_moving=while_moving)
        self.tell_fallbacks()
        return shipped

    def wait_captured(self, timeout: float) -> bool:
        """Whether code and packages are recorded."""
        if self._capture is not None:
            self._capture.join(timeout)
        return self._capture is None or not self._capture.is_alive()

    def settle(self, timeout: float) -> None:
        """Have everything recorded that is still being found out, such as which models were loaded."""
        for settle in () if self.closed else tuple(self.settling):
            settle(timeout)

    def tell_fallbacks(self) -> None:
        """What a storage destination refused, once for each; the bytes are on the Taskloom server."""
        for uri, fallback in self.delivery.fallbacks().items():
            from taskloom.domain.destination import uri_root

            root = uri_root(uri)
            text = f"{root} does not take files, they are kept on the Taskloom server: {fallback.reason}"
            self.notices.once(("fallback", root), text)

    def poke(self) -> None:
        self.delivery.poke()

    def _note_outputs(self) -> None:
        if not self._outputs and self._history is not None and self.owner:
            self._outputs = True
            self._history.change(self.id, outputs=True)

    def interrupted_by(self, error: BaseException | None) -> None:
        """In a notebook: what the last cell raised, which is how the task ends if nothing else is run."""
        if self.owner:
            self._ending.interrupted_by(error)

    # --- the end ------------------------------------------------------------------------------------------

    def close(self, outcome: Outcome | None = None) -> None:
        """End the task: bounded in time, says what is still unsent, raises nothing."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
        end = time.monotonic() + setting("sdk.close_timeout_in_seconds")
        if self.owner and os.getpid() == self.writer.meta.pid:
            self._end_as_owner(outcome or Outcome(), end)
        else:
            self.writer.close()
        if current.session is self:
            current.session = None
        current.closed_here.add(self.id)
        if self._client is not None:
            self._client.close()

    def abandon(self) -> None:
        """Leave the task to another program, which takes this one's place in this process."""
        self.closed = True
        self._ending.undo()
        self.writer.close()
        if current.session is self:
            current.session = None
        self._restore_environment()

    def _restore_environment(self) -> None:
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def _end_as_owner(self, outcome: Outcome, end: float) -> None:
        if self.before_end is not None:
            with self.notices.boundary("connected objects could not be read again"):
                self.before_end()
        if self._capture is not None and self._capture is not threading.current_thread():
            self._capture.join(max(end - time.monotonic(), 0.0) / 2)
        for watcher in reversed(self._watchers):
            with self.notices.boundary("a watcher could not be stopped"):
                watcher.stop(min(WATCHER_STOP, max(end - time.monotonic(), 0.1)))
        self._ending.undo()
        with self.notices.boundary("the end of the task could not be written"):
            self.writer.record(
                Ended(status=outcome.status, time=time.time(), reason=outcome.reason, message=outcome.message)
            )
        self.writer.close()
        self._document = msgspec.structs.replace(self._document, status=Status(outcome.status))
        if self._history is not None:
            self._history.change(self.id, last_iteration=self.logger.newest_iteration())
        with self.notices.boundary("the journal could not be shipped"):
            self._hand_over(end)
        self._restore_environment()  # last: it may name the server to ship to

    def _hand_over(self, end: float) -> None:
        if self.identity.lease:
            return  # the worker ships it
        if self.offline:
            from taskloom.sdk.offline import pack

            self.notices.say(f"the offline session is in {pack(self.writer.task_folder)}")
            return
        self.deliver()
        if find_address() is None:
            self.delivery.poke()
            self.notices.say(
                f"no server is configured: the journal waits at {self.writer.task_folder} for `taskloom up` "
                "or `taskloom journal ship`"
            )
        elif not self.delivery.wait(self.writer, end - time.monotonic()):
            self.notices.say(self._left_over())
        self.tell_fallbacks()
        moved = self.delivery.elsewhere
        if moved is not None:
            self.notices.say(
                f"task {self.id} could not be run over ({moved.reason}): this run is task {moved.task}"
            )
        self.delivery.leave()

    def _left_over(self) -> str:
        refused = self.delivery.refused(self.writer)
        where = f"the journal stays at {self.writer.task_folder}"
        if refused:
            return f"the server refused the results of this run ({refused}); {where}"
        marks = [(journal, layout.read_marks(journal.folder)) for journal in self.writer.journals]
        records = sum(journal.records - mark.events for journal, mark in marks)
        unsent = f"{records} records and {self.writer.rows - marks[0][1].rows} scalars"
        if uploading := self.delivery.uploading():
            unsent += f", with {uploading},"
        note = self.delivery.last_note()
        reason = f" ({note})" if note else ""
        return f"{unsent} are still to be shipped{reason}; {where} and is sent in the background"


def _after_fork() -> None:
    _forks.forget()
    if current.session is not None:
        current.session.after_fork()


def is_offline() -> bool:
    return current.offline or bool(setting("sdk.offline"))


def required_address() -> Address:
    address = find_address()
    if address is None:
        raise BadInput(NO_SERVER)
    return address


def document_of_owner(identity: Identity) -> Task:
    """What a helper process knows of its task: the claimed document, or the name its owner wrote down."""
    if identity.claimed is not None:
        return identity.claimed
    for folder in layout.writer_folders(identity.root / identity.task):
        meta = Reader(folder).meta
        if meta.role == "main":
            return Task(id=identity.task, name=meta.name, project=meta.project, status=Status.RUNNING)
    return Task(id=identity.task, name="", project="", status=Status.RUNNING)
