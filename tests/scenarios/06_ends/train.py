"""Ends in the way that its argument names."""

import os
import signal
import sys
import time

from taskloom import Task

how = sys.argv[1]
task = Task.init(project_name="scenario/ends", task_name=f"ends by {how}", auto_resource_monitoring=False)
print("running", flush=True)
match how:
    case "return":
        pass
    case "exception":
        raise RuntimeError("the reason that people look for")
    case "exit 3":
        sys.exit(3)
    case "exit 0":
        sys.exit(0)
    case "SIGTERM":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    case "SIGINT":
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    case "own handler":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    case "_exit":
        time.sleep(1)  # so that the companion process has been started
        os._exit(0)
