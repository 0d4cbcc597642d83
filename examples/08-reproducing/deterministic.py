"""A training that comes out the same again: `Task.init` fixes the seeds, and nothing else is left to chance.

Run it, then `taskloom task verify reproducing/deterministic`: a worker runs it again and every point is the same.
"""

import argparse

from taskloom import Task

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.5)
parser.add_argument("--epochs", type=int, default=6)
options = parser.parse_args()

task = Task.init(project_name="reproducing", task_name="deterministic")

import numpy as np  # noqa: E402 - imported after Task.init, its generator gets the seed all the same
from sklearn.datasets import load_digits  # noqa: E402

images, labels = load_digits(return_X_y=True)
images = images / 16.0
wanted = np.eye(10)[labels]
weights = np.random.normal(scale=0.01, size=(64, 10))

for epoch in range(options.epochs):
    order = np.random.permutation(len(images))
    for batch in np.array_split(order, 20):
        scores = images[batch] @ weights
        scores -= scores.max(axis=1, keepdims=True)
        chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        weights -= options.lr * images[batch].T @ (chances - wanted[batch]) / len(batch)
    right = (images @ weights).argmax(axis=1) == labels
    task.get_logger().report_scalar("accuracy", "train", right.mean(), iteration=epoch)
    task.get_logger().report_scalar("weights", "norm", np.linalg.norm(weights), iteration=epoch)

task.upload_artifact("weights", weights)
task.upload_artifact("summary", {"accuracy": float(right.mean()), "epochs": options.epochs})
print(f"accuracy {right.mean():.3f}")
