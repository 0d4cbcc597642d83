"""What the commands know of ClearML: its configuration file, and bringing its tasks over (begin at run)."""
