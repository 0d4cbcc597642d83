"""What came from what: tasks, models and artifacts, walked both ways."""
