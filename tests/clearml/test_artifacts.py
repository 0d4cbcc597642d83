"""Artifacts of unmodified ClearML scripts and of our own: each system reads what the other stored."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from tests.clearml.conftest import ClearML
from tests.conftest import House

from taskloom.wire.operations import GET_TASK, LIST_ARTIFACTS

Of = Callable[[House], ClearML]

UPLOAD = """
import numpy as np, pandas as pd, sys
from pathlib import Path
from PIL import Image
from clearml import Task

task = Task.init(project_name="artifacts/of clearml", task_name="what's in a name: 100% ä/b?", output_uri=True,
                 auto_connect_frameworks=False)
Path("folder/inner").mkdir(parents=True, exist_ok=True)
Path("folder/one.txt").write_text("one")
Path("folder/inner/two.csv").write_text("a,b")
Path("plain.bin").write_bytes(bytes(range(256)) * 100)

class Odd:
    def __init__(self): self.value = 7
    def __reduce__(self): return (dict, ((("value", 7),),))

table = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "ü"]}, index=[10, 20, 30])
given = {
    "dict": {"a": [1, 2], "nested": {"b": None}, "ü": 0.5},
    "numbers": np.arange(12.0).reshape(3, 4),
    "table": table,
    "image": Image.new("RGB", (5, 4), (255, 0, 0)),
    "text": "a long text\\nof two lines",
    "file": Path("plain.bin"),
    "folder": "folder",
    "wild": "folder/*.txt",
    "files": [Path("folder/one.txt").resolve(), Path("folder/inner/two.csv").resolve()],
    "elsewhere": "https://example.org/some/file.zip",
}
for name, value in given.items():
    assert task.upload_artifact(name, value, metadata={"k": name, "n": 1}), name
task.upload_artifact("yaml", {"y": [1]}, extension_name=".yaml")
task.upload_artifact("numbers.csv", np.arange(4.0), extension_name=".csv.gz")
task.upload_artifact("pickled", Odd(), auto_pickle=True)
task.upload_artifact("name / with: odd % signs?", {"odd": True}, wait_on_upload=True)
task.upload_artifact("preview", "text", preview="made by hand")
task.upload_artifact("custom", 5, serialization_function=lambda value: b"five", extension_name=".five")
task.register_artifact("registered", table, metadata={"watched": "yes"})
task.upload_artifact("replaced", "old", wait_on_upload=True)
task.upload_artifact("replaced", "new", wait_on_upload=True)
task.upload_artifact("deleted", "to go", wait_on_upload=True)
task.flush(wait_for_uploads=True)
print("deleted=%s" % task.delete_artifacts(["deleted"]))
task.flush(wait_for_uploads=True)
print("id=" + task.id)
task.close()
"""

READ_AGAIN = """
import sys, json, numpy as np, pandas as pd
from pathlib import Path
from clearml import Task
task = Task.get_task(task_id=sys.argv[1])
found = task.artifacts
print("names=" + json.dumps(sorted(found)))
assert found["dict"].get() == {"a": [1, 2], "nested": {"b": None}, "ü": 0.5}
assert np.array_equal(found["numbers"].get(), np.arange(12.0).reshape(3, 4))
assert found["table"].get().equals(pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "ü"]}, index=[10, 20, 30]))
assert found["image"].get().size == (5, 4)
assert found["text"].get() == "a long text\\nof two lines"
assert Path(found["file"].get_local_copy()).read_bytes() == bytes(range(256)) * 100
folder = Path(found["folder"].get_local_copy())
assert (folder / "inner" / "two.csv").read_text() == "a,b"
assert sorted(p.name for p in Path(found["wild"].get()).iterdir()) == ["one.txt"]
assert sorted(p.name for p in Path(found["files"].get()).rglob("*.*")) == ["one.txt", "two.csv"]
assert found["elsewhere"].url == "https://example.org/some/file.zip"
assert found["yaml"].get() == {"y": [1]}
assert np.array_equal(found["numbers.csv"].get(), np.arange(4.0))
assert found["pickled"].get() == {"value": 7}
assert found["name / with: odd % signs?"].get() == {"odd": True}
assert found["preview"].preview == "made by hand"
assert found["custom"].get(deserialization_function=lambda data: data.decode()) == "five"
assert list(found["registered"].get()["a"]) == [1, 2, 3]
assert found["registered"].metadata == {"watched": "yes"}
assert found["replaced"].get() == "new"
assert found["dict"].metadata == {"k": "dict", "n": "1"}
assert found["dict"].mode.value == "output" and found["dict"].type == "dict" and found["dict"].size > 0
print("hash=" + found["file"].hash)
print("all=read")
"""

OURS_READ = """
import json, sys, numpy, pandas
from pathlib import Path
from taskloom import Task
found = Task.get_task(task_id=sys.argv[1]).artifacts
assert found["dict"].get() == {"a": [1, 2], "nested": {"b": None}, "ü": 0.5}
assert numpy.array_equal(found["numbers"].get(), numpy.arange(12.0).reshape(3, 4))
assert found["table"].get().equals(pandas.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "ü"]}, index=[10, 20, 30]))
assert found["image"].get().size == (5, 4)
assert found["text"].get() == "a long text\\nof two lines"
assert Path(found["file"].get()).read_bytes() == bytes(range(256)) * 100
assert (Path(found["folder"].get()) / "inner" / "two.csv").read_text() == "a,b"
assert sorted(p.name for p in Path(found["wild"].get()).iterdir()) == ["one.txt"]
assert found["yaml"].get() == {"y": [1]}
assert numpy.array_equal(found["numbers.csv"].get(), numpy.arange(4.0))
assert found["name / with: odd % signs?"].get() == {"odd": True}
assert found["custom"].get(deserialization_function=bytes.decode) == "five"
assert list(found["registered"].get()["a"]) == [1, 2, 3]
assert found["replaced"].get() == "new"
try:
    found["pickled"].get()
    raise SystemExit("a pickle was opened unasked")
