"""tensorboardX: curves, histograms, images, text, embeddings and hyperparameters, recorded while its files are written.

Run it: `python tensorboardx.py [--lr 0.1] [--epochs 5]`; needs tensorboardX and numpy.
"""

import argparse
import tempfile

import numpy as np
from tensorboardX import SummaryWriter

from taskloom import Task


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--project", default="examples/metrics")
    args = parser.parse_args()
    Task.init(project_name=args.project, task_name="tensorboardX", reuse_last_task_id=False)

    random = np.random.default_rng(0)
    with SummaryWriter(tempfile.mkdtemp()) as writer:
        weight = 4.0
        for epoch in range(args.epochs):
            weight -= args.lr * 2 * weight  # one step down the parabola
            writer.add_scalar("loss/train", weight**2, epoch)
            writer.add_scalar("weight", weight, epoch)
            writer.add_scalars("errors", {"absolute": abs(weight), "squared": weight**2}, epoch)
            writer.add_histogram("weights/layer", random.normal(weight, 1.0, 200), epoch)
        last = args.epochs - 1
        writer.add_image("samples/noise", random.random((3, 8, 8)), last)
        writer.add_text("notes", f"learning rate {args.lr}", last)
        writer.add_pr_curve("quality/pr", np.array([0, 1, 1, 0]), np.array([0.1, 0.8, 0.6, 0.3]), last, 5)
        writer.add_embedding(random.normal(size=(6, 4)), metadata=list("aabbcc"), global_step=last, tag="words")
        writer.add_hparams({"lr": args.lr, "epochs": args.epochs}, {"hparam/loss": weight**2}, "try", last)
    print(f"weight {weight:.4f} with learning rate {args.lr}")


if __name__ == "__main__":
    main()
