"""Hydra with Task.init inside the decorated function: every job of a multirun is a task of its own.

Run it with `python hydra_multirun.py --multirun lr=0.1,0.2 db=postgresql`.
"""

import os

import hydra
from omegaconf import DictConfig

from taskloom import Task


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(config: DictConfig) -> float:
    Task.init(project_name=os.environ.get("PROJECT", "examples/hydra multirun"), task_name=f"lr {config.lr}")
    print(f"train lr={config.lr} db={config.db.driver}:{config.db.port} as {config.db.user}")
    if config.lr < 0:
        raise ValueError("a learning rate is positive")
    return config.lr * config.epochs


if __name__ == "__main__":
    main()
