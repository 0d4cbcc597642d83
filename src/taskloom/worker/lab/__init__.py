"""Scripts that use the `lab` package of Transformer Lab, unmodified: what it finds, and what it leaves, in our words."""

from taskloom.worker.lab.job import LabJob

__all__ = ["LabJob"]
