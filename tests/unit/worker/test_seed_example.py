"""The long example of Transformer Lab's own page, as it is written there, run by a worker with the GPU that it wants.

The repository is one of ours that git is told to take for the one on the network, and the GPU a driver that says it
is there; everything else is real, `uv` and its complaint about the space in the setup line above all.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.domain.test_taskfile import SEED
from tests.unit.worker.git_server import GitServer

from taskloom.domain.status import Status
from taskloom.wire import operations as op

DRIVER = """
class NVMLError(Exception): pass
class Memory: total = 85899345920
nvmlInit = nvmlShutdown = lambda: None
nvmlDeviceGetCount = lambda: 2
nvmlDeviceGetHandleByIndex = lambda number: number
nvmlDeviceGetName = lambda number: ["NVIDIA GeForce RTX 3090", "NVIDIA A100-SXM4-80GB"][number]
nvmlDeviceGetMemoryInfo = lambda number: Memory
nvmlDeviceGetUUID = lambda number: f"GPU-{number}"
"""
TRAIN = """
import os
from taskloom import get_config
config = get_config()
print("on GPU", os.environ["CUDA_VISIBLE_DEVICES"], "of", os.environ["WANDB_PROJECT"])
print(repr(config["lr"]), os.environ["TASKLOOM_PARAM_LR"], config["model_name"], len(config))
print(os.getcwd() == os.path.join(os.environ["HOME"], "unsloth-grpo-train"), sorted(os.listdir("..")))
"""


@pytest.fixture
def server(tmp_path: Path, git: Any) -> Iterator[GitServer]:
    origin = tmp_path / "origin"
    (origin / "unsloth-grpo-train").mkdir(parents=True)
    (origin / "unsloth-grpo-train" / "train.py").write_text(TRAIN)
    (origin / "other.py").write_text("nobody asked for it\n")
    git(origin, "init", "--quiet", "-b", "main")
    git(origin, "add", ".")
    git(origin, "commit", "--quiet", "-m", "examples")
    git(tmp_path, "clone", "--quiet", "--bare", str(origin), "served/examples.git")
    running = GitServer(tmp_path / "served", "reader", "word")
    yield running
    running.stop()


def run(field: Any, *words: str) -> str:
    """The id of the task that `taskloom run` made and queued."""
    argv = [sys.executable, "-m", "taskloom.cli.main", "run", *words, "--json"]
    done = subprocess.run(argv, env=field.house.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["id"])


def test_the_long_example_runs_as_written_and_a_shell_says_what_its_setup_is(
    field: Any, server: GitServer, tmp_path: Path
) -> None:
    (tmp_path / "task.yaml").write_text(SEED)
    (tmp_path / "driver").mkdir()
    (tmp_path / "driver" / "pynvml.py").write_text(DRIVER)
    written = run(field, str(tmp_path / "task.yaml"))
    field.worker("plain")
    field.until(lambda: "A100-80GB" in field.client.call(op.WAITING, task=written).reason)
    assert field.get(written).status is Status.PENDING

    ours = server.url.replace("http://", "http://reader:word@")
    field.worker("gpu", environ={
        "PYTHONPATH": str(tmp_path / "driver"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{ours}/examples.git.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/transformerlab/transformerlab-examples",
    })  # fmt: skip
    ended = field.ended(written)
    assert (ended.status, ended.worker) == (Status.FAILED, "gpu")
    assert ended.status_reason.startswith("the setup lines failed: exit code 2")
    said = field.console(written)
    assert "Failed to parse" in said and "unsloth==" in said and "on GPU" not in said

    mended = run(field, written, "--setup", "true")
    assert field.ended(mended).status is Status.COMPLETED, field.console(mended)
    lines = field.console(mended, "stdout").splitlines()
    assert lines == [
        "on GPU 1 of unsloth-grpo-training",
        "'2e-5' 2e-5 HuggingFaceTB/SmolLM-135M-Instruct 9",
        "True ['unsloth-grpo-train']",
    ]
    assert field.get(mended).runtime["commit"]
