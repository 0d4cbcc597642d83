"""ClearML's API and file server, spoken for unmodified clients: begin reading at door and call."""
