"""How `Task.init` becomes a running session: identity, opening record, watchers, and nothing that waits.

Everything slow (git, packages, the machine's sensors) happens in a thread of the session; the only network
question is the one that continuing a task of another machine needs. What went wrong on our side is told
and the script gets a session all the same.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskloom.domain.errors import BadInput, TaskloomError
from taskloom.domain.project import check_name, check_project, check_tag
from taskloom.domain.status import Status
from taskloom.domain.task import DEVELOPMENT_TAG, RANDOM_SEED, Task, TaskEdit, TaskType
from taskloom.journal import layout
from taskloom.sdk.agents import under_agent
from taskloom.sdk.capture.arguments import ArgumentHook
from taskloom.sdk.capture.console import ENV_STDOUT, ConsoleTee, descriptor_name
from taskloom.sdk.commandline import CommandLine
from taskloom.sdk.frameworks import COMMAND_LINES, Frameworks, Switches
from taskloom.sdk.history import History, LastRun
from taskloom.sdk.identity import ENV_OWNER, Identity, check_task_id, from_environment, from_launcher, new_id
from taskloom.sdk.notices import Notices
from taskloom.sdk.seeding import LEFT_ALONE, Seeding
from taskloom.sdk.session import BY_SETTING, OFFLINE_FOLDER, Session, current, document_of_owner, is_offline
from taskloom.wire.configuration import MAX_SEED, data_folder, faults, remarks, setting
from taskloom.wire.connection import find_address
from taskloom.wire.records import Opened
from taskloom.wire.worker_protocol import ENV_LEASE

REMOTE_WAIT = 60.0  # seconds that an explicit wish for the server's answer may take
STREAM_NAMES = ("stdout", "stderr", "logging")

if TYPE_CHECKING:
    from taskloom.sdk.capture.kernel import KernelConsole, Notebook

Switch = bool | Mapping[str, bool]


@dataclass(frozen=True)
class Wish:
    """The arguments of `Task.init`, checked."""

    project: str
    name: str
    type: TaskType = TaskType.TRAINING
    tags: tuple[str, ...] = ()
    reuse: bool | str = True
    proceed: bool | str | int = False  # continue_last_task
    output_uri: str = ""
    arguments: Switch = True
    frameworks: Switches = True
    resources: Switch = True
    streams: Switch = True


def check_type(value: Any) -> TaskType:
    if value is None:
        return TaskType.TRAINING
    try:
        return TaskType(str(getattr(value, "value", value)))
    except ValueError:
        names = ", ".join(kind.value for kind in TaskType)
        raise BadInput(f"task_type {str(value)[:80]!r}: expected one of {names}") from None


def check_tags(tags: Sequence[str] | str | None) -> tuple[str, ...]:
    if tags is None:
        return ()
    return tuple(dict.fromkeys(check_tag(tag) for tag in ([tags] if isinstance(tags, str) else tags)))


def check_names(project: str | None, name: str | None) -> tuple[str, str]:
    """Names as given, or made from the script's own: its folder and its file."""
    script = script_path()
    folder = (script.parent if script else Path.cwd()).name
    stem = script.stem if script else "interactive"
    chosen_project = project if project is not None else folder if len(folder) >= 3 else "default"
    chosen_name = name if name is not None else stem if len(stem) >= 3 else f"{stem} script"
    return check_project(chosen_project), check_name(chosen_name, "task name")


def script_path() -> Path | None:
    """The file that Python was started with, or that IPython runs; None in a console or notebook."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if not file or (hasattr(sys, "ps1") and "IPython" not in sys.modules):
        return None
    path = Path(file).absolute()
    return path if path.is_file() else None


def running_shell() -> Any:
    """IPython's shell when what it was told is the code, and not a script that it runs (`%run`); else None."""
    find = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return find() if find is not None and script_path() is None else None


