"""Artifacts and models in a folder of your own, such as a mounted share, instead of on the Taskloom server.

python folder_destination.py /mnt/share/runs
"""

import argparse
import json
from pathlib import Path

from taskloom import OutputModel, Task

parser = argparse.ArgumentParser()
parser.add_argument("folder", help="where the bytes are to be kept")
arguments = parser.parse_args()

task = Task.init(project_name="examples/folders", task_name="bytes in a folder", output_uri=arguments.folder)
task.upload_artifact("settings", {"layers": 3, "width": 64})

Path("weights.json").write_text(json.dumps([0.1, 0.2, 0.3]))
model = OutputModel(task=task, name="tiny model", framework="none")
model.update_weights("weights.json", iteration=3)

task.flush(wait_for_uploads=True)
print(task.artifacts["settings"].url)
print(task.models["output"][-1].url)
print(json.loads(Path(task.models["output"][-1].get_local_copy()).read_text()))
