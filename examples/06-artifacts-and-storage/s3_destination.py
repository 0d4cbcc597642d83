"""Artifacts and models in a bucket: Amazon's, or an S3 of your own such as MinIO. Needs `pip install 'taskloom[cloud]'`.

AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... python s3_destination.py s3://bucket/prefix
AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... python s3_destination.py s3://localhost:9000/bucket/prefix
"""

import argparse
from pathlib import Path

import numpy as np

from taskloom import OutputModel, Task

parser = argparse.ArgumentParser()
parser.add_argument("destination")
parser.add_argument("--project", default="examples/buckets")
parser.add_argument("--size", type=int, default=300_000, help="numbers in the array")
arguments = parser.parse_args()

task = Task.init(project_name=arguments.project, task_name="bytes in S3", output_uri=arguments.destination)
task.upload_artifact("numbers", np.random.default_rng(0).random(arguments.size))
np.save("weights.npy", np.ones(10))
OutputModel(task=task, name="ones").update_weights("weights.npy")

# A bucket that refuses costs nothing: the bytes are then kept on the Taskloom server, and it is said once.
task.flush(wait_for_uploads=True)

again = Task.get_task(task_id=task.id)
print(again.artifacts["numbers"].url)
print(again.artifacts["numbers"].get().shape)
print(np.load(Path(again.models["output"][-1].get_local_copy())).sum())
