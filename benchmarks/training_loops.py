"""What a framework's hooks cost the loop that they watch: `training_loops.py PEER LOOP COUNT`, one line of JSON.

PEER: none (nobody watches), taskloom, clearml (offline). Only frameworks are hooked; all else is switched off.
LOOP: torch (steps of a small network, its weights saved COUNT times), xgboost (COUNT boosting rounds with two
evaluation sets), tensorboard (COUNT scalars through torch's SummaryWriter), init (COUNT is 1 to load torch, XGBoost,
Matplotlib and TensorBoard before Task.init, 0 to load nothing). `cpu` and `wall` are seconds of the loop, of this
process alone.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STEPS = 400  # of the torch loop


def begin(peer: str) -> Any:
    if peer == "none":
        return None
    options: dict[str, Any] = {
        "project_name": "bench",
        "task_name": "loops",
        "reuse_last_task_id": False,
        "auto_connect_frameworks": {"detect_repository": False},  # code and packages are looked at elsewhere
        "auto_connect_arg_parser": False,
        "auto_resource_monitoring": False,
        "auto_connect_streams": False,
    }
    if peer == "clearml":
        from clearml import Task

        Task.set_offline(True)
        return Task.init(**options)
    from taskloom import Task as Ours

    return Ours.init(**options)


def torch_loop(peer: str, saves: int) -> dict[str, float]:
    import torch

    task = begin(peer)
    torch.manual_seed(1)
    torch.set_num_threads(1)
    network = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    images, labels = torch.rand(64, 256), torch.randint(0, 10, (64,))
    with tempfile.TemporaryDirectory() as folder:
        torch.save(network.state_dict(), Path(folder) / "first.pt")  # what is loaded by the first save
        timed = Timed()
        for step in range(STEPS):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network(images), labels).backward()
            optimiser.step()
            if step % (STEPS // saves) == 0:
                torch.save(network.state_dict(), Path(folder) / "weights.pt")
        told = timed.told()
        finish(task)
    return told


def xgboost_loop(peer: str, rounds: int) -> dict[str, float]:
    import numpy as np
    import xgboost

    task = begin(peer)
    noise = np.random.default_rng(1)
    data, truth = noise.random((2_000, 20)), noise.integers(0, 2, 2_000)
    train, test = xgboost.DMatrix(data[:1_500], truth[:1_500]), xgboost.DMatrix(data[1_500:], truth[1_500:])
    wishes = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1}
    watched = [(train, "train"), (test, "test")]
    xgboost.train(wishes, train, 3, evals=watched, verbose_eval=False)
    timed = Timed()
    xgboost.train(wishes, train, rounds, evals=watched, verbose_eval=False)
    told = timed.told()
    finish(task)
    return told


def tensorboard_loop(peer: str, scalars: int) -> dict[str, float]:
    from torch.utils.tensorboard import SummaryWriter

    task = begin(peer)
    with tempfile.TemporaryDirectory() as folder:
        writer = SummaryWriter(folder)
        writer.add_scalar("loss/train", 0.0, 0)
        timed = Timed()
        for step in range(scalars):
            writer.add_scalar("loss/train", 1.0 / (step + 1), step)
        told = timed.told()
        writer.close()
        finish(task)
    return told


def init(peer: str, loaded: int) -> dict[str, float]:
    if peer == "clearml":
        import clearml  # noqa: F401 - its import is measured elsewhere
    if peer == "taskloom":
        from taskloom import Logger, Task  # noqa: F401
    if loaded:
        for name in ("matplotlib.pyplot", "torch", "torch.utils.tensorboard", "xgboost"):
            importlib.import_module(name)
    timed = Timed()
    task = begin(peer)
    told = timed.told()
    finish(task)
    return told


class Timed:
    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.thread_time()

    def told(self) -> dict[str, float]:
        return {"cpu": time.thread_time() - self.cpu, "wall": time.perf_counter() - self.wall}


def finish(task: Any) -> None:
    if task is not None:
        task.close()


LOOPS = {"torch": torch_loop, "xgboost": xgboost_loop, "tensorboard": tensorboard_loop, "init": init}


def main() -> None:
    peer, loop, count = sys.argv[1:4]
    print("\n" + json.dumps(LOOPS[loop](peer, int(count))), flush=True)


if __name__ == "__main__":
    main()
