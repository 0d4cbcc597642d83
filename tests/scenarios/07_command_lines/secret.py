"""Is given a secret on its command line, which nobody should keep."""

import sys

from taskloom import Task

task = Task.init(project_name="scenario/lines", task_name="secret", auto_resource_monitoring=False)
print("read", len(sys.argv))
