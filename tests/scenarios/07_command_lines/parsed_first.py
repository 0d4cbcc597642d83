"""Parses its command line before the task begins; one argument has to be given."""

import argparse

from taskloom import Task

parser = argparse.ArgumentParser()
parser.add_argument("data")
parser.add_argument("--lr", type=float, default=0.1)
args = parser.parse_args()
task = Task.init(project_name="scenario/lines", task_name="parsed first", auto_resource_monitoring=False)
print("read", args.data, args.lr)
