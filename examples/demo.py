"""The main job from nothing to two finished tasks: record, clone, change, queue, run, compare (`make demo`).

It starts `taskloom up` on a free port with a data folder of its own, runs the digits example in the ordinary
way, clones the recorded task with another learning rate, lets the worker run the clone, follows it live, and
shows both side by side. It ends what it started; what was recorded stays in the data folder.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from taskloom.cli.compare import compare_tasks, print_comparison
from taskloom.cli.connect import task_address
from taskloom.cli.output import duration, say
from taskloom.cli.terminal import plain_lines
from taskloom.domain.errors import TaskloomError
from taskloom.domain.parameters import Parameter
from taskloom.domain.status import ENDED, Status
from taskloom.domain.task import Task, TaskEdit
from taskloom.wire import messages as m
from taskloom.wire import operations as op
from taskloom.wire.client import Address
from taskloom.wire.connection import read_connection
from taskloom.wire.send import Client
from taskloom.wire.worker_protocol import ENV_API_KEY, ENV_DATA, ENV_URL

CHECKOUT = Path(__file__).resolve().parent.parent
SCRIPT = CHECKOUT / "examples" / "01-digits" / "train.py"
PROJECT = "examples/digits"
QUEUE = "default"
USUAL_PORT = 8080
START_SECONDS = 60.0
STOP_SECONDS = 40.0
READY = re.compile(r"https?://\S+")


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


def main() -> int:
    options = read_options()
    signal.signal(signal.SIGTERM, interrupted)
    begun = time.monotonic()
    deadline = begun + options.limit
    data = Path(options.data).resolve()
    try:
        if options.fresh:
            remove_data(data)
        with house(data, begun) as client:
            first = record_example(client, data, options, begun, deadline)
            second = run_clone(client, data, first, options, begun, deadline)
            show_both(client, first, second, begun)
        say_how_to_go_on(data, client.address.url, begun)
    except (DemoFailed, TaskloomError, subprocess.TimeoutExpired) as error:
        print(f"\nthe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 0


def interrupted(_number: int, _frame: object) -> None:
    """SIGTERM as Ctrl-C: what was started has to be ended first."""
    raise KeyboardInterrupt


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default=str(CHECKOUT / ".demo"), help="data folder; kept")
    parser.add_argument("--fresh", action="store_true", help="empty the data folder first")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of both runs")
    parser.add_argument("--learning-rate", default="0.2", help="what the clone gets instead of the default")
    parser.add_argument("--limit", type=float, default=480.0, help="seconds that all of it may take")
    return parser.parse_args()


def step(begun: float, text: str) -> None:
    """A heading, so that a reader always sees what is going on."""
    say(f"\n[{time.monotonic() - begun:5.1f} s] {text}", style="bold cyan")


# --- the server and the worker ----------------------------------------------------------------------------


@contextmanager
def house(data: Path, begun: float) -> Generator[Client]:
    """`taskloom up` on a free port; one that already runs on this data folder is used and left alone."""
    running = answering(data)
    if running is not None:
        step(begun, f"using the server that already runs on {data} at {running.url}")
        yield Client(running)
        return
    data.mkdir(parents=True, exist_ok=True)
    log = data / "up.log"
    step(begun, f"starting `taskloom up --data {data}` (its log: {log})")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskloom.cli.main", "up", "--data", str(data), "--port", str(free_port())],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment(data),
            start_new_session=True,
        )
    try:
        address = wait_until_ready(process, data, log)
        say(f"the server answers at {address.url}")
        yield Client(address)
    finally:
        step(begun, "ending `taskloom up` in order")
        stop(process)


def free_port() -> int:
    """The usual port, so that the addresses stay true for `taskloom up` afterwards; any free one if it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", USUAL_PORT))
        except OSError:
            return 0
    return USUAL_PORT


def answering(data: Path) -> Address | None:
    """The address of a living server of this data folder, if there is one."""
    written = read_connection(data)
    if written is None:
        return None
    address = Address(written.url, written.api_key)
    try:
        Client(address).call(op.SERVER_INFO)
    except TaskloomError:
        return None
    return address


