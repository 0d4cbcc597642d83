"""transformers in scripts of its users: folders saved and loaded, the Trainer's checkpoints, models of the hub."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.frameworks.conftest import PATIENCE, HeavyBench, needs
from tests.frameworks.stored import tasks_of, told, unpacked

pytestmark = pytest.mark.frameworks

HOOKS = [
    "transformers.PreTrainedModel.save_pretrained",
    "transformers.PreTrainedModel.from_pretrained",
    "transformers.PreTrainedTokenizerBase.save_pretrained",
    "transformers.ProcessorMixin.save_pretrained",
    "transformers.Trainer.save_model",
    "transformers.Trainer's checkpoints",
]

CORNERS = """
import json, os, sys
from pathlib import Path

folder = Path(sys.argv[1])
os.environ["HF_HUB_CACHE"] = str(folder / "hub")
os.environ["HF_HUB_OFFLINE"] = "1"

from taskloom import Task


def begin(name, **more):
    return Task.init("transformers corners", name, reuse_last_task_id=False, auto_resource_monitoring=False, **more)


task = begin("saving", output_uri=True)
import torch
from transformers import AutoModel, BertConfig, BertModel, BertTokenizer, Trainer, TrainingArguments
from transformers import BertForSequenceClassification

tiny = dict(vocab_size=8, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)
model = BertModel(BertConfig(**tiny))
task.get_logger().report_scalar("loss", "train", 0.5, 9)
model.save_pretrained(str(folder / "tiny-1.5"))
(folder / "vocab.txt").write_text("\\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]))
tokenizer = BertTokenizer(str(folder / "vocab.txt"))
tokenizer.save_pretrained(folder / "tiny-1.5")
tokenizer.save_pretrained(folder / "words only")
model.save_pretrained(folder / "of another rank", is_main_process=False)
rows = [{"input_ids": torch.tensor([5, 6]), "labels": 0} for _ in range(4)]


def trainer(steps, keep):
    torch.manual_seed(0)
    return Trainer(BertForSequenceClassification(BertConfig(**tiny)), TrainingArguments(
        str(folder / "run"), max_steps=steps, save_steps=1, save_total_limit=keep, report_to="none",
        disable_tqdm=True, use_cpu=True), train_dataset=rows)


one = trainer(2, 2)
one.train()
one.save_model()
task.close()
assert BertModel.from_pretrained.__func__.__code__.co_name != "ours"

task = begin("loading")
AutoModel.from_pretrained(folder / "tiny-1.5")
two = trainer(3, None)
two.train(resume_from_checkpoint=str(folder / "run" / "checkpoint-2"))
# As the hub's cache holds a model that was downloaded before.
for commit, names in {"a" * 40: ("main", "v2")}.items():
    cached = folder / "hub" / "models--somebody--tiny-2.5"
    (cached / "refs").mkdir(parents=True)
    for name in names:
        (cached / "refs" / name).write_text(commit)
    model.save_pretrained(cached / "snapshots" / commit)
BertModel.from_pretrained("somebody/tiny-2.5")
BertModel.from_pretrained("somebody/tiny-2.5", revision="v2")
try:
    BertModel.from_pretrained("somebody/unknown")
except OSError:
    print("the script's own error")
task.close()

task = begin("off", auto_connect_frameworks={"transformers": False, "pytorch": False, "safetensors": False})
model.save_pretrained(folder / "untold")
task.close()
"""


@pytest.fixture(scope="module", autouse=True)
def _installed(heavy: HeavyBench) -> None:
    needs(heavy, "transformers", "accelerate")


def test_a_folder_is_one_model_and_a_trainer_keeps_its_checkpoints(heavy: HeavyBench, tmp_path: Path) -> None:
    arguments = ("--folder", str(tmp_path), "--project", "transformers")
    task = heavy.record("05-models/transformers_model.py", *arguments, project="transformers")
    assert heavy.bindings(task)["transformers"]["hooks"] == HOOKS
    assert [one for one in heavy.bindings(task).values() if "fault" in one] == []
    found = told(heavy, task)
    for one in found.values():
        assert json.loads(one.pop("design"))["id2label"] == {"0": "even", "1": "odd"}
        assert one.pop("labels") == {"even": 0, "odd": 1}

    def model(file: str, tag: str, **more: Any) -> dict[str, Any]:
        return {"framework": "PyTorch", "file": file, "system_tags": (tag,), **more}

    assert found == {
        "transformers - checkpoint-2": model("checkpoint-2.zip", "removed", iteration=2),
        "transformers - checkpoint-4": model("checkpoint-4.zip", "package", iteration=4, stored=True),
        "transformers - parity": model("parity.zip", "package", stored=True),
    }
    assert told(heavy, task, "input") == {}
    unpacked(heavy, task, "transformers - parity", tmp_path / "back")
    assert sorted(file.name for file in (tmp_path / "back").iterdir()) == ["config.json", "model.safetensors"]
    words = (
        "import sys, torch; from transformers import BertForSequenceClassification as Kind; "
        "first, second = (Kind.from_pretrained(path).state_dict() for path in sys.argv[1:]); "
        "assert len(first) > 9 and all(torch.equal(first[name], second[name]) for name in first)"
    )
    subprocess.run(
        [heavy.python, "-c", words, tmp_path / "parity", tmp_path / "back"], check=True, timeout=PATIENCE
    )

    edited = heavy.clone(task, {"Args/lr": "0.5", "Args/steps": "2", "Args/folder": tmp_path / "clone"})
    said = "{0: 'even', 1: 'odd'} after 2 steps with learning rate 0.5"
    assert said in heavy.console(edited.id).splitlines()
    assert list(told(heavy, edited)) == ["transformers, edited - checkpoint-2", "transformers, edited - parity"]


def test_tokenizers_checkpoints_and_models_of_the_hub(heavy: HeavyBench, tmp_path: Path) -> None:
    script = tmp_path / "corners.py"
    script.write_text(CORNERS)
    done = heavy.script(script, str(tmp_path))
    assert done.returncode == 0, done.stderr.decode()
    assert "the script's own error" in done.stdout.decode().splitlines()
    tasks = tasks_of(heavy, "transformers corners")
    saving, loading = tasks["saving"], tasks["loading"]
    assert {name.removeprefix("saving - "): one.get("iteration") for name, one in told(heavy, saving).items()} == {
        "tiny-1.5": 9,
        "checkpoint-1": 1,
        "checkpoint-2": 2,
        "run": 9,
    }

    def files(name: str) -> list[str]:
        folder = unpacked(heavy, saving, f"saving - {name}", tmp_path / "unpacked" / name)
        return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*"))

    assert files("tiny-1.5") == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert files("run") == ["config.json", "model.safetensors", "training_args.bin"], (
        "not the checkpoints below it"
    )
    assert {"model.safetensors", "optimizer.pt", "trainer_state.json"} <= set(files("checkpoint-2"))
    made = {link.name.removeprefix("saving - "): link.model for link in saving.models}
    inputs = heavy.models(loading, "input")
    assert {model.id for model in inputs.values() if model.task} == {made["tiny-1.5"], made["checkpoint-2"]}
    assert {(model.name, model.uri, model.framework) for model in inputs.values() if not model.task} == {
        ("tiny-2.5", "hf://somebody/tiny-2.5", "PyTorch"),
        ("tiny-2.5@v2", "hf://somebody/tiny-2.5@v2", "PyTorch"),
    }
    assert list(told(heavy, loading)) == ["loading - checkpoint-3", f"loading - {'a' * 40}"]
    assert told(heavy, tasks["off"]) == {}
    for task in tasks.values():
        assert [one for one in heavy.bindings(task).values() if "fault" in one] == []
