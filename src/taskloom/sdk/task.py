"""`Task`: begin one, find one, copy one, queue one, end one.

Everything that a script or a notebook does with tasks hangs on this class; what a task says about itself is
in `document`, how the live one is kept is in `session`. Arguments follow the seeds; what another release of
Taskloom fills is accepted and says so.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskloom.domain.errors import BadInput, Conflict, TaskloomError, Unavailable
from taskloom.domain.execution import Execution
from taskloom.domain.parameters import encode
from taskloom.domain.project import check_name, check_project
from taskloom.domain.task import TaskType
from taskloom.sdk import handover, query, start
from taskloom.sdk.document import destination_of_user
from taskloom.sdk.ending import Outcome
from taskloom.sdk.frameworks import Switches
from taskloom.sdk.identity import new_id
from taskloom.sdk.remote import RemoteTask
from taskloom.sdk.session import OFFLINE_FOLDER, Session, current, is_offline, required_address
from taskloom.sdk.start import Switch, Wish, check_names, check_tags, check_type
from taskloom.sdk.task_models import TaskModels
from taskloom.wire.configuration import MAX_SEED, data_folder
from taskloom.wire.messages import Enqueue, Finish, MoveRequest, TaskClone, TaskCreate, TaskDelete
from taskloom.wire.operations import (
    ABORT_TASK,
    CLONE_TASK,
    CREATE_TASK,
    DELETE_TASK,
    DEQUEUE_TASK,
    END_TASK,
    ENQUEUE_TASK,
    GET_TASK,
    PUBLISH_TASK,
    RESET_TASK,
    START_TASK,
)
from taskloom.wire.records import EndStatus

if TYPE_CHECKING:
    from taskloom.domain.verification import Verification
    from taskloom.sdk.artifacts import Artifact
    from taskloom.sdk.registered import RegisteredTables
    from taskloom.wire.send import Client


class Task(TaskModels):
    """The record of one execution. `Task.init` begins the one of this script."""

    TaskTypes = TaskType
    _main: Task | None = None

    # --- the task of this process -------------------------------------------------------------------------

    @classmethod
    def init(
        cls,
        project_name: str | None = None,
        task_name: str | None = None,
        task_type: TaskType | str | None = None,
        tags: Sequence[str] | None = None,
        reuse_last_task_id: bool | str = True,
        continue_last_task: bool | str | int = False,
        output_uri: str | Path | bool | None = None,
        auto_connect_arg_parser: Switch = True,
        auto_connect_frameworks: Switches = True,
        auto_resource_monitoring: Switch = True,
        auto_connect_streams: Switch = True,
        deferred_init: bool = False,
    ) -> Task:
        """Begin to record this script; returns in a few milliseconds, whatever the server does.

        project_name, task_name: at least 3 characters, a project is nested by `/` and made on the fly; by
            default the names of the script's folder and file
        reuse_last_task_id: True: the last task of this name is run over when it is younger than 72 hours
            (`TASKLOOM_TASK_REUSE_HOURS`), without artifacts and models, and wholly shipped; False: always a
            new task; an id: that task is run over
        continue_last_task: False; True: go on with the last task of this name, one iteration after its
            last; an id: with that task; a whole number: with the last task (or the one given in
            reuse_last_task_id), that number is added to every iteration, 0 adds nothing
        output_uri: where models and artifacts are stored: True: on the Taskloom server; a folder or address
            (`s3://bucket/prefix`, `gs://...`, `azure://...`); None: what the project or the settings say, and when
            they say nothing, models that frameworks save stay where they are; False: these stay so in any case
        auto_connect_*: what is recorded without being asked; a dictionary switches by name, and what it does not
            name is on, but for streams, of which only those that it names are recorded; wildcards as a framework's
            value choose the model files
        deferred_init: accepted; beginning never waits anyway

        A process that runs below one that has a task (a fork, a subprocess, a rank) gets that task. Fixes the
        seed of `random`, and of numpy, torch and tensorflow now or when they are imported, unless
        `Task.set_random_seed(None)` was called. BadInput (a ValueError) for unusable arguments; nothing else.
        """
        if current.session is not None:
            return cls._again(current.session, project_name, task_name)
        project, name = check_names(project_name, task_name)
        wish = Wish(
            project=project,
            name=name,
            type=check_type(task_type),
            tags=check_tags(tags),
            reuse=reuse_last_task_id,
            proceed=continue_last_task,
            output_uri=destination_of_user(output_uri),
            arguments=auto_connect_arg_parser,
            frameworks=auto_connect_frameworks,
            resources=auto_resource_monitoring,
            streams=auto_connect_streams,
        )
        session = start.start_session(wish)
        return cls._of(session)

    @classmethod
    def _again(cls, session: Session, project: str | None, name: str | None) -> Task:
        """`Task.init` while a task runs here: the same one, or a clear refusal."""
        document = session.document()
        same = (project is None or project.strip() == document.project) and (
            name is None or name.strip() == document.name
        )
        if not same and session.owner and not session.identity.attached:
            raise BadInput(
                f"task {document.name!r} of {document.project!r} still runs in this process; "
                f"close it (task.close()) before {name!r} of {project!r} begins"
            )
        return cls._of(session)

    @classmethod
    def _of(cls, session: Session) -> Task:
        """One object a session, so that what is connected to it stays with it."""
        if Task._main is None or Task._main._recorder is not session:
            Task._main = cls(session)
            session.before_end = Task._main._read_connected
        return Task._main

    @classmethod
    def current_task(cls) -> Task | None:
        """The task of this process, or of the one above it that runs a task; None when there is none."""
        session = current.session or start.attach()
        return cls._of(session) if session is not None else None

    def close(self) -> None:
        """End the task as completed and hand over what is not shipped yet; bounded by TASKLOOM_CLOSE_TIMEOUT."""
        self._recorder.close()

    def flush(self, wait_for_uploads: bool = False) -> bool:
        """Have everything sent now; with `wait_for_uploads` wait until the server has it.

        False when nothing got on for 10 s.
        """
        if isinstance(self._recorder, Session):
            self._read_connected()
            self._recorder.poke()
        return self._recorder.wait_shipped(10.0, while_moving=True) if wait_for_uploads else True

    @classmethod
    def set_random_seed(cls, random_seed: int | None) -> None:
        """The seed that the next `Task.init` fixes, from 0 to 2**32 - 1, by default the setting `sdk.random_seed`
        (1337); None leaves every generator alone.
        """
        whole = isinstance(random_seed, int) and not isinstance(random_seed, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
        if random_seed is not None and not (whole and 0 <= random_seed <= MAX_SEED):
            raise BadInput(f"random seed {random_seed!r}: expected a whole number from 0 to {MAX_SEED}, or None")
        current.seed = random_seed

    @classmethod
    def get_random_seed(cls) -> int | None:
        """What `set_random_seed` said; else what the task that runs here was recorded with; else `sdk.random_seed`."""
        return start.wished_seed(current.session)

    # --- offline ------------------------------------------------------------------------------------------

    @classmethod
    def set_offline(cls, offline_mode: bool = False) -> tuple[str, str] | None:
        """Record the next tasks into a local archive only; returns the id of the next one and its folder.

        Call it before `Task.init`. At `close` the folder becomes `<data>/offline/<id>.zip`.
        """
        if current.session is not None and current.session.offline != bool(offline_mode):
            raise BadInput("set_offline: a task runs; close it before the mode is changed")
        current.offline = bool(offline_mode)
        if not current.offline:
            current.offline_id = ""
            return None
        current.offline_id = current.offline_id or new_id()
        return current.offline_id, str(data_folder() / OFFLINE_FOLDER / current.offline_id)

    @classmethod
    def is_offline(cls) -> bool:
        return is_offline()

    @classmethod
    def import_offline_session(
        cls,
        session_folder_zip: str | Path,
        previous_task_id: str | None = None,
        iteration_offset: int | None = 0,
    ) -> str:
        """Ship an offline session; returns the id of its task. Importing again changes nothing.

        previous_task_id: continue that task, with `iteration_offset` added to every iteration.
        """
        from taskloom.sdk.offline import import_session

        task = import_session(
            Path(session_folder_zip), required_address(), previous_task_id or "", iteration_offset or 0
        )
        print(f"taskloom: the offline session is task {task}: {required_address().task(task)}")
        return task

    # --- making and finding -------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        project_name: str | None = None,
        task_name: str | None = None,
        task_type: TaskType | str | None = None,
        repo: str | None = None,
        branch: str | None = None,
        commit: str | None = None,
        script: str | None = None,
        working_directory: str | None = None,
        packages: bool | Sequence[str] | None = None,
        requirements_file: str | Path | None = None,
        docker: str | None = None,
        docker_args: str | None = None,
        docker_bash_setup_script: str | Sequence[str] | None = None,
        argparse_args: Sequence[tuple[str, Any]] | Mapping[str, Any] | None = None,
        module: str | None = None,
        add_task_init_call: bool = True,
        tags: Sequence[str] | None = None,
    ) -> Task:
        """A draft of code that is not run now. Without `repo` the text of `script` itself is the code.

        packages: lines of a requirements.txt; requirements_file: such a file. argparse_args: values for the
        section `Args`. add_task_init_call: accepted; a worker runs the task with or without that call.
        """
        name = check_name(task_name or "", "task name")
        project = check_project(project_name or "")
        execution = Execution(
            repository=repo or "",
            branch=branch or "",
            commit=commit or "",
            entry_point=f"-m {module}" if module else _entry(repo, script),
            working_dir=working_directory or ".",
            diff="" if repo or not script else _text_of(script),
            packages=_packages(packages, requirements_file),
            image=docker or "",
            image_arguments=docker_args or "",
            setup=_joined(docker_bash_setup_script),
        )
        pairs = argparse_args.items() if isinstance(argparse_args, Mapping) else argparse_args or ()
        arguments = {str(key).lstrip("-"): encode(value) for key, value in pairs}
        made = _client().call(
            CREATE_TASK,
            TaskCreate(
                name=name,
                project=project,
                type=check_type(task_type),
                tags=check_tags(tags),
                execution=execution,
                parameters={"Args": arguments} if arguments else {},
            ),
        )
        return cls(RemoteTask(made, _client))

    @classmethod
    def get_task(
        cls,
        task_id: str | None = None,
        project_name: str | None = None,
        task_name: str | None = None,
        tags: Sequence[str] | None = None,
        allow_archived: bool = True,
        task_filter: Mapping[str, Any] | None = None,
    ) -> Task:
        """By id, or the last modified one of a project and name. NotFound (a LookupError) when there is none."""
        session = current.session
        if task_id and session is not None and session.id == task_id:
            return cls._of(session)
        found = query.find_one(_client(), task_id, project_name, task_name, tags, allow_archived, task_filter)
        return cls(RemoteTask(found, _client))

    @classmethod
    def get_tasks(
        cls,
        task_ids: Sequence[str] | None = None,
        project_name: str | Sequence[str] | None = None,
        task_name: str | None = None,
        tags: Sequence[str] | None = None,
        allow_archived: bool = True,
        task_filter: Mapping[str, Any] | None = None,
    ) -> list[Task]:
        """All that match, last modified first. task_name: a part of it; tags: the tag language;
        task_filter: tags, system_tags, status, type, search_text, user, parent, id, name, order_by.
        """
        found = query.find_many(_client(), task_ids, project_name, task_name, tags, allow_archived, task_filter)
        return [cls(RemoteTask(one, _client)) for one in found]

    @classmethod
    def query_tasks(
        cls,
        project_name: str | Sequence[str] | None = None,
        task_name: str | None = None,
        tags: Sequence[str] | None = None,
        allow_archived: bool = True,
        task_filter: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """The ids of all that match."""
        found = query.find_many(_client(), None, project_name, task_name, tags, allow_archived, task_filter)
        return [one.id for one in found]

    @classmethod
    def clone(
        cls,
        source_task: Task | str | None = None,
        name: str | None = None,
        comment: str | None = None,
        parent: str | None = None,
        project: str | None = None,
    ) -> Task:
        """An editable copy (a draft) without results, by default `Clone Of NAME` in the same project."""
        source = source_task if source_task is not None else cls.current_task()
        if source is None:
            raise BadInput("clone: give source_task, or call it where a task runs")
        wish = TaskClone(
            name=check_name(name, "task name") if name else "",
            project=check_project(project) if project else "",
            comment=comment,
            parent=parent or "",
        )
        made = _client().call(CLONE_TASK, wish, task=_known(source))
        return cls(RemoteTask(made, _client))

    def verify(
        self,
        queue_name: str | None = None,
        against: Task | str | None = None,
        rtol: float = 0.0,
        atol: float = 0.0,
        ignore: Sequence[str] = (),
        timeout: float = 0.0,
    ) -> Verification:
        """Run this ended task again on a worker, or take the ended run `against`, and compare the two: scalars point
        by point, digests of artifacts and models, parameters, the end. Both tasks keep the verdict.

        rtol, atol: values within `atol + rtol * |first|` are the same; ignore: wildcards of `title/series` or
        `kind:name`; timeout: seconds to wait for the run, 0 without end. BadInput when this task has not ended;
        Conflict when the time is over, the run goes on then.
        """
        from taskloom.sdk import verifying

        tolerance = verifying.Tolerance(rtol, atol, (ignore,) if isinstance(ignore, str) else tuple(ignore))
        client, task = _client(), _client().call(GET_TASK, task=self.id)
        if against is None:
            return verifying.verify(client, task, queue_name or "", tolerance, timeout)
        found = verifying.compare(client, task.id, _known(against), tolerance)
        verifying.keep(client, found)
        return found

    # --- moves --------------------------------------------------------------------------------------------

    @classmethod
    def enqueue(
        cls, task: Task | str, queue_name: str | None = None, queue_id: str | None = None, force: bool = False
    ) -> Task:
        """Put a draft into a queue, by default `default`; IllegalMove from a state that does not allow it."""
        wish = Enqueue(queue=queue_id or queue_name or "")
        return cls._moved(task, _client().call(ENQUEUE_TASK, wish, task=_known(task)))

    @classmethod
    def dequeue(cls, task: Task | str) -> Task:
        return cls._moved(task, _client().call(DEQUEUE_TASK, MoveRequest(), task=_known(task)))

    @classmethod
    def _moved(cls, task: Task | str, answer: Any) -> Task:
        if isinstance(task, Task) and isinstance(task._recorder, RemoteTask):
            task._recorder.accept(answer)
            return task
        return cls(RemoteTask(answer, _client))

    def abort(self, reason: str = "") -> None:
        """Stop a task that waits or runs; under a worker it ends when the worker has stopped it."""
        self._accept(_client().call(ABORT_TASK, MoveRequest(reason=reason), task=_known(self)))

    def reset(self, set_started_on_success: bool = False, force: bool = False) -> None:
        """Delete the results, back to draft."""
        self._accept(_client().call(RESET_TASK, MoveRequest(force=force), task=self.id))
        if set_started_on_success:
            self.mark_started()

    def publish(self, ignore_errors: bool = False) -> bool:
        """Make it read-only for ever. False with `ignore_errors` when its state does not allow it."""
        try:
            self._accept(_client().call(PUBLISH_TASK, MoveRequest(), task=self.id))
        except Conflict:
            if not ignore_errors:
                raise
            return False
        return True

    def delete(
        self,
        delete_artifacts_and_models: bool = True,
        skip_models_used_by_other_tasks: bool = True,
        raise_on_error: bool = False,
        callback: Any = None,
        force: bool = False,
    ) -> bool:
        """Delete it with its results and bytes; published models and those that other tasks use stay.

        What it stored in its own folder at a destination is removed with this machine's credentials, unless
        `delete_artifacts_and_models` is False; callback(kind, uri): decides it for each file instead. False, or
        the error with `raise_on_error`, when it was refused or when bytes could not be removed, which is told.
        """
        from taskloom.journal.removal import remove_external

        try:
            done = _client().call(DELETE_TASK, query=TaskDelete(force=force), task=self.id)
        except TaskloomError:
            if raise_on_error:
                raise
            return False
        chosen = [
            uri
            for uri in done.external.get(self.id, [])
            if (
                callback("artifact" if "/artifacts/" in uri else "model", uri)
                if callback
                else delete_artifacts_and_models
            )
        ]
        left = remove_external(self.id, chosen)
        if left and raise_on_error:
            raise Unavailable("not removed: " + "; ".join(f"{one.uri}: {one.reason}" for one in left))
        for one in left:
            self._recorder.tell(f"{one.uri} could not be removed: {one.reason}")
        return not left

    def mark_started(self, force: bool = False) -> None:
        """Draft to running, for code that reports to it without a worker."""
        if isinstance(self._recorder, RemoteTask):
            self._accept(_client().call(START_TASK, MoveRequest(force=force), task=self.id))

    def mark_completed(
        self, ignore_errors: bool = True, status_message: str | None = None, force: bool = False
    ) -> None:
        self._end("completed", "", status_message)

    def mark_failed(
        self,
        ignore_errors: bool = True,
        status_reason: str | None = None,
        status_message: str | None = None,
        force: bool = False,
    ) -> None:
        self._end("failed", status_reason or "", status_message)

    def mark_stopped(self, force: bool = False, status_message: str | None = None) -> None:
        self._end("aborted", "", status_message)

    def _end(self, status: EndStatus, reason: str, message: str | None) -> None:
        if isinstance(self._recorder, Session):
            self._recorder.close(Outcome(status, reason, message or ""))
        else:
            wish = Finish(outcome=status, reason=reason, message=message or "")
            self._accept(_client().call(END_TASK, wish, task=self.id))

    def _accept(self, answer: Any) -> None:
        if isinstance(self._recorder, RemoteTask):
            self._recorder.accept(answer)

    def execute_remotely(
        self, queue_name: str | None = None, clone: bool = False, exit_process: bool = True
    ) -> Task | None:
        """End the run here and let a worker run the task (or, with `clone`, a copy of it); under a worker nothing.

        The task has to reach the server first; TaskloomError when it does not within a minute.
        """
        session = self._recorder
        if not isinstance(session, Session) or session.identity.hosted:
            return None
        self.flush()
        queued: Task
        if clone:
            handover.arrived(session)
            queued = Task.enqueue(Task.clone(self), queue_name=queue_name)
            session.close()
        else:
            handover.leave(session, _client())
            queued = Task.enqueue(self.id, queue_name=queue_name)
        if exit_process:
            sys.stdout.flush()
            sys.stderr.flush()
            sys.exit(0)
        return queued

    def create_function_task(
        self,
        func: Callable[..., Any],
        func_name: str | None = None,
        task_name: str | None = None,
        **kwargs: Any,
    ) -> Task:
        """A draft that runs one function of this script on a worker; enqueue it with `Task.enqueue`.

        func: called there with `kwargs`, which stand in the section `Function` of the task's parameters and can be
            edited: text, numbers, bools, None, and lists, tuples and dictionaries of them
        func_name: what tells it from the script's other function tasks; by default its module and name
        task_name: by default the name of this task and of the function

        The worker runs this same script, which ends at this call after the function. BadInput for arguments that
        the function or a parameter cannot take; TaskloomError when the task does not reach the server.
        """
        session = self._recorder
        if not isinstance(session, Session):
            raise BadInput("create_function_task: expected the task that this script runs (Task.init)")
        if handover.is_function_run(session, func, func_name):
            self._read_connected()
            handover.run_function(session, func, kwargs)
        return Task.get_task(handover.create_function_task(_client(), session, func, func_name, task_name, kwargs))

    # --- artifacts ----------------------------------------------------------------------------------------

    def upload_artifact(
        self,
        name: str,
        artifact_object: Any,
        metadata: Mapping[str, Any] | None = None,
        delete_after_upload: bool = False,
        auto_pickle: bool | None = None,
        preview: Any = None,
        wait_on_upload: bool = False,
        extension_name: str | None = None,
        serialization_function: Callable[[Any], bytes | bytearray] | None = None,
        retries: int = 0,
        sort_keys: bool = False,
    ) -> bool:
        """Keep a file, a folder (zipped) or an object as an artifact; the same name again replaces it.

        The bytes are copied before this returns; they are uploaded behind the script's back to the task's
        destination, or before it goes on with `wait_on_upload` (False when that does not succeed).
        delete_after_upload: the given file or folder is removed as soon as the copy is safe. auto_pickle: whether
        an object of another type may be pickled. serialization_function: makes the bytes of the object instead.
        sort_keys: of dictionaries. retries: accepted; an upload is tried again until it succeeds. BadInput when
        the object cannot be stored so.
        """
        from taskloom.sdk.artifacts import store_artifact

        store_artifact(
            self._recorder,
            name,
            artifact_object,
            extension_name=extension_name,
            metadata=dict(metadata) if metadata is not None else None,
            preview=preview,
            auto_pickle=auto_pickle,
            serialize=serialization_function,
            sort_keys=sort_keys,
        )
        if delete_after_upload and isinstance(artifact_object, str | Path):
            _remove(Path(artifact_object))
        return self._recorder.wait_shipped(start.REMOTE_WAIT, while_moving=True) if wait_on_upload else True

    def delete_artifacts(
        self, artifact_names: Sequence[str], raise_on_errors: bool = True, delete_from_storage: bool = True
    ) -> bool:
        """Forget artifacts; with `delete_from_storage` also their bytes below the task's folder at a destination.

        False (or the error, with `raise_on_errors`) when bytes elsewhere could not be removed.
        """
        from taskloom.sdk.artifacts import forget_artifacts

        names = [artifact_names] if isinstance(artifact_names, str) else list(artifact_names)
        return forget_artifacts(self._recorder, names, raise_on_errors, delete_from_storage)

    def register_artifact(
        self,
        name: str,
        artifact: Any,
        metadata: Mapping[str, Any] | None = None,
        uniqueness_columns: bool | Sequence[str] = True,
    ) -> None:
        """Keep a table (pandas) as an artifact, stored again whenever it changed: at `flush` and at the end.

        uniqueness_columns: rows that are alike in these columns (True: in all) are stored once, the last of them;
        False stores every row.
        """
        self._registered.register(name, artifact, metadata, uniqueness_columns)

    def unregister_artifact(self, name: str) -> None:
        """Store it a last time and follow it no more; the artifact stays."""
        self._registered.unregister(name)

    def get_registered_artifacts(self) -> dict[str, Any]:
        """The tables that are followed, by name: change them in place."""
        return self._registered.tables()

    @functools.cached_property
    def _registered(self) -> RegisteredTables:
        from taskloom.sdk.registered import RegisteredTables

        return RegisteredTables(self._recorder)

    def _read_connected(self) -> None:
        super()._read_connected()
        if "_registered" in self.__dict__:
            self._registered.store_changed()

    @property
    def artifacts(self) -> Mapping[str, Artifact]:
        """By name; `task.artifacts['data'].get_local_copy()`."""
        from taskloom.sdk.artifacts import Artifact

        cache = data_folder() / "cache"
        spool = self._recorder.spool if self._recorder.live else None
        known = self._recorder.document().artifacts
        return {one.name: Artifact(self._recorder.client, one, cache, self.id, spool) for one in known}


# --- the seams of the functions above -------------------------------------------------------------------------


def _client() -> Client:
    """A client of the configured server: the live session's, or one of the process."""
    if current.session is not None:
        return current.session.client()
    from taskloom.wire.send import Client

    address = required_address()
    if current.client is None or current.client.address != address or current.client_pid != os.getpid():
        current.client, current.client_pid = Client(address), os.getpid()
    return current.client


def _known(task: Task | str) -> str:
    """The id of a task that the server is about to be asked about; the live one is brought there first."""
    if isinstance(task, str):
        return task
    if isinstance(task._recorder, Session):  # pyright: ignore[reportPrivateUsage]
        task.flush(wait_for_uploads=True)
    return task.id


def _entry(repo: str | None, script: str | None) -> str:
    if not script:
        return ""
    return script if repo else Path(script).name


def _text_of(script: str) -> str:
    try:
        return Path(script).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"script {script!r} cannot be read: {error}; give repo for one in a repository") from None


def _packages(packages: bool | Sequence[str] | None, requirements_file: str | Path | None) -> str:
    if requirements_file is not None:
        try:
            return Path(requirements_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"requirements file {str(requirements_file)!r} cannot be read: {error}") from None
    if packages is None or isinstance(packages, bool):
        return ""
    return "".join(f"{line}\n" for line in ([packages] if isinstance(packages, str) else packages))


def _joined(script: str | Sequence[str] | None) -> str:
    return script if isinstance(script, str) else "\n".join(script or ())


def _remove(path: Path) -> None:
    import shutil

    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
