"""TensorFlow: checkpoints of a CheckpointManager that keeps two, and a SavedModel; both read again.

Run it: `python tensorflow_saved_model.py [--step 0.5]`; needs tensorflow.
"""

import argparse
import tempfile
from pathlib import Path

import tensorflow as tf

from taskloom import Task


class Line(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable(1.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return self.weight * x


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--step", type=float, default=0.5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.mkdtemp()))
    parser.add_argument("--project", default="examples/models")
    args = parser.parse_args()
    Task.init(project_name=args.project, task_name="TensorFlow", output_uri=True, reuse_last_task_id=False)

    model = Line()
    checkpoint = tf.train.Checkpoint(model=model)
    manager = tf.train.CheckpointManager(checkpoint, args.folder / "checkpoints", max_to_keep=2)
    for _ in range(3):
        model.weight.assign_add(args.step)
        manager.save()
    tf.saved_model.save(model, args.folder / "line")

    checkpoint.restore(manager.checkpoints[0])
    again = tf.saved_model.load(args.folder / "line")
    print(f"before {model.weight.numpy():.2f}, at the end {again(tf.constant([1.0])).numpy()[0]:.2f}")


if __name__ == "__main__":
    main()
