"""Queues, workers and leases: where pending tasks wait, and who may run them."""
