"""A short run that neither knows nor cares whether a server is there."""

import os
import sys
import time

from taskloom import Logger, Task

points, pause = int(sys.argv[1]), float(sys.argv[2])
task = Task.init(project_name="scenario/away", task_name="server away", auto_resource_monitoring=False)
task.connect({"points": points})
for step in range(points):
    Logger.current_logger().report_scalar("loss", "train", value=step * 0.5, iteration=step)
    if pause and step % 100 == 0:
        time.sleep(pause)
print("done with", points, "points in", os.getpid())
task.upload_artifact("summary", {"points": points})
