"""safetensors: weights of numpy saved with words about them, and read again by a second task, which knows them.

Run it: `python safetensors_model.py [--scale 2.0]`; needs safetensors and numpy.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from taskloom import Task


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.mkdtemp()))
    parser.add_argument("--project", default="examples/models")
    args = parser.parse_args()
    path = args.folder / "line.safetensors"

    task = Task.init(
        project_name=args.project, task_name="safetensors, made", output_uri=True, reuse_last_task_id=False
    )
    save_file({"weight": np.arange(6.0) * args.scale, "bias": np.zeros(1)}, path, {"units": "metres"})
    task.close()

    # Another task reads the file: it is known again by its bytes, and the task above is where it comes from.
    Task.init(project_name=args.project, task_name="safetensors, used", reuse_last_task_id=False)
    weights = load_file(path)
    with safe_open(path, framework="np") as opened:
        print(f"sum {weights['weight'].sum()} in {opened.metadata()['units']}")


if __name__ == "__main__":
    main()
