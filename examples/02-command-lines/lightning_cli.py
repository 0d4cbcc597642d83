"""LightningCLI: trainer, model and data of the chosen command are parameters, down to nested keys.

Run it with `python lightning_cli.py fit --model.lr 0.2 --trainer.max_epochs 2`. Needs lightning and jsonargparse.
"""

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI
from torch.utils.data import DataLoader, TensorDataset

from taskloom import Task


class Line(LightningModule):
    def __init__(self, lr: float = 0.1, width: int = 1) -> None:
        super().__init__()
        self.lr = lr
        self.layer = torch.nn.Linear(width, 1)

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        return ((self.layer(batch[0]) - batch[1]) ** 2).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def on_fit_end(self) -> None:
        print(f"fitted lr={self.lr} epochs={self.trainer.current_epoch} {self.layer.in_features=}")


class Points(LightningDataModule):
    def __init__(self, rows: int = 16, width: int = 1) -> None:
        super().__init__()
        self.rows, self.width = rows, width

    def train_dataloader(self) -> DataLoader:
        points = torch.rand(self.rows, self.width)
        return DataLoader(TensorDataset(points, points.sum(1, keepdim=True)), batch_size=8)


if __name__ == "__main__":
    Task.init(project_name="examples/lightning cli", task_name="lightning cli")
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    LightningCLI(
        Line,
        Points,
        trainer_defaults={**quiet, "max_epochs": 1},
        save_config_callback=None,
        seed_everything_default=7,
    )
