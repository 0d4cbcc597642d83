"""Runs until it is stopped."""

import time

from lab import lab

lab.init(experiment_id="other-experiment")
lab.update_progress(20, metrics={"loss": 2.0})
with open("kept.txt", "w") as file:
    file.write("kept")
lab.save_artifact("kept.txt")
lab.log("waiting")
time.sleep(600)
