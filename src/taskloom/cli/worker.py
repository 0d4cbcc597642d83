"""`taskloom worker`: run tasks from queues in the foreground until it is told to stop.

Only reads its arguments; the work is `worker.daemon`. `taskloom agent` is the same command.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from taskloom.domain.errors import BadInput, ServerAway
from taskloom.wire.configuration import check_settings, data_folder
from taskloom.wire.connection import find_address
from taskloom.wire.worker_protocol import DEFAULT_LEASE, ENV_DATA

NO_SERVER = "no server is known: start one with `taskloom up` or `taskloom server`, or set TASKLOOM_URL and TASKLOOM_API_KEY"


def worker(
    queue: Annotated[
        list[str] | None, typer.Option(help="Queue to serve; repeat for more, first comes first.")
    ] = None,
    slots: Annotated[int, typer.Option(help="Tasks that may run at the same time.")] = 1,
    services: Annotated[
        int, typer.Option(help="Instead of slots: so many light tasks at the same time, none of them with a GPU.")
    ] = 0,
    lease: Annotated[
        float, typer.Option(help="Seconds without a sign of life after which a task goes to another worker.")
    ] = DEFAULT_LEASE,
    name: Annotated[str, typer.Option(help="Name of the worker; by default the machine's.")] = "",
    data: Annotated[Path | None, typer.Option(help="Data folder of this machine (else TASKLOOM_DATA).")] = None,
    grace: Annotated[
        float, typer.Option(help="Seconds between SIGTERM and SIGKILL when a task is aborted.")
    ] = 2.0,
    drain_timeout: Annotated[
        float, typer.Option(help="Seconds that running tasks get when the worker is told to stop.")
    ] = 0.0,
    leave: Annotated[
        float,
        typer.Option(
            help="Seconds that tasks go on after a SIGTERM, for the next start to adopt; 0 gives them back."
        ),
    ] = 600.0,
    containers: Annotated[
        str, typer.Option(help="What runs tasks with an image: auto (podman or docker), podman, docker, none.")
    ] = "auto",
    allow_mount: Annotated[
        list[Path] | None, typer.Option(help="Folder below which containers may see everything; repeat for more.")
    ] = None,
    allow_container_arguments: Annotated[
        bool,
        typer.Option("--allow-container-arguments", help="Pass on every image argument: tasks own the machine."),
    ] = False,
    packages: Annotated[
        str, typer.Option(help="build: an environment for each task's packages. reuse: the worker's own.")
    ] = "build",
    environments: Annotated[int, typer.Option(help="Built environments to keep.")] = 20,
) -> int:
    """Run tasks from queues in the foreground until SIGTERM or Ctrl-C."""
    from taskloom.providers.container_arguments import Rules
    from taskloom.worker.daemon import Daemon, WorkerSettings

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if data is not None:
        os.environ[ENV_DATA] = str(data.expanduser().absolute())
        check_settings()
    if packages not in {"build", "reuse"}:
        raise typer.BadParameter(f"packages {packages!r}: expected build or reuse")
    if containers not in {"auto", "podman", "docker", "none"}:
        raise typer.BadParameter(f"containers {containers!r}: expected auto, podman, docker or none")
    if services and slots != 1:
        raise typer.BadParameter("services and slots: expected one of them")
    address = find_address()
    if address is None:
        raise ServerAway(NO_SERVER)
    settings = WorkerSettings(
        data=data_folder(),
        address=address,
        queues=tuple(dict.fromkeys(queue or ["default"])),
        slots=services or slots,
        services=services != 0,
        lease=lease,
        name=name,
        grace=grace,
        drain_timeout=drain_timeout,
        leave=leave,
        containers=cast("Any", containers),
        rules=Rules(tuple(path.expanduser().absolute() for path in allow_mount or ()), allow_container_arguments),
        packages=cast("Any", packages),
        environments=environments,
    )

    try:
        settings.check()
    except BadInput as error:
        raise typer.BadParameter(error.message) from None

    async def serve() -> int:
        return await Daemon(settings, lambda line: print(line, flush=True)).run()

    return asyncio.run(serve())


def main() -> None:
    """`python -m taskloom.cli.worker`, with the exit codes of the whole program."""
    from taskloom.cli.main import main as whole

    whole(["worker", *sys.argv[1:]])


if __name__ == "__main__":
    main()
