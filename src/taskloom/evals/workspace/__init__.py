"""Workspaces: a folder that an agent works in, with a sandboxed shell and its files, over SSH."""

from taskloom.evals.workspace.sandbox import IsolationMissing, Mount
from taskloom.evals.workspace.served import Workspace

__all__ = ["IsolationMissing", "Mount", "Workspace"]
