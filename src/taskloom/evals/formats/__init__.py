"""Neighbours: logs of Inspect and verifiers both ways, Harbor's task folders, and runs as data for trainers."""

from taskloom.evals.formats.contract import ReadLog
from taskloom.evals.formats.dataset import to_dataset, write_dataset
from taskloom.evals.formats.logs import FORMATS, read_log, write_log

__all__ = ["FORMATS", "ReadLog", "read_log", "to_dataset", "write_dataset", "write_log"]
