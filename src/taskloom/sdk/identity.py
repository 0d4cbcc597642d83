"""Which task a process works for, and in which part: the owner that opens and ends it, or one of its helpers.

The order in which it is decided:
1. under a worker (`TASKLOOM_LEASE`): the task of `TASKLOOM_TASK_ID`; nothing is created
2. below a process that runs a task (`TASKLOOM_OWNER` names its living process): that task, as a child
3. `TASKLOOM_TASK_ID` set by a person: that task, whether it exists or not
4. under an agent of another system (`CLEARML_TASK_ID`), when our server knows the task: see `agents`
5. one of several ranks started by a launcher: the id that the first of them wrote down; rank 0 owns it
6. otherwise what `Task.init` asks for: a new task, the last one again, or its continuation

Only files are looked at here, never the network.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from taskloom.domain.errors import BadInput
from taskloom.domain.task import Task
from taskloom.journal import layout
from taskloom.journal.layout import Role
from taskloom.wire.client import Address
from taskloom.wire.records import OpenMode
from taskloom.wire.worker_protocol import (
    ENV_API_KEY,
    ENV_JOURNAL,
    ENV_LEASE,
    ENV_TASK_FILE,
    ENV_TASK_ID,
    ENV_URL,
)

ENV_OWNER = "TASKLOOM_OWNER"  # process id of the script that runs the task; set by Task.init for its children
GROUPS_FOLDER = "groups"

_TASK_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Identity:
    """`mode` None: the task exists or is opened by somebody else. `root`: the folder of the task folders."""

    task: str
    role: Role
    root: Path
    mode: OpenMode | None = None
    lease: str = ""
    claimed: Task | None = field(default=None, repr=False)
    attached: bool = False  # chosen by the environment, not by the arguments of Task.init
    address: Address | None = field(default=None, repr=False)  # the server of the agent that runs this

    @property
    def hosted(self) -> bool:
        """Run by a worker or an agent: the task's values win over the script's, and its code and console are
        not this process' to record.
        """
        return bool(self.lease) or self.address is not None


def from_environment(environ: Mapping[str, str], data: Path) -> Identity | None:
    """Cases 1 to 3; None when the environment names no task."""
    task = environ.get(ENV_TASK_ID, "")
    if not task:
        return None
    check_task_id(task, ENV_TASK_ID)
    lease = environ.get(ENV_LEASE, "")
    owner = environ.get(ENV_OWNER, "")
    folder = environ.get(ENV_JOURNAL, "")
    root = Path(folder).parent if folder else layout.journal_root(data)
    if lease:
        child = _is_other_process(owner) or rank(environ) > 0
        claimed = read_task_file(environ.get(ENV_TASK_FILE, ""))
        return Identity(task, "child" if child else "main", root, None, lease, claimed, attached=True)
    if owner:
        if not _is_other_process(owner):
            return None  # an earlier program of this very process, or an owner that is gone: not ours any more
        return Identity(task, "child", root, attached=True)
    if rank(environ) > 0:
        return Identity(task, "child", root, attached=True)
    return Identity(task, "main", root, "resume", attached=True)


def from_launcher(environ: Mapping[str, str], data: Path, turn: int) -> Identity | None:
    """Case 5: ranks of one launcher on one machine agree on an id through a file. `turn`: which Task.init it is.

    Ranks on other machines see another data folder: there the id has to be given in TASKLOOM_TASK_ID.
    """
    if "RANK" not in environ or int(environ.get("WORLD_SIZE", "1") or 1) < 2:
        return None
    words = [
        environ.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_PORT")
    ]
    key = "-".join([*words, str(os.getppid()), _started(os.getppid()), str(turn)])
    name = re.sub(r"[^A-Za-z0-9.-]", "_", key)[:200]
    task = _agree(data / GROUPS_FOLDER / name)
    child = rank(environ) > 0
    return Identity(task, "child" if child else "main", layout.journal_root(data), None if child else "new")


def new_id() -> str:
    return uuid.uuid4().hex


def is_task_id(text: str) -> bool:
    return _TASK_ID.fullmatch(text) is not None


def check_task_id(task: str, what: str = "task id") -> str:
    if not is_task_id(task):
        raise BadInput(f"{what} {task[:80]!r}: expected 32 lower-case hexadecimal digits")
    return task


def read_task_file(path: str) -> Task | None:
    """The task as the worker claimed it."""
    if not path:
        return None
    try:
        return msgspec.msgpack.decode(Path(path).read_bytes(), type=Task)
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput(f"{ENV_TASK_FILE} names {path!r}, which cannot be read as a task: {error}") from None


def child_environment(identity: Identity) -> dict[str, str]:
    """What this process and its children find in their environment from now on."""
    address = {}
    if identity.address is not None:
        address = {ENV_URL: identity.address.url, ENV_API_KEY: identity.address.api_key}
    return {
        **address,
        ENV_TASK_ID: identity.task,
        ENV_JOURNAL: str(identity.root / identity.task),
        ENV_OWNER: str(os.getpid()),
    }


def rank(environ: Mapping[str, str]) -> int:
    """The rank that a launcher gave; 0 when it gave none. A rank counts only below a launcher."""
    text = environ.get("RANK", "")
    return int(text) if text.isdigit() else 0


def _is_other_process(owner: str) -> bool:
    """Whether the owner is another process that still runs."""
    if not owner.isdigit() or int(owner) == os.getpid():
        return False
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _started(pid: int) -> str:
    """When a process began, in the kernel's ticks: tells two launchers with one process id apart."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _agree(path: Path) -> str:
    """The first process writes an id, whole or not at all (a link is atomic); all others read it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    mine = new_id()
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    fresh.write_text(mine)
    try:
        os.link(fresh, path)
    except FileExistsError:
        return check_task_id(path.read_text(), f"the id in {path}")
    finally:
        fresh.unlink()
    return mine
