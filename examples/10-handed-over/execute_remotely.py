"""Try a few steps here, then let a worker do the rest: this process ends, the same task goes on there.

Run it beside `taskloom up`; what stands before the call runs in both places.
"""

from taskloom import Task

task = Task.init(project_name="handed over", task_name="moved to a worker", auto_resource_monitoring=False)
settings = task.connect({"steps": 5})

print("a look at the data, here or there")
task.execute_remotely(queue_name="default", clone=False, exit_process=True)

for step in range(settings["steps"]):
    task.get_logger().report_scalar("loss", "train", value=1.0 / (step + 1), iteration=step)
print("trained", settings["steps"], "steps")
