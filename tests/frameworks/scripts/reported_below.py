"""Text reported by processes below the task: one that prints to the same place, one whose output is read, a fork."""

import os
import subprocess
import sys

from taskloom import Task

if len(sys.argv) > 1:
    Task.current_task().get_logger().report_text(f"from {sys.argv[1]}")
    sys.exit()
task = Task.init(project_name="tests/reported below", task_name="reported below", auto_connect_frameworks=False)
subprocess.run([sys.executable, __file__, "a subprocess"], check=True)
subprocess.run([sys.executable, __file__, "a process whose output is read"], check=True, stdout=subprocess.PIPE)
child = os.fork()
if not child:
    task.get_logger().report_text("from a fork")
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
