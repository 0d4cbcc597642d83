"""What `taskloom run` does before it asks the server: find the task file, choose and pack files, make the draft."""
