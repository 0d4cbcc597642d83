"""The control channel between a run and a served environment."""
