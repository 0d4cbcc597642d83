"""Lightning: what ModelCheckpoint keeps and what it removes, hyperparameters, and a module restored.

Run it: `python lightning_model.py [--lr 0.1] [--epochs 3]`; needs lightning.
"""

import argparse
import tempfile
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from taskloom import Task


class Line(lightning.LightningModule):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(1, 1)
        torch.nn.init.ones_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        loss = torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.mkdtemp()))
    parser.add_argument("--project", default="examples/models")
    args = parser.parse_args()
    Task.init(project_name=args.project, task_name="Lightning", output_uri=True, reuse_last_task_id=False)

    x = torch.linspace(-1, 1, 32).unsqueeze(1)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, 3 * x), batch_size=16)
    best = ModelCheckpoint(args.folder, "best-{epoch}", monitor="loss", save_top_k=1, save_last=True)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=args.epochs,
        logger=False,
        callbacks=[best],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Line(args.lr), data)
    trainer.save_checkpoint(args.folder / "final.ckpt")

    restored = Line.load_from_checkpoint(best.best_model_path)
    print(f"weight {restored.layer.weight.item():.4f} with learning rate {restored.hparams.lr}")


if __name__ == "__main__":
    main()
