"""The worker: claims tasks by lease, prepares code and packages, runs a child, reports its end once."""
