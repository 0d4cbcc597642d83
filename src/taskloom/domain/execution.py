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
    """What a place must have. `None` means: whatever the worker offers. Memory and disk in bytes."""

    cpus: float | None = None
    memory: int | None = None
    disk: int | None = None
    gpus: int | None = None
    gpu_type: str = ""


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
    arguments    argv of the entry point, for tasks whose arguments are not read from the section `Args`
    command      argv that replaces entry_point altogether; empty for ordinary scripts
    setup        shell lines run before the command, in the prepared workspace
    image        container image with its arguments in `image_arguments`; empty: no container
    variables    environment variables given to the command
    foreign      what a client of another system keeps with the code, under that system's own names (such as conda
                 requirements); nobody here acts on it, the client finds it again, also in a clone
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
    arguments: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    setup: str = ""
    image: str = ""
    image_arguments: str = ""
    variables: dict[str, str] = {}
    resources: Resources = Resources()
    foreign: dict[str, Any] = {}
