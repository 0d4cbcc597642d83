"""What ClearML's agent adds to a task that does nothing, on a queue of our own server, beside our worker.

Both take the same tasks (one line of Python, no packages) from the same server, one after another on one slot. The
agent is measured as it comes (it builds an environment for each task) and told to use the Python that it runs in
(`CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL`), which is as little as it can do. A thousand tasks of it would take hours: a
few are run, and the figure is the time from one task's start to the next one's, by the server's clock.
Needs the environment of `make test-clearml`; run as `python benchmarks/clearml_agent.py PATH_OF_ITS_PYTHON`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from taskloom.domain.execution import Execution
from taskloom.domain.status import ENDED
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.client import Address
from taskloom.wire.connection import read_connection
from taskloom.wire.send import Client

PATIENCE = 600.0
FEW, MANY = 4, 40


def enqueue(client: Client, queue: str, count: int) -> list[str]:
    execution = Execution(diff="print('nothing')\n", entry_point="script.py")
    made: list[str] = []
    for number in range(count):
        create = m.TaskCreate(name=f"no-op {number}", project="bench", execution=execution)
        made.append(client.call(op.CREATE_TASK, create).id)
        client.call(op.ENQUEUE_TASK, m.Enqueue(queue=queue, create=True), task=made[-1])
    return made


def seconds_each(client: Client, tasks: list[str]) -> float:
    """From start to start, once all have ended; a task that did not complete ends the measurement."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = [client.call(op.GET_TASK, task=task) for task in tasks]
        if all(task.status in ENDED for task in found):
            break
        if time.monotonic() > deadline:
            raise SystemExit(f"after {PATIENCE:g} s: {[task.status.value for task in found]}")
        time.sleep(0.5)
    if bad := [task.status_reason for task in found if task.status.value != "completed"]:
        raise SystemExit(f"not completed: {bad}")
    starts = sorted(task.started for task in found)
    return (starts[-1] - starts[0]) / (len(starts) - 1)


def agent(client: Client, python: Path, folder: Path, queue: str, **more: str) -> float:
    access, _, secret = client.address.api_key.removeprefix("tl_").partition("_")
    (folder / "clearml.conf").write_text("agent { package_manager: { type: pip, system_site_packages: true } }\n")
    environ = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("CLEARML_", "TASKLOOM_"))},
        "HOME": str(folder),
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "CLEARML_CONFIG_FILE": str(folder / "clearml.conf"),
        "CLEARML_API_HOST": client.address.url,
        "CLEARML_WEB_HOST": client.address.url,
        "CLEARML_FILES_HOST": f"{client.address.url}/files",
        "CLEARML_API_ACCESS_KEY": access,
        "CLEARML_API_SECRET_KEY": secret,
        "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC": "1",
        **more,
    }
    tasks = enqueue(client, queue, FEW)
    argv = [str(python), str(python.parent / "clearml-agent"), "daemon", "--foreground", "--queue", queue]
    with (folder / f"{queue}.log").open("wb") as log:
        daemon = subprocess.Popen(argv, env=environ, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            return seconds_each(client, tasks)
        finally:
            end(daemon)


def worker(client: Client, data: Path, packages: str) -> float:
    queue = f"ours-{packages}"
    tasks = enqueue(client, queue, MANY)
    address = client.address
    environ = {**os.environ, "TASKLOOM_URL": address.url, "TASKLOOM_API_KEY": address.api_key}
    argv = [
        sys.executable,
        "-m",
        "taskloom.cli.worker",
        "--data",
        str(data),
        "--queue",
        queue,
        "--packages",
        packages,
    ]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(argv, env=environ, stdout=quiet, stderr=quiet)
    try:
        return seconds_each(client, tasks)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> None:
    python = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        argv = [sys.executable, "-m", "taskloom.server", "--data", str(folder / "house"), "--port", "0"]
        server = subprocess.Popen(argv, stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            server.stdout.readline()
            found = read_connection(folder / "house")
            assert found is not None
            client = Client(Address(found.url, found.api_key))
            told = {
                "taskloom, environments": worker(client, folder / "w1", "build"),
                "taskloom, own packages": worker(client, folder / "w2", "reuse"),
                "clearml-agent, no environments": agent(
                    client, python, folder, "bare", CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL="1"
                ),
                "clearml-agent, environments": agent(client, python, folder, "built"),
            }
            client.close()
        finally:
            end(server)
    best = min(told.values())
    for what, seconds in told.items():
        print(f"{what:32} {seconds:8.3f} s a task  {seconds / best:6.1f} x")
    print(json.dumps(told))


if __name__ == "__main__":
    main()
