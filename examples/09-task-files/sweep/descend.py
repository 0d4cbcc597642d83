"""Rolls down a valley; how low it came is the metric of the sweep."""

from taskloom import Task, get_config

task = Task.init(project_name="examples/sweep", task_name="descend")
config = get_config()
place, speed = 5.0, 0.0
for step in range(30):
    speed = config["momentum"] * speed - config["learning_rate"] * 2 * place
    place += speed
    task.get_logger().report_scalar("valley", "height", place**2, iteration=step)
print(f"height {place**2:.6f} with {config}")
