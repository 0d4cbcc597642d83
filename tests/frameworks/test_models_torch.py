"""PyTorch, safetensors and Lightning in scripts of their users: what becomes a model, and what comes back."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.frameworks.conftest import PATIENCE, HeavyBench, needs
from tests.frameworks.stored import tasks_of, told, weights

from taskloom.domain.task import Task

pytestmark = pytest.mark.frameworks

TORCH_HOOKS = [
    "torch.save",
    "torch.load",
    "torch.jit.save",
    "torch.jit.load",
    "torch.jit.ScriptModule.save",
    "torch.export.save",
    "torch.export.load",
    "torch.onnx.export",
]

CORNERS = """
import inspect, io, os, pickle, sys
from multiprocessing import get_context
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open
from safetensors.torch import load_file, load_model, save_file, save_model

from taskloom import Task

folder = Path(sys.argv[1])


def begin(name, **more):
    return Task.init("torch corners", name, reuse_last_task_id=False, auto_resource_monitoring=False, **more)


def now():
    return [torch.save, torch.load, torch.jit.save, torch.jit.load, torch.export.save, torch.export.load,
            torch.serialization.save, torch.serialization.load, vars(torch.jit.RecursiveScriptModule)["save"], vars(torch.jit.ScriptModule)["save"],
            save_file, load_file, save_model, load_model, safe_open, safetensors.safe_open,
            safetensors.torch.save_file]


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, n):
        torch.save(n, folder / f"worker-{n}.pt")
        return torch.load(folder / "whole.pt", weights_only=False).weight.detach() + n


def in_a_process(path):
    torch.save({"made": "in a process of its own"}, path)


def saving(model):
    scripted = torch.jit.script(model)
    task = begin("saving")
    task.get_logger().report_scalar("loss", "train", 0.5, 4)
    assert inspect.signature(torch.save).parameters["f"] and pickle.loads(pickle.dumps(torch.save)) is torch.save
    torch.save(model, str(folder / "whole.pt"))
    torch.save(model.state_dict(), folder / "state.pth")
    with open(folder / "opened.pt", "wb") as file:
        torch.save({"model": model.state_dict(), "epoch": 3}, file)
    torch.save(model.state_dict(), f=folder / "old.pt", _use_new_zipfile_serialization=False)
    torch.save(model, io.BytesIO())
    with os.fdopen(os.open(folder / "nameless.pt", os.O_CREAT | os.O_WRONLY), "wb") as file:
        torch.save(model, file)
    torch.jit.save(scripted, folder / "scripted.pt")
    scripted.save(str(folder / "method.pt"))
    torch.jit.trace(model, torch.zeros(1, 2)).save(folder / "traced.pt")
    program = torch.export.export(model, (torch.zeros(1, 2),))
    torch.export.save(program, folder / "program.pt2")
    save_file(model.state_dict(), folder / "tensors.safetensors", metadata={"format": "pt"})
    save_model(model, str(folder / "model.safetensors"))
    try:
        torch.save(model, folder / "nowhere" / "never.pt")
    except RuntimeError as error:
        print("the script's own error:", "nowhere" in str(error))
    loader = torch.utils.data.DataLoader(Rows(), num_workers=2)
    print("rows", len([row for row in loader]))
    process = get_context("spawn").Process(target=in_a_process, args=(folder / "spawned.pt",))
    process.start()
    process.join()
    print("spawned", process.exitcode)
    task.close()


def loading(model):
    task = begin("loading")
    with open(folder / "opened.pt", "rb") as file:
        torch.load(file, weights_only=True)
    torch.load(folder / "state.pth", weights_only=True)
    torch.jit.load(folder / "scripted.pt")
    torch.export.load(folder / "program.pt2")
    load_file(folder / "tensors.safetensors")
    load_model(model, folder / "model.safetensors")
    with safe_open(folder / "model.safetensors", framework="pt") as opened:
        assert isinstance(opened, safe_open) and not isinstance(model, safe_open)
        print("opened", sorted(opened.keys()))
    (folder / "copy.pt").write_bytes(Path(sys.argv[2]).read_bytes())
    torch.load(folder / "copy.pt", weights_only=True)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    torch.load(buffer, weights_only=False)
    try:
        torch.load(folder / "nowhere.pt")
    except FileNotFoundError:
        print("the script's own error again")
    task.close()


def choosing(model):
    for name, switches in {
        "wildcards": {"pytorch": ["*.pt"], "safetensors": False},
        "off": {"pytorch": False},
    }.items():
        task = begin(name, auto_connect_frameworks=switches)
        torch.save(model, folder / "a.pt")
        torch.save(model, folder / "b.pth")
        save_file(model.state_dict(), folder / "c.safetensors")
        task.close()


if __name__ == "__main__":
    before = now()
    model = torch.nn.Linear(2, 1)
    for part in (saving, loading, choosing):
        part(model)
        print(part.__name__, "put back", [one is two for one, two in zip(now(), before)].count(False) == 0)
"""


@pytest.fixture(scope="module")
def trained(heavy: HeavyBench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, Path]:
    needs(heavy, "torch")
    folder = tmp_path_factory.mktemp("trained")
    arguments = ("--folder", str(folder), "--project", "torch")
    return heavy.record("05-models/pytorch_model.py", *arguments, project="torch"), folder


def same_tensors(heavy: HeavyBench, first: Path, second: Path, how: str = "torch.load(path)") -> None:
    """Whether two files hold equal tensors, as torch reads them."""
    words = f"""
