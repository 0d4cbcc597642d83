"""Agents: what acts in an environment and is graded."""
