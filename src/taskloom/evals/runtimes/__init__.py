"""Where eval tasks run."""
