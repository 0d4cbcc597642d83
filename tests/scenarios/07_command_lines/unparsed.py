"""Reads its command line by hand."""

import sys

from taskloom import Task

task = Task.init(project_name="scenario/lines", task_name="by hand", auto_resource_monitoring=False)
print("read", *sys.argv[1:])
