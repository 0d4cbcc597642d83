"""TensorFlow: `tf.summary` in a loop and in a `tf.function`, and Keras' TensorBoard callback, recorded.

Run it: `python tensorboard_tensorflow.py [--lr 0.1] [--epochs 3]`; needs tensorflow and tensorboard.
"""

import argparse
import tempfile

import keras
import numpy as np
import tensorflow as tf

from taskloom import Task


@tf.function
def descend(weight: tf.Variable, lr: tf.Tensor, step: tf.Tensor) -> None:
    """One step down the parabola, traced into a graph."""
    weight.assign_sub(lr * 2 * weight)
    tf.summary.scalar("graph/loss", weight**2, step=step)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--project", default="examples/metrics")
    args = parser.parse_args()
    Task.init(project_name=args.project, task_name="TensorBoard of TensorFlow", reuse_last_task_id=False)

    weight = tf.Variable(4.0)
    with tf.summary.create_file_writer(tempfile.mkdtemp()).as_default():
        for epoch in range(args.epochs):
            descend(weight, tf.constant(args.lr), tf.constant(epoch, tf.int64))
            tf.summary.scalar("loss/train", weight**2, step=epoch)
            tf.summary.histogram("layers/weights", np.arange(epoch + 2.0), step=epoch)
        tf.summary.image("samples/noise", np.zeros((2, 8, 8, 3)), step=epoch)
        tf.summary.audio(
            "samples/tone", np.sin(np.arange(800, dtype="float32") / 5)[None, :, None], 8000, step=epoch
        )
        tf.summary.text("notes", f"learning rate {args.lr}", step=epoch)

    keras.utils.set_random_seed(0)
    x = np.linspace(-1, 1, 32)[:, None]
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(optimizer=keras.optimizers.SGD(args.lr), loss="mse")
    board = keras.callbacks.TensorBoard(tempfile.mkdtemp())
    model.fit(
        x, 3 * x, validation_data=(x, 3 * x), batch_size=32, epochs=args.epochs, verbose=0, callbacks=[board]
    )
    print(f"weight {weight.numpy():.4f} with learning rate {args.lr}")


if __name__ == "__main__":
    main()