def start_session(wish: Wish) -> Session:
    """The session for this process; a helper's one when another process owns the task."""
    data = data_folder()
    notices = Notices()
    _check_settings(notices)
    identity = (
        from_environment(os.environ, data)
        or under_agent(os.environ, data, notices)
        or from_launcher(os.environ, data, current.turn)
    )
    history: History | None = None
    offset = 0
    if identity is None:
        history = History(data, wish.project, wish.name)
        identity, offset = _choose(wish, data, history, notices)
    current.turn += 1
    document = identity.claimed or (
        Task(
            id=identity.task,
            name=wish.name,
            project=wish.project,
            type=wish.type,
            status=Status.RUNNING,
            tags=wish.tags,
            system_tags=(DEVELOPMENT_TAG,),
            output_uri=wish.output_uri,
        )
        if identity.role == "main" or not identity.attached
        else document_of_owner(identity)
    )
    session = _open(identity, document, data, notices)
    session.logger.iteration_offset = offset
    session.begin(_opened(identity, wish), history)
    if history is not None:
        history.remember(LastRun(task=session.id, started=time.time(), offline=session.offline))
    if session.owner and identity.hosted and wish.output_uri and not document.output_uri:
        session.edit(TaskEdit(output_uri=wish.output_uri))  # nobody said otherwise on the server
    _announce(session)
    _fix_seed(session)
    if session.owner:
        _watch(session, wish)
    elif identity.hosted:
        _watch_frameworks(session, wish, _watch_arguments(session, wish), COMMAND_LINES)
    return session


def _check_settings(notices: Notices) -> None:
    """Said once in a process; the script goes on with what can be used."""
    if current.settings_checked:
        return
    current.settings_checked = True
    with notices.boundary("the settings could not be checked"):
        for fault in faults():
            notices.say(f"{fault}; it is left out")
        for remark in remarks():
            notices.say(remark)


def _fix_seed(session: Session) -> None:
    """In every process that begins here, ranks too; what was fixed is told by the one that has the task."""
    seed = wished_seed(session)
    with session.notices.boundary("the random seed could not be set"):
        if session.owner and session.identity.mode is None:  # else the opening record tells it
            session.edit(TaskEdit(runtime=_told_seed(seed)))
        if seed is not None:
            seeding = Seeding(seed, session.notices)
            seeding.start()
            session.watch(seeding)


def wished_seed(session: Session | None) -> int | None:
    """What the script said; else, run from a clone, what its original ran with; else the setting; None: none."""
    if current.seed != BY_SETTING:
        return current.seed
    kept = None
    if session is not None and session.identity.claimed is not None:
        kept = session.identity.claimed.runtime.get(RANDOM_SEED)
    if kept == LEFT_ALONE:
        return None
    return kept if type(kept) is int and 0 <= kept <= MAX_SEED else setting("sdk.random_seed")


def _told_seed(seed: int | None) -> dict[str, Any]:
    return {RANDOM_SEED: LEFT_ALONE if seed is None else seed}


def attach() -> Session | None:
    """The session of a process below one that runs a task, which has not called `Task.init` itself."""
    if ENV_LEASE not in os.environ and ENV_OWNER not in os.environ:
        return None
    identity = from_environment(os.environ, data_folder())
    if identity is None or identity.role == "main":
        return None
    session = _open(identity, document_of_owner(identity), data_folder(), Notices())
    session.begin(None, None)
    return session


def _open(identity: Identity, document: Task, data: Path, notices: Notices) -> Session:
    """A journal that cannot be made where it belongs is made elsewhere: the script goes on."""
    try:
        session = Session(identity, document, data, notices)
    except OSError as error:
        import tempfile

        place = Path(tempfile.mkdtemp(prefix="taskloom-"))
        notices.say(f"the journal cannot be written below {identity.root}: {error.strerror}; it is in {place}")
        elsewhere = replace(identity, root=place)
        session = Session(elsewhere, document, data, notices)
    # Below a task that records its standard output, what is printed to the same place is recorded already.
    session.stdout_recorded = not session.owner and os.environ.get(ENV_STDOUT, "-") == descriptor_name(1)
    return session


# --- which task -------------------------------------------------------------------------------------------


