"""Lightning: a Trainer whose metrics, hyperparameters and checkpoints go to the task by TaskloomLogger.

Run it: `python lightning_logger.py [--lr 0.1] [--epochs 3]`; needs lightning.
"""

import argparse
import tempfile

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from taskloom import Task
from taskloom.integrations.lightning import TaskloomLogger


class Line(lightning.LightningModule):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(1, 1)
        torch.nn.init.ones_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        loss = torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
        self.log("val_loss", torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--project", default="examples/metrics")
    args = parser.parse_args()
    Task.init(project_name=args.project, task_name="Lightning", reuse_last_task_id=False)

    x = torch.linspace(-1, 1, 32).unsqueeze(1)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, 3 * x), batch_size=16)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=args.epochs,
        log_every_n_steps=1,
        default_root_dir=tempfile.mkdtemp(),
        logger=TaskloomLogger(),
        callbacks=[ModelCheckpoint(monitor="val_loss", filename="best")],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Line(args.lr)
    trainer.fit(model, data, data)
    print(f"weight {model.layer.weight.item():.4f} with learning rate {args.lr}")


if __name__ == "__main__":
    main()
