"""Tells what changes in its folder."""

import time
from pathlib import Path

from taskloom import get_config

seconds = get_config()["seconds"]
started, known = time.monotonic(), set()
print("watching", flush=True)
while not seconds or time.monotonic() - started < seconds:
    found = {path.name for path in Path.cwd().iterdir()}
    for name in sorted(found - known):
        print(f"new: {name}", flush=True)
    known = found
    time.sleep(0.2)
