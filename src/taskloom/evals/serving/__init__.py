"""Serving an environment from a process of its own."""
