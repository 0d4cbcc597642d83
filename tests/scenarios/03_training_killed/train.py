"""Reports from two threads and a forked child, says what it has reported, and is killed without warning."""

import os
import signal
import sys
import threading

from taskloom import Logger, Task

POINTS = int(sys.argv[1])

task = Task.init(project_name="scenario/killed", task_name="training killed", auto_resource_monitoring=False)
logger = Logger.current_logger()


def report(series: str) -> None:
    for step in range(POINTS):
        logger.report_scalar("loss", series, value=step / 7, iteration=step)


threads = [threading.Thread(target=report, args=(f"thread {n}",)) for n in range(2)]
for thread in threads:
    thread.start()
child = os.fork()
if child == 0:
    report("child")
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(child, 0)
for thread in threads:
    thread.join()
print("the last line before the end", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
