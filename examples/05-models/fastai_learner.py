"""fastai: loss and metrics of every epoch by themselves; a learner saved, exported and loaded.

Run it: `python fastai_learner.py [--lr 0.01] [--epochs 2]`; needs fastai.
"""

import argparse
import tempfile
from pathlib import Path

import pandas as pd
from fastai.tabular.all import (
    CategoryBlock,
    Normalize,
    TabularDataLoaders,
    accuracy,
    load_learner,
    set_seed,
    tabular_learner,
)
from sklearn.datasets import load_iris

from taskloom import Task


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.mkdtemp()))
    parser.add_argument("--project", default="examples/models")
    args = parser.parse_args()
    Task.init(project_name=args.project, task_name="fastai", output_uri=True, reuse_last_task_id=False)

    set_seed(0)
    iris = load_iris()
    names = [f"f{n}" for n in range(4)]
    table = pd.DataFrame(iris.data, columns=names).astype("float32")
    table["kind"] = [str(iris.target_names[n]) for n in iris.target]
    data = TabularDataLoaders.from_df(
        table,
        args.folder,
        procs=[Normalize],
        cont_names=names,
        y_names="kind",
        y_block=CategoryBlock(),
        valid_idx=list(range(0, 150, 5)),
        bs=30,
    )
    learner = tabular_learner(data, layers=[10], metrics=accuracy, path=args.folder)
    with learner.no_bar(), learner.no_logging():
        learner.fit(args.epochs, args.lr)
        learner.fit(1, args.lr)
    learner.save("weights")
    learner.load("weights")
    learner.export("learner.pkl")

    again = load_learner(args.folder / "learner.pkl")
    print(f"{again.dls.vocab[0]}, and {len(again.dls.vocab)} kinds, with learning rate {args.lr}")


if __name__ == "__main__":
    main()
