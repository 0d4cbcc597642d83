"""What `taskloom eval` does, a file for each thing that is done with evaluations."""
