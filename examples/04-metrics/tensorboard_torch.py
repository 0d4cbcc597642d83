"""torch's SummaryWriter: a fit of a line whose curves, histograms, media and hyperparameters are recorded.

Run it: `python tensorboard_torch.py [--lr 0.1] [--epochs 4]`; needs torch, tensorboard and matplotlib.
"""

import argparse
import tempfile

import torch
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from taskloom import Task


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--project", default="examples/metrics")
    args = parser.parse_args()
    Task.init(project_name=args.project, task_name="TensorBoard of torch", reuse_last_task_id=False)

    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 32).unsqueeze(1)
    line = torch.nn.Linear(1, 1)
    with torch.no_grad():
        line.weight.fill_(1.0)
        line.bias.fill_(0.0)
    optimizer = torch.optim.SGD(line.parameters(), lr=args.lr)
    with SummaryWriter(tempfile.mkdtemp()) as writer:
        for epoch in range(args.epochs):
            loss = torch.nn.functional.mse_loss(line(x), 3 * x)
            writer.add_scalar("loss/train", loss, epoch)
            writer.add_scalar("weight", line.weight.item(), epoch, new_style=True)
            writer.add_scalars("parameters", {"weight": line.weight.item(), "bias": line.bias.item()}, epoch)
            writer.add_histogram("errors/train", line(x) - 3 * x, epoch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        last = args.epochs - 1
        figure = Figure(figsize=(2, 2))
        figure.subplots().plot(x.numpy(), line(x).detach().numpy())
        writer.add_figure("fit/line", figure, last)
        writer.add_images("samples", torch.rand(2, 3, 8, 8), last)
        writer.add_audio("samples/tone", torch.sin(torch.arange(800) / 5.0).unsqueeze(0), last, sample_rate=8000)
        writer.add_text("notes", f"learning rate {args.lr}", last)
        writer.add_pr_curve("quality/pr", torch.tensor([0, 1, 1, 0]), torch.tensor([0.1, 0.8, 0.6, 0.3]), last, 5)
        corners = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]])
        writer.add_mesh("shapes/pyramid", corners, faces=torch.tensor([[[0, 1, 2], [0, 1, 3]]]), global_step=last)
        writer.add_embedding(
            torch.tensor([[9.0, 0, 0], [0, 4, 0], [0, 0, 1], [0, 0, 0]]),
            metadata=["a", "b", "c", "d"],
            global_step=last,
            tag="words",
        )
        writer.add_hparams(
            {"lr": args.lr, "epochs": args.epochs, "shuffle": False}, {"hparam/loss": loss}, global_step=last
        )
    print(f"weight {line.weight.item():.4f} with learning rate {args.lr}")


if __name__ == "__main__":
    main()
