"""Keras: metrics of each epoch and batch, the learning rate and the saved models by TaskloomCallback.

Run it: `python keras_callback.py [--lr 0.1] [--epochs 3]`; needs keras with any backend.
"""

import argparse
import tempfile

import keras
import numpy as np

from taskloom import Task
from taskloom.integrations.keras import TaskloomCallback


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--project", default="examples/metrics")
    args = parser.parse_args()
    Task.init(project_name=args.project, task_name="Keras", reuse_last_task_id=False)

    x = np.linspace(-1, 1, 32)[:, None]
    model = keras.Sequential(
        [keras.layers.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones", bias_initializer="zeros")]
    )
    model.compile(optimizer=keras.optimizers.SGD(args.lr), loss="mse", metrics=["mae"])
    model.fit(
        x,
        3 * x,
        validation_data=(x, 3 * x),
        batch_size=16,
        epochs=args.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[TaskloomCallback(batches=1, save_to=f"{tempfile.mkdtemp()}/line.keras")],
    )
    print(f"weight {model.get_weights()[0][0][0]:.4f} with learning rate {args.lr}")


if __name__ == "__main__":
    main()