def _choose(wish: Wish, data: Path, history: History, notices: Notices) -> tuple[Identity, int]:
    """A new task, the last one run over, or a continued one with its iteration offset."""
    offline = is_offline()
    root = data / OFFLINE_FOLDER if offline else layout.journal_root(data)
    if wish.proceed is not False:
        task = _continued(wish, history)
        if task:
            if any(layout.is_locked(f / layout.LOCK_FILE) for f in layout.writer_folders(root / task)):
                raise BadInput(f"task {task} still runs on this machine; it cannot be continued", task=task)
            return Identity(task, "main", root, "resume"), _offset(wish, task, history, notices)
    if isinstance(wish.reuse, str):
        return Identity(check_task_id(wish.reuse, "reuse_last_task_id"), "main", root, "reset"), 0
    if offline:
        task, current.offline_id = current.offline_id or new_id(), ""
        return Identity(task, "main", root, "new"), 0
    window = setting("sdk.task_reuse_time_window_in_hours") * 3600
    again = history.reusable(time.time(), window) if wish.reuse else ""
    if again and again not in current.closed_here:
        return Identity(again, "main", root, "reset"), 0
    offset = wish.proceed if type(wish.proceed) is int else 0
    return Identity(new_id(), "main", root, "new"), offset


def _continued(wish: Wish, history: History) -> str:
    """The task to continue; '' when there is none yet."""
    if isinstance(wish.proceed, str):
        return check_task_id(wish.proceed, "continue_last_task")
    if isinstance(wish.reuse, str):
        return check_task_id(wish.reuse, "reuse_last_task_id")
    last = history.last()
    return last.task if last is not None else ""


def _offset(wish: Wish, task: str, history: History, notices: Notices) -> int:
    """One after the last reported iteration, unless an offset was given."""
    if type(wish.proceed) is int:
        return wish.proceed
    last = history.last()
    found = last.last_iteration if last is not None and last.task == task else None
    if found is None:
        found = _last_iteration_on_server(task, notices)
    return 0 if found is None else found + 1


def _last_iteration_on_server(task: str, notices: Notices) -> int | None:
    from taskloom.wire.operations import GET_TASK
    from taskloom.wire.send import Client

    address = find_address()
    if address is None:
        notices.say(
            f"where task {task} ended is not known here and no server is configured: iterations begin at 0"
        )
        return None
    client = Client(address)
    try:
        return client.call(GET_TASK, task=task).last_iteration
    except TaskloomError as error:
        notices.say(f"where task {task} ended could not be asked ({error.message}): iterations begin at 0")
        return None
    finally:
        client.close()


def _opened(identity: Identity, wish: Wish) -> Opened | None:
    if identity.mode is None:
        return None
    seed = _told_seed(wished_seed(None))
    return Opened(
        mode=identity.mode,
        name=wish.name,
        project=wish.project,
        type=wish.type,
        time=time.time(),
        tags=wish.tags,
        system_tags=(DEVELOPMENT_TAG,),
        output_uri=wish.output_uri,
        runtime={"host": socket.gethostname(), "pid": os.getpid(), "python": _python(), **seed},
    )


def _python() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _announce(session: Session) -> None:
    if not session.owner:
        return
    document = session.document()
    what = f"task {document.name!r} of {document.project!r}"
    if session.offline:
        session.notices.say(f"{what} is recorded offline in {session.writer.task_folder}")
        return
    with session.notices.boundary("the server's address"):
        address = find_address()
        if address is not None:
            session.notices.say(f"{what}: {address.task(session.id)}")
        elif not session.identity.lease:
            session.notices.say(f"{what}: no server is configured, its journal is {session.writer.task_folder}")


# --- watchers ---------------------------------------------------------------------------------------------


def wanted(switch: Switches, name: str) -> bool:
    """A switch is on or off for everything, or by name; what it does not name is on."""
    return switch if isinstance(switch, bool) else bool(switch.get(name, True))