except Exception as error:
    assert "pickle" in str(error), error
assert found["pickled"].get(allow_pickle=True) == {"value": 7}
assert found["dict"].metadata["k"] == "dict"
print("all=read")
"""

OURS_UPLOAD = """
import numpy, pandas
from pathlib import Path
from PIL import Image
from taskloom import Task
task = Task.init(project_name="artifacts/of ours", task_name="stored by ours")
Path("ours").mkdir()
Path("ours/one.txt").write_text("one")
Path("weights.bin").write_bytes(b"w" * 1000)
frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "ü"]})
given = {
    "dict": {"a": 1}, "list": [1, "two"], "text": "some text", "array": numpy.arange(6).reshape(2, 3),
    "file / odd ü": numpy.ones(3), "frame": frame, "indexed": frame.set_index("b"),
    "image": Image.new("RGB", (3, 2)), "folder": Path("ours"), "file": Path("weights.bin"), "odd": {1, 2},
}
for name, value in given.items():
    task.upload_artifact(name, value, metadata={"k": 1})
task.upload_artifact("yaml", {"y": 1}, extension_name=".yaml")
task.upload_artifact("csv", numpy.arange(3.0), extension_name=".csv.gz")
task.upload_artifact("npy", numpy.arange(3), extension_name=".npy")
print("id=" + task.id)
task.close()
"""

CLEARML_READS_OURS = """
import sys, numpy as np, pandas as pd
from pathlib import Path
from clearml import Task
task = Task.get_task(task_id=sys.argv[1])
found = task.artifacts
assert found["dict"].get() == {"a": 1}
assert found["list"].get() == [1, "two"]
assert found["text"].get() == "some text"
assert np.array_equal(found["array"].get(), np.arange(6).reshape(2, 3))
assert np.array_equal(found["file / odd ü"].get(), np.ones(3))
assert found["frame"].get().equals(pd.DataFrame({"a": [1, 2], "b": ["x", "ü"]}))
assert found["indexed"].get().index.tolist() == ["x", "ü"]
assert found["image"].get().size == (3, 2)
assert (Path(found["folder"].get()) / "one.txt").read_text() == "one"
assert Path(found["file"].get_local_copy()).read_bytes() == b"w" * 1000
assert found["odd"].get() == {1, 2}
assert found["yaml"].get() == {"y": 1}
assert np.array_equal(found["csv"].get(), np.arange(3.0))
assert np.array_equal(np.load(found["npy"].get_local_copy()), np.arange(3))
assert found["dict"].metadata == {"k": "1"}
assert "{" in found["dict"].preview
print("deleted=%s" % task.delete_artifacts(["text"]))
print("left=%s" % ("text" in Task.get_task(task_id=sys.argv[1]).artifacts))
"""


def ours(house: House, folder: Path, script: str, *arguments: str) -> str:
    """A script with our own SDK, beside the same house; what it printed."""
    path = folder / "ours.py"
    path.write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        cwd=folder,
        env=house.environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_artifact_of_clearml_is_read_by_both(shared_house: House, clearml_of: Of, tmp_path: Path) -> None:
    clearml = clearml_of(shared_house)
    ran = clearml.run(UPLOAD).ok()
    assert ran.said("deleted") == "True"
    task = ran.said("id")
    read = clearml.run(READ_AGAIN, task, name="read.py").ok()
    assert read.said("all") == "read"
    assert read.said("hash") == hashlib.sha256(bytes(range(256)) * 100).hexdigest()
    assert "all=read" in ours(shared_house, tmp_path, OURS_READ, task)

    kept = {one.name: one for one in shared_house.client.call(LIST_ARTIFACTS, task=task).artifacts}
    assert sorted(kept) == json.loads(read.said("names"))
    assert kept["file"].digest == read.said("hash")
    assert (kept["file"].size, kept["file"].filename) == (25_600, "plain.bin")
    assert {name: one.kind for name, one in kept.items() if one.kind != "file"} == {
        "dict": "dict",
        "yaml": "dict",
        "name / with: odd % signs?": "dict",
        "numbers": "numpy",
        "numbers.csv": "numpy",
        "table": "pandas",
        "registered": "pandas",
        "image": "image",
        "text": "text",
        "preview": "text",
        "replaced": "text",
        "folder": "folder",
        "wild": "folder",
        "files": "folder",
        "pickled": "object",
    }
    assert [name for name, one in kept.items() if not one.digest] == ["elsewhere"]


def test_every_artifact_of_ours_is_read_by_clearml(shared_house: House, clearml_of: Of, tmp_path: Path) -> None:
    said = ours(shared_house, tmp_path, OURS_UPLOAD)
    task = said.split("id=")[1].split()[0]
    ran = clearml_of(shared_house).run(CLEARML_READS_OURS, task).ok()
    assert (ran.said("deleted"), ran.said("left")) == ("True", "False")
    assert "text" not in [one.name for one in shared_house.client.call(GET_TASK, task=task).artifacts]


def test_the_bytes_of_a_deleted_task_are_gone(clearml: ClearML) -> None:
    ran = clearml.run(
        """
        from clearml import Task
        from clearml.storage import StorageManager
        task = Task.init(project_name="deleted", task_name="to be deleted", output_uri=True)
        task.upload_artifact("text", "something to keep", wait_on_upload=True)
        task.close()
        found = Task.get_task(task_id=task.id)
        url = found.artifacts["text"].url
        print("there=%s" % StorageManager.exists_file(url))
        print("deleted=%s" % bool(found.delete()))
        print("after=%s" % StorageManager.exists_file(url))
        """
    ).ok()
    assert (ran.said("there"), ran.said("deleted"), ran.said("after")) == ("True", "True", "False")
    blobs = clearml.house.data / "server" / "blobs"
    kept = [path for path in blobs.glob("[0-9a-f][0-9a-f]/*") if b"something to keep" in path.read_bytes()]
    assert kept == []
