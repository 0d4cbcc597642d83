"""Hydra: the composed configuration is recorded, and overrides edited in a clone reach the worker's run.

Run it with `python hydra_app.py db=postgresql db.user=root +note=first`. Task.init stands before the decorated
function here: one task, for a whole `--multirun lr=0.1,0.2` too.
"""

import os

import hydra
from omegaconf import DictConfig, OmegaConf

from taskloom import Task


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    print(f"train lr={config.lr} db={config.db.driver}:{config.db.port} as {config.db.user}")
    print("with", OmegaConf.to_container(config))


if __name__ == "__main__":
    Task.init(project_name=os.environ.get("PROJECT", "examples/hydra"), task_name="hydra")
    main()
