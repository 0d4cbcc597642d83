"""Reports of tensors as training scripts have them: on a graph, of half a float, channels first."""

import warnings

import tensorflow as tf
import torch

from taskloom import Task

warnings.simplefilter("error")  # a report gives no reason for a warning
task = Task.init(project_name="tests/tensors", task_name="tensors", auto_connect_frameworks=False)
logger = task.get_logger()
ramp = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5) * 4
logger.report_image("torch", "on a graph", 0, image=(ramp / 255).requires_grad_() * 1)
logger.report_image("torch", "bfloat16", 0, image=ramp.bfloat16()[None])
logger.report_image("torch", "half", 0, image=ramp[0].half())
logger.report_image("torch", "bytes", 0, image=torch.zeros(3, 4, 3, dtype=torch.uint8))
logger.report_image("torch", "mask", 0, image=ramp[0] > 8)
logger.report_image("torch", "batch", 0, image=torch.zeros(2, 3, 4, 5))
loss = ramp.requires_grad_().mean()
logger.report_scalar("loss", "on a graph", loss, torch.tensor(3))
logger.report_scalars("losses", {"a": loss, "b": torch.tensor(1, dtype=torch.int8)}, 4)
logger.report_histogram("plots", "bars", torch.arange(3.0, requires_grad=True), 0)
logger.report_scatter2d("plots", "points", torch.tensor([[0.0, 1.0], [2.0, 3.0]]), 0)
image = tf.reshape(tf.range(40, dtype=tf.float32) * 4, (4, 5, 2))
logger.report_image("tensorflow", "floats", 0, image=image / 255)
logger.report_image("tensorflow", "bfloat16", 0, image=tf.cast(image[:, :, :1], tf.bfloat16))
logger.report_scalar("loss", "tensorflow", tf.constant(2.5), 1)