def wait_until_ready(process: subprocess.Popen[bytes], data: Path, log: Path) -> Address:
    """The address from the ready line's server, once it answers."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise DemoFailed(f"`taskloom up` ended with {process.returncode}:\n{tail(log)}")
        if READY.search(log.read_text(errors="replace")):
            address = answering(data)
            if address is not None:
                return address
        time.sleep(0.1)
    raise DemoFailed(f"`taskloom up` was not ready after {START_SECONDS:.0f} s:\n{tail(log)}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM and patience; what does not obey is killed with its group."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def environment(data: Path) -> dict[str, str]:
    """This shell's environment, turned to the demo's data folder and to no other server."""
    kept = {name: value for name, value in os.environ.items() if name not in {ENV_URL, ENV_API_KEY}}
    return {**kept, ENV_DATA: str(data), "PYTHONUNBUFFERED": "1"}


def tail(log: Path, lines: int = 20) -> str:
    return plain_lines("\n".join(log.read_text(errors="replace").splitlines()[-lines:]))


def remove_data(data: Path) -> None:
    """Empty the folder, if it is one of ours."""
    if not data.exists():
        return
    known = {"connection.json", "server", "journal", "worker", "cache", "up.log"}
    if any(data.iterdir()) and not known & {entry.name for entry in data.iterdir()}:
        raise DemoFailed(f"{data} does not look like a data folder of Taskloom; it is left alone")
    if answering(data) is not None:
        raise DemoFailed(f"a server runs on {data}; stop it before --fresh")
    shutil.rmtree(data)


# --- the job ----------------------------------------------------------------------------------------------


def record_example(client: Client, data: Path, options: argparse.Namespace, begun: float, deadline: float) -> Task:
    """Run the script as anybody would, then find what it recorded."""
    command = [sys.executable, str(SCRIPT), "--epochs", str(options.epochs)]
    step(begun, f"recording: python {SCRIPT.relative_to(CHECKOUT)} --epochs {options.epochs}")
    before = {task.id for task in recorded(client)}
    done = subprocess.run(command, env=environment(data), cwd=CHECKOUT, check=False, timeout=left(deadline))
    if done.returncode != 0:
        raise DemoFailed(f"the example ended with {done.returncode}")
    step(begun, "waiting until everything it recorded is on the server")
    while time.monotonic() < deadline:
        fresh = [task for task in recorded(client) if task.id not in before]
        if fresh and fresh[0].status in ENDED:
            task = client.call(op.GET_TASK, task=fresh[0].id)
            say(f"{task.id} {task.project}/{task.name}: {task.status.value}")
            if task.status is not Status.COMPLETED:
                raise DemoFailed(f"the recorded task is {task.status.value}: {task.status_reason}")
            return task
        time.sleep(0.2)
    raise DemoFailed("the recorded task did not arrive on the server in time")


def recorded(client: Client) -> list[Task]:
    query = m.TaskQuery(project=PROJECT, order_by=["created"], fields=["created"], limit=1000)
    try:
        return client.call(op.QUERY_TASKS, query).tasks
    except TaskloomError:  # the project is not there before the first run
        return []


def run_clone(
    client: Client, data: Path, first: Task, options: argparse.Namespace, begun: float, deadline: float
) -> Task:
    """Clone, change one parameter, enqueue, and watch the worker until the end."""
    old = first.parameters.get("Args", {}).get("learning_rate")
    if old is None:
        raise DemoFailed("the recorded task has no parameter Args/learning_rate")
    step(begun, f"cloning it with Args/learning_rate = {options.learning_rate} instead of {old.value}")
    name = f"digits classifier, learning rate {options.learning_rate}"
    clone = client.call(op.CLONE_TASK, m.TaskClone(name=name), task=first.id)
    changed = Parameter(options.learning_rate, old.type, old.description)
    edit = TaskEdit(parameters={"Args": {"learning_rate": changed}})
    client.call(op.EDIT_TASK, m.TaskEditRequest(edit=edit), task=clone.id)
    client.call(op.ENQUEUE_TASK, m.Enqueue(queue=QUEUE, create=True), task=clone.id)
    step(begun, f"enqueued {clone.id}; following the worker live (it first prepares code and packages)")
    followed = subprocess.run(
        [sys.executable, "-m", "taskloom.cli.main", "task", "logs", "--follow", clone.id],
        env=environment(data),
        check=False,
        timeout=left(deadline),
    )
    task = client.call(op.GET_TASK, task=clone.id)
    if followed.returncode != 0 or task.status is not Status.COMPLETED:
        raise DemoFailed(
            f"the clone is {task.status.value}: {task.status_reason}\n{plain_lines(task.status_message)}".rstrip()
        )
    return task


def show_both(client: Client, first: Task, second: Task, begun: float) -> None:
    step(begun, "both results side by side")
    print_comparison(compare_tasks([first, second]))
    for task in (first, second):
        say(f"{task.name}\n    {task_address(client, task.id)}")


def say_how_to_go_on(data: Path, url: str, begun: float) -> None:
    port = url.rpartition(":")[2]
    elsewhere = "" if port == str(USUAL_PORT) else f" --port {port}"
    shown = near(data)
    command = "taskloom" if shutil.which("taskloom") else near(Path(sys.executable).parent / "taskloom")
    say(f"\ndone in {duration(time.monotonic() - begun)}. To keep the server and its worker running:")
    say(f"    {command} up --data {shown}{elsewhere}", style="bold")
    say("and to look at what is there, in another terminal:")
    say(f"    {command} --data {shown} task list", style="bold")


def near(path: Path) -> str:
    """The path as a person here would type it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 1.0)


if __name__ == "__main__":
    sys.exit(main())
