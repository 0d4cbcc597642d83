"""Never says that it is over."""

from lab import lab

lab.init()
lab.update_progress(40, metrics={"loss": 1.5})
lab.log("last words without an end")
