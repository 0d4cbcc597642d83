"""Every kind of artifact: files, folders, tables, arrays, images, dictionaries, text and any object.

python artifacts.py
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from taskloom import Task


class Box:
    """An object that only a pickle can hold."""

    def __init__(self, sides):
        self.sides = sides


task = Task.init(project_name="examples/artifacts", task_name="every kind")

folder = Path(tempfile.mkdtemp())
(folder / "notes.txt").write_text("what was tried\n")
(folder / "data").mkdir()
for number in range(3):
    (folder / "data" / f"part-{number}.csv").write_text(f"x,y\n{number},{number**2}\n")

person = {"name": "Erik", "age": 30, "likes": ["maps", "tea"]}
table = pd.DataFrame({"city": ["Oslo", "Rome"], "people": [709_000, 2_750_000]}, index=["a", "b"])
array = np.arange(12.0).reshape(3, 4)
picture = Image.fromarray(np.full((16, 24, 3), (200, 40, 40), dtype=np.uint8))

task.upload_artifact("file", folder / "notes.txt", metadata={"source": "a walk"})
task.upload_artifact("folder", folder)
task.upload_artifact("wildcard", str(folder / "data" / "part-*.csv"))
task.upload_artifact("link", "https://example.org/data.csv")
task.upload_artifact("text", "so much for today")
task.upload_artifact("dictionary", person)
task.upload_artifact("dictionary as yaml", person, extension_name=".yaml")
task.upload_artifact("table", table)
task.upload_artifact("table as parquet", table, extension_name="parquet")
task.upload_artifact("table as feather", table.reset_index(), extension_name="feather")
task.upload_artifact("table as pickle", table, extension_name=".pickle")
task.upload_artifact("array", array)
task.upload_artifact("array as csv", array, extension_name=".csv.gz")
task.upload_artifact("picture", picture, preview="red all over")
task.upload_artifact("picture as jpeg", picture, extension_name=".jpg")
task.upload_artifact("object", Box([1, 2, 3]))

# A table that goes on changing is stored again at `flush` and at the end, whenever it did change.
progress = pd.DataFrame({"step": [0], "loss": [1.0]})
task.register_artifact("progress", progress, metadata={"followed": True})
for step in range(1, 4):
    progress.loc[step] = [step, 1.0 / (step + 1)]
    task.flush()

task.flush(wait_for_uploads=True)
print("stored", len(task.artifacts), "artifacts")
task.close()
