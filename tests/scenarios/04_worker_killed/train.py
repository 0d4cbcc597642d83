"""Runs until a file appears, so that the test decides when the worker dies; then reports what it counted."""

import argparse
import time
from pathlib import Path

from taskloom import Logger, Task

parser = argparse.ArgumentParser()
parser.add_argument("--gate", default="")
parser.add_argument("--log", default="")
parser.add_argument("--points", type=int, default=1000)
task = Task.init(project_name="scenario/worker", task_name="worker killed", auto_resource_monitoring=False)
args = parser.parse_args()

if args.log:
    with Path(args.log).open("a") as log:
        log.write("begun\n")
logger = Logger.current_logger()
for step in range(args.points):
    logger.report_scalar("loss", "train", value=float(step), iteration=step)
while args.gate and not Path(args.gate).exists():
    time.sleep(0.05)
if args.log:
    with Path(args.log).open("a") as log:
        log.write("ended\n")
