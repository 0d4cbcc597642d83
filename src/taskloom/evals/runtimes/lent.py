"""`python -m taskloom.evals.runtimes.lent PATH [--env NAME]`: serve an environment under a worker, for somebody elsewhere.

The other end of `leased`. It serves on the loopback interface and takes connections from the server, by the key of its
task. It ends at SIGTERM, when the server no longer knows it, and when nobody has been connected for a while: whoever
leased it is gone. Exit codes: 0 ended, 1 the source or the server is at fault, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from taskloom.domain.errors import TaskloomError
from taskloom.evals.environment.declaration import Environment
from taskloom.evals.environment.loading import load_environment
from taskloom.evals.runtimes.child import explain
from taskloom.evals.runtimes.tunnel import lend
from taskloom.evals.serving.process import served
from taskloom.wire.client import Address
from taskloom.wire.connection import find_address
from taskloom.wire.worker_protocol import ENV_TASK_ID

ALONE_SECONDS = 120.0  # without any connection, after which it ends


class Company:
    """Whether anybody is there; `left` is set once nobody was for ALONE_SECONDS."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self.count(0)

    def count(self, connections: int) -> None:
        if connections and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif not connections and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(ALONE_SECONDS, self.left.set)


async def lend_out(environment: Environment, address: Address, task: str) -> str:
    """Serve until it is over; why it ended."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    company = Company()
    async with served(environment) as server:
        lending = asyncio.create_task(lend(address, task, server.port, company.count))
        waits = [asyncio.create_task(event.wait()) for event in (stopped, company.left)]
        try:
            await asyncio.wait([lending, *waits], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (lending, *waits):
                one.cancel()
            await asyncio.gather(lending, *waits, return_exceptions=True)
    if not lending.cancelled() and (error := lending.exception()) is not None:
        raise error
    return "it was stopped" if stopped.is_set() else f"nobody was connected for {ALONE_SECONDS:g} s"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m taskloom.evals.runtimes.lent", description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--env", default="")
    options = parser.parse_args()
    logging.basicConfig(format="taskloom: %(message)s")
    address, task = find_address(), os.environ.get(ENV_TASK_ID, "")
    if address is None or not task:
        parser.error(f"it runs as a task under a worker; {ENV_TASK_ID} is not set, or no server is known")
    path: Path = options.path
    sys.path.insert(0, str((path if path.is_dir() else path.parent).resolve()))  # for what templates import late
    try:
        environment = load_environment(path, options.env)
        print(f"taskloom: {asyncio.run(lend_out(environment, address, task))}", file=sys.stderr)
    except TaskloomError as error:
        print(f"taskloom: {error.message}", file=sys.stderr)
        return 1
    except Exception as error:  # a hook of the environment's
        print(f"taskloom: {explain(error, path.resolve().parent)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
