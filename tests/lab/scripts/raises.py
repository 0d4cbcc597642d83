"""Finishes well, as it thinks, and then dies."""

from lab import lab

lab.init()
lab.finish("too early")
raise SystemExit(3)
