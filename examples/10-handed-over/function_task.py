"""Two functions of a script as tasks of their own: arguments in the section Function, where they can be edited.

Run it beside `taskloom up`; the worker runs this script up to the call, and there the function.
"""

from taskloom import Task


def train(rate: float, layers: list[int], name: str = "plain") -> None:
    print("train with", rate, layers, name)
    Task.current_task().get_logger().report_single_value("rate", rate)


def check(rate: float) -> None:
    print("check with", rate)


task = Task.init(project_name="handed over", task_name="the main task", auto_resource_monitoring=False)
training = task.create_function_task(train, func_name="train it", task_name="training", rate=0.5, layers=[2, 3])
checking = task.create_function_task(check, rate=0.5)
for made in (training, checking):
    Task.enqueue(made, queue_name="default")
    print("queued", made.id)
