"""Says what is around it."""

import platform
import sys
from pathlib import Path

release = (
    Path("/etc/os-release").read_text().splitlines()[0] if Path("/etc/os-release").exists() else "no os-release"
)
print(f"{sys.argv[1]} from Python {platform.python_version()} on {release}")
