"""What the unmodified clearml client does in the benchmark, as a process of its own; prints one line of JSON.

`start`: Task.init and close of an empty task. `scalars N`: N calls of report_scalar, then close. `list N`: read N
tasks by Task.get_tasks. With the word `offline` behind, the same without any server.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def quiet_task(name: str) -> Any:
    from clearml import Task

    return Task.init(
        project_name="bench",
        task_name=name,
        auto_connect_frameworks=False,
        auto_connect_arg_parser=False,
        auto_resource_monitoring=False,
        auto_connect_streams=False,
        reuse_last_task_id=False,
    )


def start() -> dict[str, float]:
    begun = time.perf_counter()
    task = quiet_task("empty")
    made = time.perf_counter()
    task.close()
    return {"start": made - begun, "close": time.perf_counter() - made}


def scalars(count: int) -> dict[str, float]:
    task = quiet_task("scalars")
    logger = task.get_logger()
    begun, used = time.perf_counter(), time.process_time()
    for number in range(count):
        logger.report_scalar("loss", "train", number / count, number)
    calls = time.perf_counter() - begun
    task.close()
    return {"calls": calls, "wall": time.perf_counter() - begun, "cpu": time.process_time() - used}


def listing(count: int) -> dict[str, float]:
    from clearml import Task

    Task.query_tasks(project_name="bench", task_name="nothing")  # logs in
    begun, used = time.perf_counter(), time.process_time()
    found = Task.get_tasks(project_name="bench")
    wall = time.perf_counter() - begun
    if len(found) != count:
        raise SystemExit(f"{len(found)} tasks came, expected {count}")
    return {"wall": wall, "cpu": time.process_time() - used}


def main() -> None:
    words = sys.argv[1:]
    if words[-1] == "offline":
        words.pop()
        from clearml import Task

        Task.set_offline(True)
    told = start() if words[0] == "start" else {"scalars": scalars, "list": listing}[words[0]](int(words[1]))
    print("\n" + json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