import sys, torch
def flat(one):
    if isinstance(one, dict):
        return [tensor for name in sorted(one, key=str) for tensor in flat(one[name])]
    if isinstance(one, (list, tuple)):
        return [tensor for inner in one for tensor in flat(inner)]
    return [torch.as_tensor(one)] if isinstance(one, (torch.Tensor, int, float)) else []
first, second = (flat({how}) for path in sys.argv[1:])
assert first and len(first) == len(second), (first, second)
assert all(torch.equal(one, two) for one, two in zip(first, second))
"""
    subprocess.run([heavy.python, "-c", words, first, second], check=True, timeout=PATIENCE)


def test_checkpoints_of_torch_are_stored_and_hold_the_same_tensors(
    heavy: HeavyBench, trained: tuple[Task, Path], tmp_path: Path
) -> None:
    task, folder = trained
    (version,) = {state["version"] for name, state in heavy.bindings(task).items() if name == "pytorch"}
    assert heavy.bindings(task) == {"pytorch": {"version": version, "hooks": TORCH_HOOKS}}
    assert heavy.parameters(task) == {
        "Args/lr": ("0.1", "float"),
        "Args/epochs": ("3", "int"),
        "Args/folder": (str(folder), "str"),
        "Args/project": ("torch", "str"),
    }

    def model(file: str) -> dict[str, Any]:
        return {"framework": "PyTorch", "iteration": 2, "file": file, "stored": True}

    assert told(heavy, task) == {
        "PyTorch - checkpoint": model("checkpoint.pt"),
        "PyTorch - weights": model("weights.pt"),
        "PyTorch - traced": model("traced.pt"),
    }
    assert told(heavy, task, "input") == {}
    back = tmp_path / "back.pt"
    back.write_bytes(weights(heavy, task, "PyTorch - checkpoint"))
    same_tensors(heavy, folder / "checkpoint.pt", back)
    back.write_bytes(weights(heavy, task, "PyTorch - traced"))
    same_tensors(heavy, folder / "traced.pt", back, "dict(torch.jit.load(path).state_dict())")


def test_a_clone_of_a_torch_task_with_edited_values_trains_with_them(
    heavy: HeavyBench, trained: tuple[Task, Path], tmp_path: Path
) -> None:
    edited = heavy.clone(trained[0], {"Args/lr": "0.5", "Args/epochs": 2, "Args/folder": tmp_path})
    said = [line for line in heavy.console(edited.id).splitlines() if line.startswith("loss")]
    assert len(said) == 1 and said[0].endswith("after 2 epochs with learning rate 0.5")
    assert {name: (one["file"], one["iteration"]) for name, one in told(heavy, edited).items()} == {
        "PyTorch, edited - checkpoint": ("checkpoint.pt", 1),
        "PyTorch, edited - weights": ("weights.pt", 1),
        "PyTorch, edited - traced": ("traced.pt", 1),
    }


def test_every_way_of_torch_to_save_and_load_is_told_once_and_put_back(
    heavy: HeavyBench, trained: tuple[Task, Path], tmp_path: Path
) -> None:
    original, folder = trained
    script = tmp_path / "corners.py"
    script.write_text(CORNERS)
    done = heavy.script(script, str(tmp_path), str(folder / "weights.pt"))
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines() == [
        "the script's own error: True",
        "rows 4",
        "spawned 0",
        "saving put back True",
        "opened ['bias', 'weight']",
        "the script's own error again",
        "loading put back True",
        "choosing put back True",
    ]
    tasks = tasks_of(heavy, "torch corners")
    saving, loading = tasks["saving"], tasks["loading"]

    def model(name: str, **more: Any) -> dict[str, Any]:
        return {"framework": "PyTorch", "iteration": 4, "file": name, "uri": f"FOLDER/{name}", **more}

    assert told(heavy, saving, folder=tmp_path) == {
        "saving - whole": model("whole.pt"),
        "saving - state": model("state.pth"),
        "saving - opened": model("opened.pt"),
        "saving - old": model("old.pt"),
        "saving - scripted": model("scripted.pt"),
        "saving - method": model("method.pt"),
        "saving - traced": model("traced.pt"),
        "saving - program": model("program.pt2"),
        "saving - tensors": model("tensors.safetensors", metadata={"format": "pt"}),
        "saving - model": model("model.safetensors"),
    }
    assert told(heavy, saving, "input") == {}
    assert told(heavy, loading) == {}
    made = {link.name.removeprefix("saving - "): link.model for link in saving.models}
    weights_of = {link.name: link.model for link in original.models}
    assert {link.model for link in loading.models if link.direction == "input"} == {
        *(made[name] for name in ("opened", "state", "scripted", "program", "tensors", "model")),
        weights_of["PyTorch - weights"],
    }, "files are known again by their bytes, also a copy of what another task stored"
    assert list(told(heavy, tasks["wildcards"])) == ["wildcards - a"]
    assert list(told(heavy, tasks["off"])) == ["off - c"]
    for task in tasks.values():
        assert [one for one in heavy.bindings(task).values() if "fault" in one] == []
