"""Samples at a destination of the script's choice, shown again and again, and one on the Taskloom server."""

import sys

import numpy as np

from taskloom import Task

task = Task.init(project_name="tests/samples elsewhere", task_name=sys.argv[2], auto_connect_frameworks=False)
logger = task.get_logger()
logger.set_default_upload_destination(sys.argv[1])
print(logger.get_default_upload_destination())
for step in range(7):
    logger.report_image("seen", "a/b", step, image=np.full((4, 4), step, np.uint8), max_image_history=3)
    if step % 3 == 2:
        logger.flush(wait=True)  # so that they do not travel all at once
logger.set_default_upload_destination("")
logger.report_image("seen", "here", 0, image=np.full((4, 4), 99, np.uint8))
task.close()
