"""Tasks: their records, states, edits, queries, and the journals that runs write into them."""
