"""PyTorch: a state dict after every epoch, the whole model, TorchScript, and the weights read back.

Run it: `python pytorch_model.py [--lr 0.1] [--epochs 3]`; needs torch.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from taskloom import Task


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.mkdtemp()))
    parser.add_argument("--project", default="examples/models")
    args = parser.parse_args()
    # output_uri=True: the weights are stored on the server; without it the task only tells where the files are.
    task = Task.init(project_name=args.project, task_name="PyTorch", output_uri=True, reuse_last_task_id=False)

    x = torch.linspace(-1, 1, 64).unsqueeze(1)
    model = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        loss = torch.nn.functional.mse_loss(model(x), x**2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        task.get_logger().report_scalar("loss", "train", loss.item(), epoch)
        # The same path again is the same model, at a later iteration.
        torch.save(
            {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch},
            args.folder / "checkpoint.pt",
        )

    with (args.folder / "weights.pt").open("wb") as file:
        torch.save(model.state_dict(), file)
    torch.jit.save(torch.jit.trace(model, x), args.folder / "traced.pt")
    model.load_state_dict(torch.load(args.folder / "weights.pt", weights_only=True))
    print(f"loss {loss.item():.6f} after {args.epochs} epochs with learning rate {args.lr}")


if __name__ == "__main__":
    main()
