"""The seed that `Task.init` fixes, in processes of their own: whatever is imported when, and what the script says."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy
import pytest

from taskloom import Task
from taskloom.domain.errors import BadInput
from taskloom.journal import layout
from taskloom.journal.reader import Reader
from taskloom.sdk import session as sessions
from taskloom.wire.messages import JournalBatch, MoveRequest, TaskClone
from taskloom.wire.operations import CLONE_TASK, RESET_TASK, SHIP_JOURNAL
from taskloom.wire.records import Ended, Opened

INIT = "from taskloom import Task\nTask.init('seeds', 'numbers')\n"
DRAW = "import json, random, numpy\nprint(json.dumps([random.random(), float(numpy.random.rand())]))\n"


def run(tmp_path: Path, text: str, **environment: str) -> Any:
    """What the script printed last, as JSON."""
    script = tmp_path / "script.py"
    script.write_text(text)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TASKLOOM_")}
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**kept, "TASKLOOM_DATA": str(tmp_path / "data"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def drawn(seed: int) -> list[float]:
    return [random.Random(seed).random(), float(numpy.random.RandomState(seed).rand())]


@pytest.mark.parametrize(
    ("text", "seed"),
    [
        (INIT + DRAW, 1337),
        ("import numpy\n" + INIT + DRAW, 1337),
        ("import numpy.random\n" + INIT + DRAW, 1337),
        (INIT.replace("\nTask", "\nTask.set_random_seed(7)\nTask") + DRAW, 7),
        (INIT + "import random, numpy\nrandom.seed(3); numpy.random.seed(3)\n" + DRAW, 3),
        (INIT.replace("'numbers'", "'numbers', auto_connect_frameworks=False") + DRAW, 1337),
    ],
    ids=[
        "imported after",
        "imported before",
        "its generators too",
        "another",
        "the script's own",
        "no frameworks",
    ],
)
def test_generators_draw_the_same(text: str, seed: int, tmp_path: Path) -> None:
    assert run(tmp_path, text) == drawn(seed)


def test_the_setting_is_below_the_script(tmp_path: Path) -> None:
    assert run(tmp_path, INIT + DRAW, TASKLOOM_RANDOM_SEED="11") == drawn(11)
    said = INIT.replace("\nTask", "\nTask.set_random_seed(7)\nTask")
    assert run(tmp_path, said + DRAW, TASKLOOM_RANDOM_SEED="11") == drawn(7)


def test_none_leaves_every_generator_alone(tmp_path: Path) -> None:
    """What the script had seeded before goes on where it was."""
    text = "import random, numpy\nrandom.seed(5); numpy.random.seed(5)\n"
    off = INIT.replace("\nTask", "\nTask.set_random_seed(None)\nTask")
    assert run(tmp_path, text + off + DRAW) == drawn(5)
    assert run(tmp_path, text + INIT + DRAW, TASKLOOM_RANDOM_SEED="none") == drawn(5)
    assert opening(tmp_path).runtime["random_seed"] == "none"


def test_after_close_imports_are_not_watched(tmp_path: Path) -> None:
    text = (
        "import json, sys\nbefore = list(sys.meta_path)\n"
        + INIT
        + "Task.current_task().close()\nprint(json.dumps(sys.meta_path == before))\n"
    )
    assert run(tmp_path, text) is True


def test_two_watchers_of_one_module_are_both_told(tmp_path: Path) -> None:
    text = """
import json, types
from taskloom.sdk.imports import Imports
told = []
watchers = [Imports({"colorsys"}, lambda name, module, n=n: told.append((n, hasattr(module, "rgb_to_hsv"))))
            for n in (1, 2)]
for one in watchers:
    one.start()
import colorsys, importlib
assert type(colorsys.__spec__.loader).__name__ == "SourceFileLoader"
assert "exec_module" not in vars(colorsys.__spec__.loader)
importlib.reload(colorsys)
for one in watchers:
    one.stop()
importlib.reload(colorsys)
print(json.dumps(told))
"""
    assert run(tmp_path, text) == [[1, True], [2, True], [1, True], [2, True]]


def opening(tmp_path: Path) -> Opened:
    """The opening record of the last task that ran here."""
    folders = layout.task_folders(layout.journal_root(tmp_path / "data"))
    newest = max(folders, key=lambda folder: folder.stat().st_mtime_ns)
    (folder,) = layout.writer_folders(newest)
    record = Reader(folder).first()
    assert isinstance(record, Opened)
    return record


@pytest.mark.parametrize("seed", ["7", 1.5, True, -1, 2**32])
def test_what_is_no_seed_is_refused(seed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions.current, "seed", 1)
    with pytest.raises(BadInput, match=r"random seed .*: expected a whole number from 0 to 4294967295, or None"):
        Task.set_random_seed(seed)
    assert Task.get_random_seed() == 1


def test_a_clone_and_a_reset_task_keep_the_seed_and_nothing_else_of_the_run(house: Any) -> None:
    task = uuid.uuid4().hex
    opened = Opened(
        mode="new", name="a run", project="seeds", time=1.0, runtime={"random_seed": 7, "host": "here"}
    )
    batch = JournalBatch(
        writer=uuid.uuid4().hex, events_start=0, events=[opened, Ended(status="completed", time=2.0)]
    )
    house.client.call(SHIP_JOURNAL, batch, task=task)
    assert house.client.call(CLONE_TASK, TaskClone(), task=task).runtime == {"random_seed": 7}
    assert house.client.call(RESET_TASK, MoveRequest(), task=task).runtime == {"random_seed": 7}
