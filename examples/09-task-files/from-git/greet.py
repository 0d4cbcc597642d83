"""Greets. The worker's first lines on the console say from which commit."""

import sys

print(f"{sys.argv[1]} from a repository")
