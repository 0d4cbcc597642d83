"""`python -m taskloom.evals.runtimes.within`: one hosted run, agent and environment side by side, under a worker.

It reads what to do from its task (see order), records the run in its task's journal, and ends with 0 when the run came
to its end, whatever that was: a failed run is data. 1: the infrastructure failed, and the queue may try again, under
the same id of the run. SIGTERM cancels the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import msgspec

from taskloom.domain.errors import BadInput, TaskloomError
from taskloom.evals.agents import make_agent
from taskloom.evals.channel.client import connect
from taskloom.evals.limits import Limits
from taskloom.evals.recording import JobRecorder
from taskloom.evals.rollout import Conditions, Place, roll_out
from taskloom.evals.run import Run
from taskloom.evals.runtimes.local import LocalRuntime
from taskloom.evals.runtimes.order import CONFIGURATION, Order
from taskloom.evals.task import Task
from taskloom.sdk.identity import from_environment
from taskloom.wire.configuration import data_folder


def read_order() -> tuple[Order, int]:
    """What to do, and which attempt of its task this is. BadInput outside of a hosted run."""
    identity = from_environment(os.environ, data_folder())
    claimed = None if identity is None else identity.claimed
    if claimed is None or CONFIGURATION not in claimed.configuration:
        raise BadInput(f"this runs as a task under a worker, with the configuration object {CONFIGURATION!r}")
    try:
        return msgspec.json.decode(claimed.configuration[CONFIGURATION].value, type=Order), claimed.attempt
    except msgspec.DecodeError as error:
        raise BadInput(f"configuration object {CONFIGURATION!r}: {error}") from None


async def perform(order: Order, attempt: int, recorder: JobRecorder) -> Run | None:
    """The run, ended and recorded; None when it was cancelled."""
    place = Place(
        Task.model_validate(order.row),
        order.position,
        order.run,
        order.group,
        order.try_number,
        order.attempt + attempt - 1,
    )
    conditions = Conditions(
        agent=make_agent(order.agent),
        agent_name=order.agent_name,
        model=order.model,
        provider=LocalRuntime(order.source),
        connect=connect,
        job_id=order.job,
        recorder=recorder,
        ended=lambda _: None,
        limits=Limits(**order.limits),  # pyright: ignore[reportArgumentType] - as they were written down
    )
    running = asyncio.ensure_future(roll_out(place, conditions))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        return await running
    return None


def main() -> int:
    sys.path.insert(0, str(Path.cwd()))
    try:
        order, attempt = read_order()
        recorder = JobRecorder.attach()
        if recorder is None:
            raise BadInput("this runs under a worker, by which it is recorded")
        run = asyncio.run(perform(order, attempt, recorder))
    except (TaskloomError, ValueError, TypeError) as error:
        print(f"taskloom: {error}", file=sys.stderr)
        return 1
    recorder.end("completed")
    if run is None:
        print("taskloom: the run was cancelled", file=sys.stderr)
        return 1
    told = f"{run.status}: {run.error}" if run.error else f"{run.status}, reward {run.reward:g}"
    print(f"taskloom: run {run.trace_id} of {run.slug}: {told}", file=sys.stderr)
    return 1 if run.boundary == "infrastructure" and not run.graded else 0


if __name__ == "__main__":
    raise SystemExit(main())
