"""Every call of the package that a training script makes."""

import os

import pandas as pd

from lab import lab

lab.init(experiment_id="my experiment")
config = lab.get_config()
print("config", sorted(config.items()))
print("secret", lab.get_secret("NOT_NAMED"), lab.experiment.id)
lab.set_config({"extra": 1})
lab.log("a line of the log")
for step in range(3):
    lab.update_progress(10 * step, metrics={"train/loss": 1.0 / (step + 1), "accuracy": step / 10}, step=step * 5)
lab.update_progress(50, metrics={"train/loss": float("nan")})
with open("hello.txt", "w") as file:
    file.write("hello artifact")
lab.save_artifact("hello.txt")
lab.save_artifact("hello.txt", name="renamed.txt")
os.makedirs("a_dir")
with open("a_dir/w.bin", "wb") as file:
    file.write(b"12345")
lab.save_artifact("a_dir")
lab.save_checkpoint("a_dir", name="checkpoint-3")
lab.save_model("a_dir", name="toy", architecture="Tiny")
lab.save_dataset(pd.DataFrame({"a": [1, 2]}), "ds1")
frame = pd.DataFrame({"input": ["q"], "output": ["a"], "expected_output": ["a"], "score": [1.0]})
lab.save_artifact(frame, name="ev", type="evals")
print("checkpoint", lab.get_checkpoint_to_resume())
print("paths", len(lab.get_artifact_paths()), len(lab.get_checkpoint_paths()))
lab.set_job_data_field("mine", {"x": 1})
lab.finish("all done", score={"accuracy": 0.78, "note": "text", "eval/loss": 0.5})
