"""Keras 3: models and weights saved by hand and by ModelCheckpoint, and loaded again. Any backend does.

Run it: `python keras_model.py [--lr 0.1] [--epochs 3]`; needs keras and torch (or set KERAS_BACKEND).
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
from keras.models import load_model

from taskloom import Task


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.mkdtemp()))
    parser.add_argument("--project", default="examples/models")
    args = parser.parse_args()
    Task.init(project_name=args.project, task_name="Keras", output_uri=True, reuse_last_task_id=False)

    x = np.linspace(-1, 1, 32).reshape(-1, 1).astype("float32")
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1, name="line")], name="line")
    model.compile(keras.optimizers.SGD(args.lr), "mse")
    best = keras.callbacks.ModelCheckpoint(args.folder / "best.weights.h5", save_weights_only=True)
    model.fit(x, 3 * x, epochs=args.epochs, verbose=0, callbacks=[best])
    model.save(args.folder / "line.keras")

    again = load_model(args.folder / "line.keras")
    again.load_weights(args.folder / "best.weights.h5")
    print(f"weight {float(again.get_weights()[0][0, 0]):.4f} with learning rate {args.lr}")


if __name__ == "__main__":
    main()
