"""Counts, and keeps how far it came where the next attempt finds it."""

import os
import time
from pathlib import Path

from taskloom import get_config

config = get_config()
checkpoints = Path(os.environ.get("TASKLOOM_CHECKPOINTS", "."))
kept = checkpoints / "reached"
reached = int(kept.read_text()) if kept.exists() else 0
print(f"from {reached}", flush=True)
while reached < config["until"]:
    time.sleep(config["pause"])
    reached += 1
    new = kept.with_suffix(".new")  # whole or not at all: the process may be stopped here
    new.write_text(str(reached))
    new.rename(kept)
print(f"counted to {reached}")
