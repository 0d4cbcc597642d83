"""Lightning in scripts of its users: checkpoints kept and removed, resumed and restored, by both packages."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.frameworks.conftest import PATIENCE, HeavyBench, needs
from tests.frameworks.stored import tasks_of, told, weights

from taskloom.domain.task import Task

pytestmark = pytest.mark.frameworks

HOOKS = [
    "Trainer.save_checkpoint",
    "Trainer's resuming of a checkpoint",
    "LightningModule.load_from_checkpoint",
    "LightningDataModule.load_from_checkpoint",
    "Strategy.remove_checkpoint",
    "TorchCheckpointIO.save_checkpoint",
    "Fabric.save",
    "Fabric.load",
]

CORNERS = """
import sys
from pathlib import Path

import torch

from taskloom import Task

folder = Path(sys.argv[1])


def begin(name):
    return Task.init("lightning corners", name, reuse_last_task_id=False, auto_resource_monitoring=False)


def module(lightning):
    class Line(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch, _):
            return self.layer(batch).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Line


def trainer(lightning, epochs, **more):
    return lightning.Trainer(accelerator="cpu", max_epochs=epochs, logger=False, enable_progress_bar=False,
                             enable_model_summary=False, **more)


task = begin("asynchronous")  # before any of it is imported
import lightning
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO

Line = module(lightning)
data = torch.utils.data.DataLoader(torch.ones(4, 1), batch_size=2)
every = ModelCheckpoint(folder / "async", "{epoch}", save_top_k=-1)
trainer(lightning, 2, callbacks=[every], plugins=[AsyncCheckpointIO()]).fit(Line(), data)
fabric = lightning.Fabric(accelerator="cpu")
fabric.save(folder / "fabric.ckpt", {"model": Line()})
task.close()
assert "__wrapped__" not in vars(lightning.Trainer.save_checkpoint)

task = begin("resumed")
last = ModelCheckpoint(folder / "resumed", "last")
trainer(lightning, 3, callbacks=[last]).fit(Line(), data, ckpt_path=folder / "async" / "epoch=1.ckpt")
fabric.load(folder / "fabric.ckpt", {"model": Line()})
restored = Line.load_from_checkpoint(str(folder / "async" / "epoch=0.ckpt"))
try:
    restored.load_from_checkpoint(str(folder / "async" / "epoch=0.ckpt"))
except TypeError as error:
    print("as Lightning says it:", "called on an instance" in str(error))
task.close()

import pytorch_lightning

task = begin("the other package")
Line = module(pytorch_lightning)
one = trainer(pytorch_lightning, 1, enable_checkpointing=False)
one.fit(Line(), data)
one.save_checkpoint(folder / "other.ckpt")
Line.load_from_checkpoint(folder / "other.ckpt")
task.close()
"""


def test_lightning_keeps_and_removes_models_as_it_does_its_files(heavy: HeavyBench, tmp_path: Path) -> None:
    needs(heavy, "lightning")
    arguments = ("--folder", str(tmp_path), "--project", "lightning")
    task = heavy.record("05-models/lightning_model.py", *arguments, project="lightning")
    assert heavy.bindings(task)["lightning"]["hooks"] == HOOKS
    assert [one for one in heavy.bindings(task).values() if "fault" in one] == []
    design = json.dumps({"lr": 0.1}, indent=2)

    def model(file: str, iteration: int, **more: Any) -> dict[str, Any]:
        return {"framework": "PyTorch", "iteration": iteration, "design": design, "file": file, **more}

    kept = {"stored": True}
    gone = {"system_tags": ("removed",)}
    assert told(heavy, task, folder=tmp_path) == {
        "Lightning - best-epoch=0": model("best-epoch=0.ckpt", 2, **gone),
        "Lightning - last": model("last.ckpt", 6, **kept),
        "Lightning - best-epoch=1": model("best-epoch=1.ckpt", 4, **gone),
        "Lightning - best-epoch=2": model("best-epoch=2.ckpt", 6, **kept),
        "Lightning - final": model("final.ckpt", 6, **kept),
    }
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best-epoch=2.ckpt", "final.ckpt", "last.ckpt"]
    assert told(heavy, task, "input") == {}
    removed = heavy.models(task)["Lightning - best-epoch=0"]
    assert (removed.digest, removed.size, len(removed.fingerprint)) == ("", 0, 64)

    back = tmp_path / "back.ckpt"
    back.write_bytes(weights(heavy, task, "Lightning - best-epoch=2"))
    words = "import sys, torch; one = torch.load(sys.argv[1], weights_only=False); print(one['global_step'])"
    done = subprocess.run(
        [heavy.python, "-c", words, back], check=True, timeout=PATIENCE, capture_output=True, text=True
    )
    assert done.stdout == "6\n"

    edited = heavy.clone(task, {"Args/lr": "0.25", "Args/epochs": "1", "Args/folder": tmp_path / "clone"})
    said = [line for line in heavy.console(edited.id).splitlines() if line.startswith("weight ")]
    assert len(said) == 1 and said[0].endswith("with learning rate 0.25")
    assert {name: one["design"] for name, one in told(heavy, edited).items()} == dict.fromkeys(
        (f"Lightning, edited - {name}" for name in ("best-epoch=0", "last", "final")),
        json.dumps({"lr": 0.25}, indent=2),
    )


def test_what_is_written_behind_the_scenes_resumed_and_restored_is_told(heavy: HeavyBench, tmp_path: Path) -> None:
    needs(heavy, "lightning", "pytorch_lightning")
    script = tmp_path / "corners.py"
    script.write_text(CORNERS)
    done = heavy.script(script, str(tmp_path))
    assert done.returncode == 0, done.stderr.decode()
    assert "as Lightning says it: True" in done.stdout.decode().splitlines()
    tasks = tasks_of(heavy, "lightning corners")

    def files(task: Task, direction: str = "output") -> dict[str, str]:
        return {name: one["uri"] for name, one in told(heavy, task, direction, tmp_path).items()}

    made, resumed, other = tasks["asynchronous"], tasks["resumed"], tasks["the other package"]
    assert files(made) == {
        "asynchronous - epoch=0": "FOLDER/async/epoch%3D0.ckpt",
        "asynchronous - epoch=1": "FOLDER/async/epoch%3D1.ckpt",
        "asynchronous - fabric": "FOLDER/fabric.ckpt",
    }
    assert files(resumed) == {"resumed - last": "FOLDER/resumed/last.ckpt"}
    assert {link.model for link in resumed.models if link.direction == "input"} == {
        link.model for link in made.models
    }
    assert files(other) == {"the other package - other": "FOLDER/other.ckpt"}
    assert files(other, "input") == {}
    for task in tasks.values():
        assert [one for one in heavy.bindings(task).values() if "fault" in one] == []
