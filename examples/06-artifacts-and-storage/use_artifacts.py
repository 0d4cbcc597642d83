"""Using what another task stored: its objects, local copies, checksums and metadata.

python artifacts.py && python use_artifacts.py
"""

from pathlib import Path

from taskloom import Task
from taskloom.domain.errors import Forbidden

task = Task.init(project_name="examples/using artifacts", task_name="read another task's artifacts")
source = Task.get_task(project_name="examples/artifacts", task_name="every kind")

for name, artifact in source.artifacts.items():
    print(f"{name:20} {artifact.type:8} {artifact.size:>6} bytes {artifact.hash[:12]}")

print(source.artifacts["dictionary"].get()["name"])
print(source.artifacts["table as parquet"].get().loc["b", "people"])
print(source.artifacts["array"].get().sum())
print(source.artifacts["picture"].get().size)
print(sorted(path.name for path in Path(source.artifacts["folder"].get_local_copy()).rglob("*") if path.is_file()))

# A pickle runs code when it is opened, so it has to be asked for.
try:
    source.artifacts["table as pickle"].get()
except Forbidden as error:
    print("refused:", type(error).__name__)
print(len(source.artifacts["table as pickle"].get(allow_pickle=True)), "rows from a pickle")

task.upload_artifact("summary", {"read": len(source.artifacts)}, wait_on_upload=True)
print("stored with its checksum:", task.artifacts["summary"].hash[:12])
