"""Says that it failed, and leaves with 0."""

from lab import lab

lab.init()
lab.update_progress(30)
lab.error("the data is not there\nsecond line")
