"""A training with a source of chance that no seed reaches: a generator of its own, from the third epoch on.

Run it, then `taskloom task verify "reproducing by chance/drifting"`: the verdict names the first point that differs.
"""

import numpy as np
from sklearn.datasets import load_digits

from taskloom import Task

task = Task.init(project_name="reproducing by chance", task_name="drifting")
options = task.connect({"lr": 0.5, "epochs": 6, "noise_from": 3})

images, labels = load_digits(return_X_y=True)
images = images / 16.0
wanted = np.eye(10)[labels]
weights = np.random.normal(scale=0.01, size=(64, 10))
noise = np.random.default_rng()  # no seed: that is the mistake; default_rng(Task.get_random_seed()) would mend it

for epoch in range(options["epochs"]):
    shown = images + noise.normal(scale=0.1, size=images.shape) if epoch >= options["noise_from"] else images
    scores = shown @ weights
    scores -= scores.max(axis=1, keepdims=True)
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    weights -= options["lr"] * shown.T @ (chances - wanted) / len(images)
    loss = -np.log(chances[np.arange(len(labels)), labels]).mean()
    task.get_logger().report_scalar("loss", "train", loss, iteration=epoch)
    task.get_logger().report_scalar("learning rate", "lr", options["lr"], iteration=epoch)

task.upload_artifact("summary", {"loss": float(loss)})
