"""`taskloom eval export, import`: jobs and rows as files of other systems. What they look like stands in `evals.formats`."""

from __future__ import annotations


def export() -> None:
    """x"""


def import_() -> None:
    """x"""
