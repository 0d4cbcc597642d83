"""Hydra: the composed configuration is recorded, and overrides edited in a clone reach the worker's run.

Run it with `python hydra_app.py db=postgresql db.user=root +note=first`, or `--multirun lr=0.1,0.2`: with Task.init
inside, as here, every job is a task; with EARLY=1 it stands before, and the whole sweep is one.
"""

import os

import hydra
from omegaconf import DictConfig, OmegaConf

from taskloom import Task

PROJECT = os.environ.get("PROJECT", "examples/hydra")


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    if not os.environ.get("EARLY"):
        Task.init(project_name=PROJECT, task_name="hydra", reuse_last_task_id=False)
    print(f"train lr={config.lr} db={config.db.driver}:{config.db.port} as {config.db.user}")
    print("with", OmegaConf.to_container(config))


if __name__ == "__main__":
    if os.environ.get("EARLY"):
        Task.init(project_name=PROJECT, task_name="hydra", reuse_last_task_id=False)
    main()
