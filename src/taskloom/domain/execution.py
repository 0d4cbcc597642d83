"""What to run: the one value that a captured script, a cloned task and a task.yaml all become.

It is the only thing that a worker runs. Hyperparameters are not in it: they are the task's own, because they
are edited, compared and searched on their own.
"""

from __future__ import annotations

from typing import Any

import msgspec

WORKER_BRINGS = "(a worker brings its own)"
"""Behind the line `# taskloom==VERSION` of `packages`: what a worker of ours links, and others have to install."""


class Resources(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a place must have. Memory and disk in bytes.

    `None` reserves nothing: any place will do. GPUs differ there, since scripts take those that they see: without a
    word about them a task gets its slot's share of those that are free, and waits for none; 0 hides them all.
    """

    cpus: float | None = None
    memory: int | None = None
    disk: int | None = None
    gpus: int | None = None
    gpu_type: str = ""
    nodes: int = 1


class Retries(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many further attempts there are, by what ended the last one.

    lost       its worker fell silent or was stopped; None: what the queue's policy says
    preempted  a task of higher priority took its place; None: as often as that happens
    failed     it ended with another exit code than 0, or was killed
    """

    lost: int | None = None
    preempted: int | None = None
    failed: int = 0


class Sweep(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task for each combination of these values of parameters, by name in the section `General`.

    metric: `TITLE/SERIES` whose last value tells which of them was best, or a name in the score that a script gave.
    """

    grid: dict[str, tuple[Any, ...]]
    metric: str = "eval/loss"
    lower_is_better: bool = True


class Execution(msgspec.Struct, frozen=True, omit_defaults=True):
    """Code, packages, image, command, variables, resources.

    repository   git URL; empty when the code is a single script whose text stands in `diff`
    branch, tag, commit   what to check out; `commit` wins over `tag`, `tag` over `branch`
    entry_point  script path relative to `working_dir`, or `-m package.module`
    working_dir  relative to the root of the repository; `.` is the root
    import_paths folders of the repository, relative to its root, that the script imported from besides its own
    diff         unified diff against `commit`; without a repository the whole script
    packages     text of a requirements.txt; `#` lines carry origins that pip cannot express
    python       version that recorded the task, such as `3.11.7`
    function     name of a function of the script that is the task's whole work; see `sdk.handover`
    arguments    argv of the entry point, for tasks whose arguments are not read from the section `Args`
    command      argv that replaces entry_point altogether; empty for ordinary scripts
    run          shell text that replaces both: what a task.yaml runs, in a home folder of its own. The repository lies
                 in `~` and as `~/NAME`; with `directory` only that folder of it, as `~/LAST PART OF IT`
    directory    folder of the repository that `run` needs; empty: all of it
    files        digest of a zip file (see `wire.archives`) that is unpacked into the home folder
    setup        shell lines run before the command, in the prepared workspace
    image        container image with its arguments in `image_arguments`; empty: no container
    mounts       `HOST:PLACE` or `HOST:PLACE:ro`: folders of the worker's machine that the container sees
    variables    environment variables given to the command
    secrets      names of secrets that the script asks for itself; those that stand in a text as `{{secret.NAME}}`
                 need not be named here
    time_limit   seconds that one attempt may run; 0 without end
    priority     what a higher number has goes first in its queue
    preemptible  whether it may be stopped, and wait again, when a task of higher priority needs its place
    sweep        the task is not run itself, but once for each combination of values
    foreign      what a client of another system keeps with the code, under that system's own names (such as conda
                 requirements); nobody here acts on it but on `binary`, which says what runs the entry point, and the
                 client finds it again, also in a clone
    """

    repository: str = ""
    branch: str = ""
    tag: str = ""
    commit: str = ""
    entry_point: str = ""
    working_dir: str = "."
    import_paths: tuple[str, ...] = ()
    diff: str = ""
    packages: str = ""
    python: str = ""
    function: str = ""
    arguments: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    run: str = ""
    directory: str = ""
    files: str = ""
    setup: str = ""
    image: str = ""
    image_arguments: str = ""
    mounts: tuple[str, ...] = ()
    variables: dict[str, str] = {}
    secrets: tuple[str, ...] = ()
    resources: Resources = Resources()
    time_limit: float = 0.0
    priority: int = 0
    preemptible: bool = False
    retries: Retries = Retries()
    sweep: Sweep | None = None
    foreign: dict[str, Any] = {}