def _watch(session: Session, wish: Wish) -> None:
    _watch_console(session, wish)
    _watch_frameworks(session, wish, _watch_arguments(session, wish))
    machine = wanted(wish.resources, "machine") if isinstance(wish.resources, Mapping) else bool(wish.resources)
    code = wanted(wish.frameworks, "detect_repository")
    # Asked for here: at the end of a script Python has forgotten its file, and the script may change its folder.
    script, folder, shell = script_path(), Path.cwd(), running_shell()
    notebook: Notebook | None = None
    if shell is not None and code and not session.identity.hosted:
        with session.notices.boundary("the notebook could not be recorded"):
            from taskloom.sdk.capture.kernel import Notebook

            notebook = Notebook(session, shell, folder)
            session.watch(notebook)
            notebook.start()
    session.in_background(lambda: _capture(session, code, notebook, script, folder, machine))


def _watch_frameworks(session: Session, wish: Wish, line: CommandLine, only: frozenset[str] | None = None) -> None:
    with session.notices.boundary("frameworks could not be watched"):
        frameworks = Frameworks(session, wish.frameworks, line, only)
        session.watch(frameworks)
        frameworks.start()


def _watch_console(session: Session, wish: Wish) -> None:
    if session.identity.hosted:
        session.stdout_recorded = True  # the worker has the descriptors
        session.change_environment({ENV_STDOUT: descriptor_name(1)})
        return
    out, err, messages = (_stream_wanted(wish.streams, name) for name in STREAM_NAMES)
    captured: frozenset[int] = frozenset()
    with session.notices.boundary("the console could not be captured"):
        if out or err:
            tee = _console(session, out, err)
            tee.start()
            session.watch(tee)
            captured = tee.captured
            session.stdout_recorded = 1 in captured
    if session.stdout_recorded:
        session.change_environment({ENV_STDOUT: descriptor_name(1)})
    if messages and captured != frozenset((1, 2)):
        with session.notices.boundary("what logging says could not be captured"):
            from taskloom.sdk.capture.messages import MessageTap

            tap = MessageTap(session.logger.record_line, session.notices.boundary, captured)
            tap.start()
            session.watch(tap)


def _console(session: Session, out: bool, err: bool) -> ConsoleTee | KernelConsole:
    shell = running_shell()
    if shell is not None:
        from taskloom.sdk.capture.kernel import KernelConsole, is_kernel

        if is_kernel(shell):
            return KernelConsole(session.writer.stream_path, out, err)
    return ConsoleTee(session.writer.folder, stdout=out, stderr=err)


def _stream_wanted(switch: Switch, name: str) -> bool:
    """A dictionary of streams names those that are recorded; what it does not name is not, as with ClearML."""
    return switch if isinstance(switch, bool) else bool(switch.get(name, False))


def _watch_arguments(session: Session, wish: Wish) -> CommandLine:
    line = CommandLine(session, wish.arguments)
    if line.on and (session.owner or session.identity.hosted):
        with session.notices.boundary("arguments could not be captured"):
            session.watch(line)
            hook = ArgumentHook(line.report, line.edited, line.chosen)
            session.watch(hook)
            hook.install()
            if hook.parsed_early:
                line.keep()
    return line


def _capture(
    session: Session, code: bool, notebook: Notebook | None, script: Path | None, folder: Path, machine: bool
) -> None:
    session.deliver()
    if machine:
        _sample(session)
    if session.identity.hosted:
        return  # the worker runs what is written down; it stays as it is
    if not code:
        session.edit(TaskEdit(execution={"python": _python()}))
        return
    if notebook is not None:
        with session.notices.boundary("the notebook could not be recorded"):
            notebook.look_around()
        return
    with session.notices.boundary("the code could not be captured"):
        from taskloom.sdk.capture.git import capture_code

        session.edit(TaskEdit(execution=capture_code(script, folder)))
    with session.notices.boundary("the packages could not be captured"):
        from taskloom.sdk.capture.packages import capture_packages

        session.edit(TaskEdit(execution={"packages": capture_packages(script)}))


def _sample(session: Session) -> None:
    seconds = setting("sdk.resource_sample_seconds")
    if not seconds:
        return
    with session.notices.boundary("the machine could not be sampled"):
        from taskloom.sdk.capture.resources import ResourceSampler

        sampler = ResourceSampler(session.logger.report_machine, seconds)
        sampler.start()
        session.watch(sampler)
