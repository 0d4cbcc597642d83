"""Uploads: one file of 1 GiB, a folder of 10,000 small files, and 10,000 artifacts of their own.

`measure_uploads` is a measure of `driver`: Taskloom against a real server, everything arrived; clearml in its offline
mode, where it brings nothing to a server but its own folder. As a program it does one peer's work and prints one line
of JSON: `uploads.py taskloom|clearml large|folder|many COUNT_OR_BYTES`.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LARGE = 1 << 30
FILES = 10_000
PATIENCE = 1_800.0


# --- one peer's work, in a process of its own --------------------------------------------------------------------


def begin(peer: str) -> Any:
    words: dict[str, Any] = {
        "auto_connect_frameworks": False,
        "auto_connect_arg_parser": False,
        "auto_resource_monitoring": False,
        "auto_connect_streams": False,
        "reuse_last_task_id": False,
    }
    if peer == "taskloom":
        from taskloom import Task

        return Task.init(project_name="bench", task_name="uploads", **words)
    from clearml import Task

    Task.set_offline(True)
    return Task.init(project_name="bench", task_name="uploads", **words)


def make_file(path: Path, size: int) -> None:
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for number in range(size >> 20):
            file.write(number.to_bytes(8, "little") + block[8:])


def make_folder(folder: Path, count: int) -> None:
    for number in range(count):
        place = folder / f"{number // 1000:02d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:05d}.txt").write_bytes(os.urandom(512).hex().encode())


def work(peer: str, what: str, count: int) -> dict[str, float]:
    """calls: seconds that the script spent; wall: until everything had arrived; cpu: of script and shipper."""
    source = Path("source")
    if what == "large":
        make_file(source, count)
    elif what == "folder":
        make_folder(source, count)
    task = begin(peer)
    begun = time.perf_counter()
    if what == "many":
        for number in range(count):
            task.upload_artifact(f"item {number}", {"number": number})
    else:
        task.upload_artifact("it", str(source))
    calls = time.perf_counter() - begun
    task.close()
    wall = time.perf_counter() - begun
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return {"calls": calls, "wall": wall, "cpu": cpu}


# --- the measure -------------------------------------------------------------------------------------------------


def measure_uploads(
    scratch: Path, peers: list[str], size: int = LARGE, files: int = FILES, many: int = FILES
) -> list[Any]:
    """Rows of `driver`."""
    from driver import Row, environment, fresh, taskloom_server

    from taskloom.wire.messages import TaskQuery
    from taskloom.wire.operations import GET_TASK, QUERY_TASKS

    note = "clearml: offline, into its own folder"
    rows: list[Any] = []
    for what, count, name in (
        ("large", size, f"artifact of {size / (1 << 30):g} GiB"),
        ("folder", files, f"artifact of {files:,} small files"),
        ("many", many, f"{many:,} small artifacts"),
    ):
        calls, wall = Row(f"{name}: the script's part", "s"), Row(f"{name}: until all is there", "s", note=note)
        rows += [calls, wall]
        for peer in ("taskloom", "clearml"):
            if peer not in peers:
                continue
            home = fresh(scratch, f"uploads-{peer}-{what}")
            if peer == "clearml":
                # Its time grows with the square of the count: a tenth tells enough.
                asked = count // 10 if what == "many" else count
                clean = {k: v for k, v in environment(home).items() if not k.startswith("CLEARML_")}
                told = _run(peer, what, asked, home, clean | {"HOME": str(home), "CLEARML_CACHE_DIR": str(home)})
                if asked != count:
                    calls.note = wall.note = f"clearml: offline, {asked:,} of them"
            else:
                with taskloom_server(fresh(scratch, f"uploads-server-{what}")) as server:
                    env = environment(home) | {"TASKLOOM_CLOSE_TIMEOUT": str(PATIENCE)}
                    address = server.client().address
                    env |= {"TASKLOOM_URL": address.url, "TASKLOOM_API_KEY": address.api_key}
                    told = _run(peer, what, count, home, env)
                    (task,) = server.client().call(QUERY_TASKS, TaskQuery(project="bench")).tasks
                    arrived = server.client().call(GET_TASK, task=task.id).artifacts
                    if len(arrived) != (count if what == "many" else 1):
                        raise RuntimeError(f"{len(arrived)} artifacts arrived")
            calls.figures[peer], wall.figures[peer] = told["calls"], told["wall"]
    return rows


def _run(peer: str, what: str, count: int, home: Path, env: dict[str, str]) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__).absolute()), peer, what, str(count)]
    done = subprocess.run(
        command, env=env, cwd=home, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        raise RuntimeError(f"{peer} {what}: {done.returncode}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")
    return json.loads(lines[-1])


if __name__ == "__main__":
    print(json.dumps(work(sys.argv[1], sys.argv[2], int(sys.argv[3]))), flush=True)
