"""LightningCLI in the environment of the heavy frameworks: its keys are told, and an edited clone trains with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.frameworks.conftest import HeavyBench, needs

from taskloom.domain.parameters import flatten

pytestmark = pytest.mark.frameworks
SCRIPT = Path("02-command-lines/lightning_cli.py")


def test_keys_of_a_lightning_command_are_told_and_read_edited_values(heavy: HeavyBench):
    needs(heavy, "lightning", "jsonargparse")
    words = ["fit", "--model.lr", "0.2", "--data.rows=24"]
    task = heavy.record(SCRIPT, *words, project="examples/lightning cli")
    told = heavy.parameters(task)
    own = {name: one for name, one in told.items() if not name.startswith("Args/fit.trainer.")}
    assert own == {
        "Args/subcommand": ("fit", "str"),
        "Args/fit.seed_everything": ("7", "int"),
        "Args/fit.model.lr": ("0.2", "float"),
        "Args/fit.model.width": ("1", "int"),
        "Args/fit.data.rows": ("24", "int"),
        "Args/fit.data.width": ("1", "int"),
        "Args/fit.optimizer": ("", "none"),
        "Args/fit.lr_scheduler": ("", "none"),
        "Args/fit.ckpt_path": ("", "none"),
        "Args/fit.weights_only": ("", "none"),
    }
    assert told["Args/fit.trainer.max_epochs"] == ("1", "int")
    assert told["Args/fit.trainer.logger"] == ("False", "bool")
    assert told["Args/fit.trainer.callbacks"] == ("", "none")
    assert {name for name, one in flatten(task.parameters).items() if one.given} == {
        "Args/subcommand",
        "Args/fit.model.lr",
        "Args/fit.data.rows",
    }
    assert task.execution.arguments == ()

    callbacks = '[{"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {"monitor": "x", "strict": false}}]'
    edits = {
        "Args/fit.trainer.max_epochs": "3",
        "Args/fit.model.width": "2",
        "Args/fit.data.width": "2",
        "Args/fit.trainer.callbacks": callbacks,
    }
    copy = heavy.clone(task, edits)
    assert "fitted lr=0.2 epochs=3 self.layer.in_features=2\n" in heavy.console(copy.id)
    assert heavy.parameters(copy)["Args/fit.trainer.max_epochs"] == ("3", "int")
    assert "EarlyStopping" in heavy.parameters(copy)["Args/fit.trainer.callbacks"][0]
