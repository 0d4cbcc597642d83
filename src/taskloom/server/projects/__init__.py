"""Projects: shelves of tasks, nested by slashes in their names."""
